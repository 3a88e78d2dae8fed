"""Types that several rooms share, what a network must know of its pictures, files written whole."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

import torch

Size = tuple[int, int]  # height and width, in pixels
Device = str | torch.device | None  # None: the fastest that is present
Folder = str | Path


class ImageSpec(NamedTuple):
    """The shape of the pictures, and their statistics.

    background, mean and std have a number a channel, in [0, 1].

    size: (h, w) of a picture. output_size: (h, w) of what the classifier sees.
    """

    channels: int
    size: Size
    output_size: Size
    classes: int
    background: list[float]
    mean: list[float]
    std: list[float]


def pick_device(name: Device = None) -> torch.device:
    """The named device, else the fastest present. Raises ValueError if the named one is absent."""
    mps = torch.backends.mps.is_available()
    mps = mps and torch.__version__ >= "2.13"  # before, the sampler had no gradient there
    here = ["cuda"] * torch.cuda.is_available() + ["mps"] * mps + ["cpu"]
    with contextlib.suppress(RuntimeError, AssertionError):
        device = torch.empty(0, device=name or here[0]).device  # "cuda" and "cuda:0" are one
        if device.type in here:
            return device
    raise ValueError(f"device {name!r} is not on this machine. Here: {', '.join(here)}.")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; a kill at any moment leaves a whole one, the old or the new."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
