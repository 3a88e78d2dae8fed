"""Types that several rooms share, and what a network must know of its pictures."""

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
