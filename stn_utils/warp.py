"""Geometry: parameters -> matrix -> grid -> sample.

One convention everywhere. `theta` (B, 2, 3) maps OUTPUT coordinates to INPUT coordinates: it says where to
look, not where to move. Coordinates are (x, y), x to the right, y down, normalized so that [-1, 1] spans
the image from outer edge to outer edge (pixel-area convention, torch's align_corners=False).
No function here takes align_corners.
"""

import math
from collections import namedtuple

import torch
import torch.nn.functional as F

from .experiment import choices, one_of

PADDINGS = choices("padding")


def identity(batch=1, device=None, dtype=None):
    """Return theta (batch, 2, 3) that looks at the whole image as it is."""
    return torch.eye(2, 3, device=device, dtype=dtype).repeat(batch, 1, 1)


def affine(angle=0.0, scale=1.0, shift_x=0.0, shift_y=0.0, shear=0.0):
    """Build theta (B, 2, 3) from five readable numbers, each a float or a tensor (B,).

    The sampling window is sheared by x += shear * y, scaled, turned by `angle` DEGREES clockwise on the
    screen, then moved by (shift_x, shift_y), half image widths and heights. What the window shows turns
    the other way: a window turned clockwise shows the picture turned counter-clockwise. scale < 1 zooms in.
    On images that are not square a turn also bends: x and y are each in units of their own side.
    """
    numbers = (angle, scale, shift_x, shift_y, shear)
    like = next((n for n in numbers if torch.is_tensor(n) and n.is_floating_point()), torch.zeros(1))
    angle, scale, shift_x, shift_y, shear = torch.broadcast_tensors(
        *(n.to(like).reshape(-1) if torch.is_tensor(n) else like.new_full((1,), n) for n in numbers)
    )
    cos, sin = torch.cos(angle * math.pi / 180), torch.sin(angle * math.pi / 180)
    top = torch.stack([scale * cos, scale * (shear * cos - sin), shift_x], dim=1)
    bottom = torch.stack([scale * sin, scale * (shear * sin + cos), shift_y], dim=1)
    return torch.stack([top, bottom], dim=1)


# A family of warps: the parameters that mean identity, and the function from parameters (B, n) to theta.
Family = namedtuple("Family", ["identity", "to_theta"])
FAMILIES = {
    "affine": Family((1.0, 0, 0, 0, 1, 0), lambda p: p.view(-1, 2, 3)),
    "rotation": Family((0.0,), lambda p: affine(angle=p[:, 0] * 180 / math.pi)),
    "shift-scale": Family((1.0, 0, 0), lambda p: affine(scale=p[:, 0], shift_x=p[:, 1], shift_y=p[:, 2])),
}


def make_grid(theta, size):
    """Turn theta (B, 2, 3) into the grid (B, H, W, 2) of input coordinates (x, y), one per output pixel.

    size: (H, W) of the output. Source: Jaderberg et al. 2015, section 3.2.
    """
    return F.affine_grid(theta, [theta.shape[0], 1, *size], align_corners=False)


def sample(x, grid, padding="zeros", background=0.0):
    """Read x (B, C, H, W) at grid (B, h, w, 2), bilinearly; returns (B, C, h, w).

    padding says what lies outside the image: `zeros`, the nearest `border` pixel, its `reflection`, or the
    value `background` (a float, or a tensor (C, 1, 1)). Source: Jaderberg et al. 2015, section 3.3.
    """
    if padding != "background":
        return F.grid_sample(x, grid, mode="bilinear", padding_mode=padding, align_corners=False)
    return F.grid_sample(x - background, grid, mode="bilinear", padding_mode="zeros", align_corners=False) + background


def warp(x, theta, size=None, padding="zeros", background=0.0):
    """Look at x (B, C, H, W) through theta (B, 2, 3); returns (B, C, h, w), with (h, w) = size or (H, W).

    A single theta (1, 2, 3) serves the whole batch. Convention and padding as in this module's `sample`.
    Raises ValueError for wrong shapes, non-finite theta, mixed devices or types, unknown padding.
    """
    one_of("padding", padding, PADDINGS)
    if x.ndim != 4:
        raise ValueError(f"x: expected images (B, C, H, W), got shape {tuple(x.shape)}.")
    if not x.is_floating_point():
        raise ValueError(f"x: expected a floating type, got {x.dtype}. Divide uint8 images by 255 first.")
    if theta.shape[-2:] != (2, 3) or theta.ndim != 3 or len(theta) not in (1, len(x)):
        raise ValueError(f"theta: expected shape ({len(x)}, 2, 3) or (1, 2, 3), got {tuple(theta.shape)}.")
    if theta.device != x.device or theta.dtype != x.dtype:
        raise ValueError(f"theta is {theta.dtype} on {theta.device}, x is {x.dtype} on {x.device}: bring them together.")
    if not torch.isfinite(theta).all():
        raise ValueError("theta: holds nan or inf; the localization net has diverged, or the input held them already.")
    grid = make_grid(theta.expand(len(x), 2, 3), size or x.shape[-2:])
    return sample(x, grid, padding, background)


def _square(theta):
    """(B, 2, 3) -> (B, 3, 3), with the row 0 0 1 below."""
    row = torch.eye(3, dtype=theta.dtype, device=theta.device)[2:].expand(len(theta), 1, 3)
    return torch.cat([theta, row], dim=1)


def compose(first, then):
    """Return the theta of looking through `first`, then at that result through `then`; all (B, 2, 3).

    warp(warp(x, first), then) and warp(x, compose(first, then)) agree but for blur and cut-off borders.
    """
    return first @ _square(then)


def invert(theta):
    """Return theta (B, 2, 3) that undoes `theta`. Raises RuntimeError if the determinant is zero."""
    return torch.linalg.inv(_square(theta))[:, :2]


def determinant(theta):
    """Return det A (B,), A the left 2x2 of theta: the window's area, 1 for the whole image, below 1 zooms in."""
    return theta[:, 0, 0] * theta[:, 1, 1] - theta[:, 0, 1] * theta[:, 1, 0]


def outside(theta, size=(28, 28)):
    """Return the share (B,) of the sampling grid, taken at `size`, that lies outside the image; nan is outside."""
    return 1 - (make_grid(theta, size).abs() <= 1).all(dim=-1).float().mean(dim=(1, 2))


def corners(theta):
    """Return the window's corners (B, 4, 2) in normalized input coordinates, clockwise from the top left."""
    square = theta.new_tensor([[-1, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]])
    return square @ theta.transpose(1, 2)
