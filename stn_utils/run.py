"""Run: what came out of an Experiment. Saved whole or not at all, loaded without running code."""

import contextlib
import io
import os
import platform
import subprocess
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import data, diagnose
from .data import Split
from .experiment import Experiment
from .families import FAMILIES
from .models import Net, build
from .spec import Device, Folder, ImageSpec


@dataclass
class Run:
    """What came out.

    history: lists with one entry per finished epoch. probe: a few images (P, C, H, W) uint8 with
    labels and true poses, the parameters (epochs + 1, P, n) of their looks and the warped pictures
    (epochs + 1, P, C, h, w) uint8, entry 0 before training; parameters are None for a net without
    looks. best: epoch and weights of the best epoch by validation, None for a replica, which has no
    validation part. test: what `evaluate` found, None until then.
    """

    experiment: Experiment
    title: str
    spec: ImageSpec
    provenance: dict[str, Any]
    history: diagnose.History = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    test: dict[str, Any] | None = None

    @property
    def epochs(self) -> int:
        """Number of finished epochs."""
        return len(self.history.get("epoch", []))

    @property
    def collapse_epoch(self) -> int | None:
        """The epoch in which the transformer was thrown off the image for good, or None."""
        return diagnose.collapse_epoch(self.history, self.spec.classes)

    @property
    def finished(self) -> bool:
        """Whether no epoch is left, or the Experiment's patience with a grid off the image."""
        limit = self.experiment.patience
        given_up = limit is not None and diagnose.epochs_off_image(self.history) >= limit
        return self.epochs >= self.experiment.epochs or given_up

    @property
    def looks(self) -> Tensor | None:
        """Where the probe images were read, an entry an epoch; None for a net without looks.

        Theta (epochs + 1, P, 2, 3), or grids (epochs + 1, P, h, w, 2) for families that no matrix
        describes. Convention: see `warp`.
        """
        if self.probe["parameters"] is None:
            return None
        family, (height, width) = FAMILIES[self.experiment.family], self.probe["warped"].shape[-2:]
        looks = [family.look(epoch, (height, width)) for epoch in self.probe["parameters"]]
        return torch.stack(looks)

    def model(self) -> Net:
        """The network as trained, on the CPU, in evaluation mode."""
        model = build(self.experiment, self.spec)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError:
            why = "its weights are of another version of the course; train it again"
            raise RuntimeError(f"{self.title}: {why}.") from None
        return model.eval()

    def test_split(self, device: Device = "cpu") -> Split:
        """The test images it is measured on; a ValueError if other data is here than it had."""
        one = self.experiment
        world = data.load(one.dataset, one.world, one.replica, device)
        if world.title != self.title:
            here = f"here are those of {world.title}"
            raise ValueError(f"its test images were those of {self.title}; {here}.")
        return world.test

    def tested(self) -> dict[str, Any]:
        """What it came to on the test images. Raises ValueError if it is not finished."""
        if self.test is None:
            raise ValueError(f"{self.title}: this Run is not finished, it has no test result.")
        return self.test

    def right(self) -> Tensor:
        """Which test images it got right (N,); raises what `tested` and `test_split` raise."""
        return self.tested()["predictions"] == self.test_split().labels

    def save(self, folder: Folder) -> None:
        """Write the Run into `folder`; a kill at any moment leaves a whole one, old or new."""
        last, previous = self.files(folder)
        content = io.BytesIO()  # torch.save says of a full disk only that a position was unexpected
        plain = {"experiment": self.experiment.model_dump(), "spec": self.spec._asdict()}
        torch.save({**vars(self), **plain}, content)
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
            raise OSError(
                f"{folder}: the Run could not be saved: {error.strerror or error}."
            ) from error
        finally:
            with contextlib.suppress(OSError):
                part.unlink()

    @classmethod
    def lies_in(cls, folder: Folder) -> bool:
        """Whether a Run was saved in the folder, whole or damaged."""
        return any(path.exists() for path in cls.files(folder))

    @staticmethod
    def files(folder: Folder) -> tuple[Path, Path]:
        """Where a Run lies in a folder: the last one saved, and the one before it."""
        return Path(folder) / "run.pt", Path(folder) / "previous.pt"

    @classmethod
    def load(cls, folder: Folder) -> "Run":
        """Read the Run in `folder`; if its file is damaged, the one before it, with a warning.

        Raises FileNotFoundError if there is no Run, RuntimeError if no file of it can be read.
        """
        reasons = []
        for path in cls.files(folder):
            if not path.exists():
                continue
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
                parts = {
                    "experiment": Experiment(**content["experiment"]),
                    "spec": ImageSpec(**content["spec"]),
                }
                run = cls(**{**content, **parts})
            except (
                Exception
            ) as error:  # a damaged file can fail in the zip, the pickle, or the fields
                reasons.append(f"{path} is damaged ({type(error).__name__}: {str(error)[:80]})")
                continue
            if reasons:
                warnings.warn(
                    f"{reasons[0]}; the Run before it, {run.epochs} epochs long, is used.",
                    stacklevel=2,
                )
            return run
        if reasons:
            raise RuntimeError("; ".join(reasons) + ": no Run can be read here.")
        raise FileNotFoundError(f"no Run in {folder}: expected run.pt there.")


def provenance(device: torch.device, data: str) -> dict[str, Any]:
    """Where a result came from: versions, machine, commit, and the data, which the caller names."""

    def git(*arguments):
        here = str(Path(__file__).parents[1])
        command = ["git", "--no-optional-locks", "-C", here, *arguments]
        try:
            return subprocess.check_output(
                command, stderr=subprocess.DEVNULL, text=True, timeout=10
            ).strip()
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
