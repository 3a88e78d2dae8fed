"""Families of warps: what the numbers of a localization net mean."""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .spec import Size
from .warp import affine, identity, no_autocast, on_shape, pixel_centres
from .warp import corners as window_corners

NEAR = 1e-3  # to the horizon: nothing beyond is read
BEYOND = 9.0  # a place that lies outside every image


class Family(NamedTuple):
    """Turns parameters (B, n) into places: where the window reads the image.

    identity: the parameters that change nothing. points: parameters (B, n) and places (P, 2) of the
    output, as (x, y) -> the places of the input (B, P, 2) that are read there. to_theta: parameters
    -> theta (B, 2, 3); None for warps that no matrix can describe. turns: whether these speak of a
    square image, so that `on_shape` has to make them fit others. Convention: normalized
    coordinates, pixel-area.
    """

    identity: tuple[float, ...]
    points: Callable[[Tensor, Tensor], Tensor]
    to_theta: Callable[[Tensor], Tensor] | None = None
    turns: bool = False

    def look(self, parameters: Tensor, size_in: Size, size: Size) -> Tensor:
        """The look of parameters (B, n): theta (B, 2, 3) if they make one, else (B, h, w, 2).

        Of (B, K, n) it is that of K windows, side by side. size_in: (H, W) of the images that are
        read. size: (h, w) of what a window makes of them. Raises ValueError for another n than the
        family's.
        """
        if parameters.ndim == 3:
            each = [self.look(one, size_in, size) for one in parameters.unbind(1)]
            return torch.stack(each, dim=1)
        if parameters.shape[1:] != (len(self.identity),):
            wants = f"expected {len(self.identity)} numbers an image"
            raise ValueError(f"localization: {wants}, got shape {tuple(parameters.shape)}.")
        if self.to_theta:
            theta = self.to_theta(parameters)
            return on_shape(theta, size_in) if self.turns else theta
        return self.points(parameters, pixel_centres(size, parameters)).unflatten(1, size)


def _of_theta(identity, to_theta, turns=False):
    def points(parameters, places):
        theta = to_theta(parameters)
        return places @ theta[:, :, :2].mT + theta[:, None, :, 2]

    return Family(identity, points, to_theta, turns)


def _similarity(p):
    """(B, 4): scale times cosine and sine of the angle, then the shift."""
    a, b, x, y = p.T
    return torch.stack([a, -b, x, b, a, y], dim=1).view(-1, 2, 3)


def is_convex(corners: Tensor) -> Tensor:
    """Whether corners (B, 4, 2), clockwise from the top left, make a convex shape (B,)."""
    side = corners.roll(-1, dims=1) - corners
    x, y = side.unbind(dim=2)
    x_next, y_next = x.roll(-1, 1), y.roll(-1, 1)
    return (x * y_next > y * x_next).all(dim=1)


def homography(corners: Tensor) -> Tensor:
    """The projective parameters (B, 8) whose window has these corners (B, 4, 2).

    Clockwise from the top left, as `warp.corners` gives them. Raises ValueError where they make no
    convex shape: a horizon would pass through the window. Source: Heckbert 1989, section 2.2.3.
    """
    if not is_convex(corners).all():
        wrong = (~is_convex(corners)).nonzero()[0].item()
        why = "no convex shape, clockwise from the top left: a horizon would pass through it"
        raise ValueError(f"corners: those of window {wrong} make {why}.")
    square = window_corners(identity(len(corners)).to(corners))
    line = F.pad(square, (0, 1), value=1.0)
    x, y, none = corners[..., :1], corners[..., 1:], torch.zeros_like(line)
    across = torch.cat([line, none, -x * square], dim=2)
    down = torch.cat([none, line, -y * square], dim=2)
    system, answers = torch.cat([across, down], dim=1), torch.cat([x, y], dim=1)
    return torch.linalg.solve(system, answers)[..., 0]


def _square(parameters):
    """Projective parameters (B, 8) as matrices (B, 3, 3)."""
    return F.pad(parameters, (0, 1), value=1.0).view(-1, 3, 3)


def undo_projective(parameters: Tensor) -> Tensor:
    """The projective parameters (B, 8) of the inverse warp.

    Raises RuntimeError where there is none.
    """
    inverse = torch.linalg.inv(_square(parameters))
    return (inverse / inverse[:, 2:, 2:]).flatten(1)[:, :8]


def _projective(parameters, places):
    """Divides by w, which falls to 0 towards the horizon; what lies behind it is read outside."""
    with no_autocast(places):
        matrix = _square(parameters)
        read = places @ matrix[:, :, :2].mT + matrix[:, None, :, 2]
    w = read[..., 2:]
    return torch.where(w > NEAR, read[..., :2] / w.clamp(min=NEAR), BEYOND)


def _bends(places, centres):
    """What a thin plate is made of, at places (P, 2): (P, n + 3).

    A bend round each centre (n, 2), r^2 log r^2, and a plane.
    """
    squared = (places[:, None] - centres).square().sum(dim=2)
    bends = squared * (squared + (squared == 0)).log()
    return torch.cat([bends, F.pad(places, (1, 0), value=1.0)], dim=1)


def thin_plate(centres: Tensor) -> Family:
    """The spline through control points (n, 2) of the output; its parameters say where each reads.

    Between them it bends as little as a thin plate would. That is linear in the parameters, so the
    system is solved once, here. It has no inverse in this family, and may fold the image. Raises
    ValueError for fewer than three points, for two in one place, and for points on one line.
    Source: Bookstein 1989.
    """
    centres = centres.double()
    count, rows = len(centres), _bends(centres, centres)
    if count < 3 or torch.pdist(centres).min() < 1e-6:
        wrong = f"got {count}" if count < 3 else "two of them coincide"
        raise ValueError(f"centres: expected three control points or more, apart; {wrong}.")
    if torch.linalg.matrix_rank(rows[:, count:]) < 3:
        raise ValueError("centres: all control points lie on one line, which is no plate.")
    plane = rows[:, count:]
    system = torch.cat([rows, F.pad(plane.T, (0, 3))])
    solved = torch.linalg.inv(system)[:, :count]

    @functools.cache  # else they would be copied to the device in every step
    def there(device, dtype):
        return centres.to(device, dtype), solved.to(device, dtype)

    def points(parameters, places):
        centres, solved = there(places.device, places.dtype)
        with no_autocast(places):
            return _bends(places, centres) @ (solved @ parameters.unflatten(1, (-1, 2)))

    return Family(tuple(centres.flatten().tolist()), points)


LATTICE = torch.cartesian_prod(*[torch.linspace(-1, 1, 4)] * 2).flip(1)  # 16 control points

FAMILIES: dict[str, Family] = {
    "affine": _of_theta((1.0, 0, 0, 0, 1, 0), lambda p: p.view(-1, 2, 3)),
    "rotation": _of_theta(
        (0.0,), lambda radians: affine(angle=radians[:, 0] * 180 / math.pi), turns=True
    ),
    "shift-scale": _of_theta(
        (1.0, 0, 0), lambda p: affine(scale=p[:, 0], shift_x=p[:, 1], shift_y=p[:, 2])
    ),
    "translation": _of_theta(
        (0.0, 0), lambda shift: affine(shift_x=shift[:, 0], shift_y=shift[:, 1])
    ),
    "similarity": _of_theta((1.0, 0, 0, 0), _similarity, turns=True),
    "projective": Family((1.0, 0, 0, 0, 1, 0, 0, 0), _projective),
    "tps": thin_plate(LATTICE),
}
