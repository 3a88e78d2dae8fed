"""Families of warps: what the numbers of a localization net mean."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .spec import Size
from .warp import affine, on_shape, pixel_centres


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


FAMILIES: dict[str, Family] = {
    "affine": _of_theta((1.0, 0, 0, 0, 1, 0), lambda p: p.view(-1, 2, 3)),
    "rotation": _of_theta((0.0,), lambda p: affine(angle=p[:, 0] * 180 / math.pi), turns=True),
    "shift-scale": _of_theta(
        (1.0, 0, 0), lambda p: affine(scale=p[:, 0], shift_x=p[:, 1], shift_y=p[:, 2])
    ),
}
