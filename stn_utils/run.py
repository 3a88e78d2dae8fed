"""Run: what came out of an Experiment. Saved whole or not at all, loaded without running any code."""

import contextlib
import io
import os
import platform
import subprocess
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import data, diagnose
from .experiment import Experiment
from .models import build


@dataclass
class Run:
    """What came out.

    history: lists with one entry per finished epoch. probe: a few images (P, C, H, W) uint8 with labels and
    true poses, their thetas (epochs + 1, P, 2, 3) and warped pictures (epochs + 1, P, C, view, view) uint8, entry
    0 before training; thetas are None for a net without looks. best: epoch and weights of the best epoch by validation,
    None for a replica, which has no validation part. test: what `evaluate` found, None until then.
    """

    experiment: Experiment
    title: str
    spec: dict
    provenance: dict
    history: dict = field(default_factory=dict)
    probe: dict = field(default_factory=dict)
    weights: dict = field(default_factory=dict)
    optimizer: dict = field(default_factory=dict)
    best: dict | None = None
    test: dict | None = None

    @property
    def epochs(self):
        """Number of finished epochs."""
        return len(self.history.get("epoch", []))

    @property
    def collapse_epoch(self):
        """The epoch in which the transformer was thrown off the image for good; None if it was not."""
        return diagnose.collapse_epoch(self.history, self.spec["classes"])

    @property
    def finished(self):
        """Whether no epoch is left, or the grid has been off the image for as long as the Experiment bears it."""
        limit = self.experiment.give_up
        return self.epochs >= self.experiment.epochs or bool(limit) and diagnose.streak(self.history) >= limit

    def model(self):
        """The network as trained, on the CPU, in evaluation mode."""
        model = build(self.experiment, self.spec)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError:
            raise RuntimeError(f"{self.title}: its weights are of another version of the course; train it again.") from None
        return model.eval()

    def test_part(self, device="cpu"):
        """The test images that it is measured on. Raises ValueError if other data is here than the Run had."""
        world = data.load(self.experiment.dataset, self.experiment.world, self.experiment.replica, device)
        if world.title != self.title:
            raise ValueError(f"its test images were those of {self.title}; here are those of {world.title}.")
        return world.test

    def tested(self):
        """What it came to on the test images. Raises ValueError if it is not finished."""
        if self.test is None:
            raise ValueError(f"{self.title}: this Run is not finished, it has no test result.")
        return self.test

    def right(self):
        """Which test images it got right (N,); raises what `tested` and `test_part` raise."""
        return self.tested()["predictions"] == self.test_part().labels

    def save(self, folder):
        """Write the Run into `folder`; a kill at any moment leaves a whole Run there, this one or the last."""
        last, previous = self.files(folder)
        content = io.BytesIO()  # torch.save says of a full disk only that a position was unexpected
        torch.save({**vars(self), "experiment": self.experiment.model_dump()}, content)
        part = last.with_name(f"{last.name}.{os.getpid()}.part")
        try:
            last.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                file.write(content.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            if last.exists():
                os.replace(last, previous)  # until the next line, the Run is the one before
            os.replace(part, last)
        except OSError as error:
            raise OSError(f"{folder}: the Run could not be saved: {error.strerror or error}.") from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    @classmethod
    def lies_in(cls, folder):
        """Whether a Run was saved in the folder, whole or damaged."""
        return any(path.exists() for path in cls.files(folder))

    @staticmethod
    def files(folder):
        """Where a Run lies in a folder: the last one saved, and the one before it."""
        return Path(folder) / "run.pt", Path(folder) / "previous.pt"

    @classmethod
    def load(cls, folder):
        """Read the Run in `folder`; if its file is damaged, the one before it, with a warning.

        Raises FileNotFoundError if there is no Run, RuntimeError if no file of it can be read.
        """
        reasons = []
        for path in cls.files(folder):
            if not path.exists():
                continue
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
                run = cls(**{**content, "experiment": Experiment(**content["experiment"])})
            except Exception as error:  # a damaged file can fail in the zip, the pickle, or the fields
                reasons.append(f"{path} is damaged ({type(error).__name__}: {str(error)[:80]})")
                continue
            if reasons:
                warnings.warn(f"{reasons[0]}; the Run before it, {run.epochs} epochs long, is used.", stacklevel=2)
            return run
        if reasons:
            raise RuntimeError("; ".join(reasons) + ": no Run can be read here.")
        raise FileNotFoundError(f"no Run in {folder}: expected run.pt there.")


def provenance(device, data):
    """Where a result came from: versions, machine, commit, and the data, which the caller names."""

    def git(*arguments):
        command = ["git", "--no-optional-locks", "-C", Path(__file__).parents[1], *arguments]
        try:
            return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True, timeout=10).strip()
        except (OSError, subprocess.SubprocessError):  # no git, or no checkout
            return None

    return {
        "torch": str(torch.__version__),  # a TorchVersion would not load with weights_only
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "commit": git("rev-parse", "--short", "HEAD"),
        "changed": bool(git("status", "--porcelain", "--", "stn_utils")),
        "data": data,
    }
