"""Is the transformer well? Five numbers a theta, and the rule that calls a run collapsed."""

import math

import torch

from . import warp

THROWN_OUTSIDE = 0.9  # a grid with more than this share of its points outside the image is thrown
THROWN_CONTRAST = 0.05  # and so is one whose picture keeps less than this share of the image's variance
TIMES_CHANCE = 2  # top-1 of a collapsed run is below this many times chance
# Chosen on 16 pilot runs of 8 epochs: the 12 that were off the image in epoch 4 were so in epoch 8, so the last epoch decides.
# It speaks of that epoch alone: of chapter 03's 16 lost runs two had been off the image before, and had returned.


def describe(theta, x, x_warped):
    """Describe where theta (B, 2, 3) looks: a dict of tensors (B,).

    x (B, C, H, W) is the image and x_warped (B, C, h, w) what the transformer made of it, both with values in [0, 1].
    det: |det A|, the window's area, 1 for the whole image. shift: distance of the window's centre from the image's,
    in half images. outside: share of the grid outside the image. contrast: variance of x_warped / variance of x.
    distance: Frobenius norm of theta - identity.
    """
    still = warp.identity(1, theta.device, theta.dtype)
    return {
        "det": warp.determinant(theta).abs(),
        "shift": theta[:, :, 2].norm(dim=1),
        "outside": warp.outside(theta, x_warped.shape[-2:]),
        "contrast": x_warped.flatten(1).var(dim=1) / x.flatten(1).var(dim=1).clamp(min=1e-12),
        "distance": (theta - still).flatten(1).norm(dim=1),
    }


def is_thrown(outside, contrast=1.0):
    """Whether the grid is off the image, by the mean share outside and the mean contrast of `describe`."""
    return not (outside <= THROWN_OUTSIDE and contrast >= THROWN_CONTRAST)  # so written, nan counts as thrown


def thrown(history):
    """For every epoch of a Run's history: was the grid off the image? Empty for a net without looks."""
    outside = history.get("outside", [])
    contrast = history.get("contrast", [1.0] * len(outside))
    return [None in pair or is_thrown(*pair) for pair in zip(outside, contrast)]  # in a record, null stands for nan


def streak(history):
    """How many epochs up to the last one, without a gap, the grid has been off the image."""
    flags = thrown(history)
    return next((i for i, flag in enumerate(reversed(flags)) if not flag), len(flags))


def collapse_epoch(history, classes=10):
    """The epoch in which a run collapsed, None if it did not.

    Collapsed: in its last epoch the grid is off the image and the accuracy below twice chance. The epoch is the first of
    those up to the last, without a gap, in which the grid was off.
    """
    lost = streak(history)
    scores = history.get("val_top1") or history.get("test_top1")  # a replica has no validation part
    if not lost or not scores or scores[-1] >= TIMES_CHANCE / classes:
        return None
    return history["epoch"][-lost]


@torch.no_grad()
def check(localize, x, padding="zeros", background=0.0):
    """Check a network of your own: print what its windows do, and what is wrong; returns the means as a dict.

    localize: a function from images x (B, C, H, W), values in [0, 1], to theta (B, 2, 3). padding and background are
    what its sampler uses. The rules are those of this module, so an untrained network is well.
    """
    theta = localize(x)
    usable = theta if torch.isfinite(theta).all() else warp.identity(len(x), x.device, x.dtype)
    x_warped = warp.warp(x, usable, padding=padding, background=background)
    numbers = {name: values.mean().item() for name, values in describe(theta, x, x_warped).items()}
    for name, meaning in {
        "det": "window area, 1 = whole image", "shift": "window off centre, half images",
        "outside": "share of the grid outside", "contrast": "variance kept", "distance": "from identity",
    }.items():  # fmt: skip
        print(f"{name:<9}{numbers[name]:7.2f}  {meaning}")
    if is_thrown(numbers["outside"], numbers["contrast"]) or not math.isfinite(numbers["distance"]):
        verdict = "thrown. Most of the grid is off the image; theta gets little or no gradient. Go back to weights from before."
    elif numbers["det"] > 1.2:
        verdict = "zoomed out. The window is larger than the image; follow it, and lower the localization learning rate."
    elif numbers["det"] < 0.05:
        verdict = "shrunk. The window is nearly a point."
    else:
        verdict = "well. The window is on the image."
    print("verdict:", verdict)
    return numbers
