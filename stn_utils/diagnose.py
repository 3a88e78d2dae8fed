"""Is the transformer well? Five numbers a look, and the rule that calls a run collapsed."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import warp

OFF_IMAGE_OUTSIDE = 0.9  # a grid with more than this share of its points outside is off the image
OFF_IMAGE_CONTRAST = 0.05  # and so is one whose picture keeps less than this share of the variance
BLANK = 1e-4  # variance of a picture without anything on it; a digit's is some 0.1
TIMES_CHANCE = 2  # top-1 of a collapsed run is below this many times chance
# Chosen on 16 pilot runs of 8 epochs: the 12 that were off the image in epoch 4 were so in epoch 8,
# so the last epoch decides. It speaks of that epoch alone: of 16 lost runs of the study `optimizer`
# two had been off the image before, and had returned.

History = dict[str, list[Any]]  # a list a name, an entry an epoch


def describe(look: Tensor, x: Tensor, x_warped: Tensor) -> dict[str, Tensor]:
    """Describe where a look, theta (B, 2, 3) or a grid (B, h, w, 2), reads: a dict of tensors (B,).

    Of several windows, side by side, it is what their numbers come to on average.

    x (B, C, H, W) is the image and x_warped (B, C, h, w) what the transformer made of it, both in
    [0, 1]. det: the window's area, 1 for the whole image; for theta |det A|. shift: distance of the
    window's centre from the image's, in half images. outside: share of the grid outside the image.
    contrast: variance of x_warped / variance of x, both over pixels and averaged over channels.
    distance: Frobenius norm of theta - identity; of a grid, how far its points lie from the
    untouched ones, root mean square.
    """
    windows = warp.windows_of(look)
    if len(windows) > 1:
        views = x_warped.chunk(len(windows), dim=3)
        each = [describe(window, x, view) for window, view in zip(windows, views)]
        return {name: torch.stack([one[name] for one in each]).mean(dim=0) for name in each[0]}
    size = x_warped.shape[2], x_warped.shape[3]
    whole = warp.identity(1, look.device, look.dtype)
    moved = look - (whole if look.ndim == 3 else warp.make_grid(whole, size))
    points = 1 if look.ndim == 3 else math.prod(size)
    return {
        "det": warp.area(look),
        "shift": warp.centre(look).norm(dim=1),
        "outside": warp.outside(look, size),
        "contrast": _variance(x_warped) / _variance(x).clamp(min=BLANK),
        "distance": moved.flatten(1).norm(dim=1) / math.sqrt(points),
    }


def _variance(x):
    """Over pixels, averaged over channels: a flat colour has none, whatever the colour."""
    return x.flatten(2).var(dim=2).mean(dim=1)


def is_off_image(outside: float, contrast: float = 1.0) -> bool:
    """Whether the grid is off the image, by the means of `describe`'s outside and contrast."""
    on_it = outside <= OFF_IMAGE_OUTSIDE and contrast >= OFF_IMAGE_CONTRAST
    return not on_it  # so written, nan counts as off


def off_image(history: History) -> list[bool]:
    """For every epoch of a history: was the grid off the image? Empty for a net without looks."""
    outside = history.get("outside", [])
    contrast = history.get("contrast", [1.0] * len(outside))
    pairs = zip(outside, contrast)  # in a record, null stands for nan
    return [None in pair or is_off_image(*pair) for pair in pairs]


def epochs_off_image(history: History) -> int:
    """How many epochs up to the last one, without a gap, the grid has been off the image."""
    flags = off_image(history)
    return next((i for i, flag in enumerate(reversed(flags)) if not flag), len(flags))


def collapse_epoch(history: History, classes: int) -> int | None:
    """The epoch in which a run collapsed, None if it did not.

    Collapsed: in its last epoch the grid is off the image and the accuracy below twice chance. The
    epoch is the first of those up to the last, without a gap, in which the grid was off.
    """
    lost = epochs_off_image(history)
    scores = history.get("val_top1") or history.get("test_top1")  # a replica has no validation part
    if not lost or not scores or scores[-1] >= TIMES_CHANCE / classes:
        return None
    return history["epoch"][-lost]


MEANINGS = {
    "det": "window area, 1 = whole image",
    "shift": "window off centre, half images",
    "outside": "share of the grid outside",
    "contrast": "variance kept",
    "distance": "from identity",
}


@torch.no_grad()
def check(
    localize: Callable[[Tensor], Tensor],
    x: Tensor,
    padding: str = "zeros",
    background: float | Tensor = 0.0,
) -> dict[str, float]:
    """Check a network of your own: print what its windows do, and what is wrong.

    Returns the means of `describe`.

    localize: a function from images x (B, C, H, W), values in [0, 1], to a look: theta (B, 2, 3),
    or a grid (B, h, w, 2). padding and background are what its sampler uses. The rules are those of
    this module, so an untrained network is well. Convention: a look maps output to input
    coordinates, pixel-area.
    """
    warp.expect_images(x)
    if x.min() < -0.01 or x.max() > 1.01:
        span = f"{x.min():.3g} to {x.max():.3g}"
        raise ValueError(f"x: expected values from 0 to 1, got {span}.")
    look = localize(x)
    grid = warp.make_grid(look.nan_to_num(), (x.shape[2], x.shape[3])) if look.ndim == 3 else look
    x_warped = warp.sample(x, grid.nan_to_num(), padding, background)
    numbers = {name: values.mean().item() for name, values in describe(look, x, x_warped).items()}
    for name, meaning in MEANINGS.items():
        print(f"{name:<9}{numbers[name]:7.2f}  {meaning}")
    print("verdict:", _verdict(numbers))
    return numbers


def _verdict(numbers):
    if not math.isfinite(numbers["distance"]):
        return "nan: it has diverged. Go back to weights from before, and to a lower rate."
    if is_off_image(numbers["outside"], numbers["contrast"]):
        return (
            "thrown. Most of the grid is off the image; theta gets little or no gradient. "
            "Go back to weights from before."
        )
    if numbers["det"] > 1.2:
        return (
            "zoomed out. The window is larger than the image; "
            "follow it, and lower the learning rate, or clip the gradients."
        )
    if numbers["det"] < 0.05:
        return "shrunk. The window is nearly a point."
    return "well. The window is on the image."
