"""Run: what came out of an Experiment. Saved whole or not at all, loaded without running code."""

import io
import platform
import subprocess
import warnings
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ConfigDict, TypeAdapter
from torch import Tensor

from . import data, diagnose
from .data import OWN, Split
from .experiment import Experiment, explain
from .families import FAMILIES
from .models import Net, build
from .spec import Device, Folder, ImageSpec, write_whole

TESTED = {"top1", "loss", "predictions", "labels", "confusion"}  # what every test result has


@dataclass
class Run:
    """What came out.

    history: lists with one entry per finished epoch. probe: a few images (P, C, H, W) uint8 with
    labels, the parameters (epochs + 1, P, n) of their looks and the warped pictures (epochs + 1, P,
    C, h, w) uint8, entry 0 before training; parameters are None for a net without looks. best:
    epoch and weights of the best epoch by validation, None for a replica, which has no validation
    part. test: what `evaluate` found, None until then. names: of the classes.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)

    experiment: Experiment
    title: str
    spec: ImageSpec
    provenance: dict[str, Any]
    history: dict[str, list[int | float]] = field(default_factory=dict)
    probe: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    names: list[str] = field(default_factory=list)

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
        describes; of K windows (epochs + 1, P, K, ...). Convention: see `warp`.
        """
        if self.probe["parameters"] is None:
            return None
        family, (height, width) = FAMILIES[self.experiment.family], self.probe["warped"].shape[-2:]
        sizes = self.spec.size, (height, width // self.experiment.windows)
        looks = [family.look(epoch, *sizes) for epoch in self.probe["parameters"]]
        return torch.stack(looks)

    def model(self) -> Net:
        """The network as trained, on the CPU, in evaluation mode."""
        model = build(self.experiment, self.spec)
        try:
            model.load_state_dict(self.weights)
        except RuntimeError:
            why = "its weights are of another version of the course; train it again"
            raise RuntimeError(f"{self.title}: {why}.") from None
        if not all(values.isfinite().all() for values in self.weights.values()):
            lost = f"{self.title}: its weights hold nan or infinity, it has diverged"
            warnings.warn(f"{lost}.", stacklevel=2)
        return model.eval()

    def test_split(self, device: Device = "cpu") -> Split:
        """The test images it is measured on; a ValueError if other data is here than it had."""
        one = self.experiment
        if one.world == OWN:
            raise ValueError(f"{self.title}: its pictures are your own; give them: world=….")
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
        """Which test images it got right (N,); raises what `tested` raises."""
        return self.tested()["predictions"] == self.tested()["labels"]

    def save(self, folder: Folder) -> None:
        """Write the Run into `folder`; a kill at any moment leaves a whole one, old or new."""
        content = io.BytesIO()  # torch.save says of a full disk only that a position was unexpected
        plain = {"experiment": self.experiment.model_dump(), "spec": self.spec._asdict()}
        torch.save({**vars(self), **plain}, content)
        try:
            write_whole(self.file(folder), content.getvalue())
        except OSError as error:
            why = error.strerror or error
            raise OSError(f"{folder}: the Run could not be saved: {why}.") from error

    @staticmethod
    def file(folder: Folder) -> Path:
        """Where a Run lies in a folder, if one was saved there."""
        return Path(folder) / "run.pt"

    @classmethod
    def load(cls, folder: Folder) -> "Run":
        """Read the Run in `folder`.

        Raises FileNotFoundError if there is no Run, RuntimeError if its file is damaged.
        """
        path = cls.file(folder)
        if not path.exists():
            raise FileNotFoundError(f"no Run in {folder}: expected run.pt there.")
        try:
            return cls._read(path)
        except Exception as error:  # it can fail in the zip, the pickle, or the fields
            why = f"{type(error).__name__}: {explain(error)[:160]}"
            raise RuntimeError(f"{path} is damaged ({why}): no Run can be read here.") from None

    @classmethod
    def _read(cls, path):
        """The Run in a file; raises, of whatever kind, what is wrong with it."""
        with zipfile.ZipFile(path) as archive:
            if flipped := archive.testzip():
                raise ValueError(f"{flipped} has a wrong checksum")
        content = torch.load(path, map_location="cpu", weights_only=True)
        run = _RUN.validate_python(content)
        if run.test is not None and not TESTED <= run.test.keys():
            raise ValueError(f"test: expected {', '.join(sorted(TESTED))}, got {[*run.test]}")
        counts = {len(values) for values in run.history.values()} | {run.epochs}
        images, warped = run.probe["images"], run.probe["warped"]
        shapes = images.shape[1:], warped.shape[:2], run.probe["labels"].shape
        wanted = (run.spec.channels, *run.spec.size), (run.epochs + 1, len(images)), (len(images),)
        if len(counts) > 1 or shapes != wanted or len(run.names) != run.spec.classes:
            raise ValueError("history, probe, names and spec do not belong together")
        return run


_RUN = TypeAdapter(Run)


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
