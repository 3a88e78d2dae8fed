"""Several looks instead of one: each sees what the last has shown, and corrects it."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from ..layers import SpatialTransformerBase
from ..spec import Size
from ..warp import Number, at_least_single, compose, identity

# Ways of making several looks. composed: each look reads what the last one shows, and corrects it.
# inverse: so do Lin and Lucey 2017, but whole steps are taken, and the gradient runs back through
# what each look has shown. cell: an LSTM cell reads along; corrected is so. What was wrong with the
# first public attempt (DarioTilves/Spatial_transformer_experiments): blind: the localization net
# reads the untouched image in every step; forgets: the cell's state is dropped after each; bounded:
# theta is the cell's output, every entry below 1 (0.762 where the state is dropped), so it cannot
# be the identity.
RECURRENCES = {
    "composed": (),
    "inverse": ("whole", "attached"),
    "corrected": ("cell",),
    "blind": ("cell", "blind"),
    "forgets": ("cell", "forgets"),
    "s0": ("cell", "blind", "forgets", "bounded"),
    "s0-looks": ("cell", "forgets", "bounded"),
    "s0-remembers": ("cell", "blind", "bounded"),
    "s0-unbounded": ("cell", "blind", "forgets"),
}


class SequentialTransformer(SpatialTransformerBase):
    """Warp images (B, C, H, W) in several steps, each decided on what those before have made.

    localization: any module from (B, C, H, W) to (B, 6), a step that starts at the identity. Of T
    steps a T-th is taken each, so that a first update moves the window as far as that of one look.
    Then theta <- compose(theta, step), as in Lin and Lucey 2017: the original is sampled once, at
    `size`. From the second look on, what the localization net sees passes no gradient, unless the
    looks follow each other as there (`inverse`).
    resample=True samples the last warped image instead. ways: of RECURRENCES. With a cell, an LSTM
    reads each step, and theta so far; its state is carried from look to look, and what `memory`,
    zero at the start, makes of it is added to the step, in the spirit of Azimi et al. 2021. The
    rest is `SpatialTransformerBase`'s.
    """

    def __init__(
        self,
        localization: nn.Module,
        steps: int,
        size: Size | None = None,
        padding: str = "zeros",
        background: Number = 0.0,
        resample: bool = False,
        ways: Collection[str] = (),
    ) -> None:
        super().__init__(size, padding, background, steps)
        self.localization, self.resample = localization, resample
        self.ways = frozenset(ways)
        self.share = 1.0 if "whole" in self.ways else 1 / steps  # of the looks that it was made for
        if "cell" in self.ways:
            self.cell = nn.LSTMCell(12, 6)
        if "cell" in self.ways and "bounded" not in self.ways:
            self.memory = nn.Linear(6, 6, bias=False)
            nn.init.zeros_(self.memory.weight)

    def trace(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Every step's theta as (B, 6), from the original's coordinates, and the warped image."""
        whole = theta = at_least_single(identity(x.shape[0], x.device, x.dtype))
        state: Any = None
        seen, thetas = x, []
        for number in range(1, self.steps + 1):
            size = None if number == self.steps else (x.shape[2], x.shape[3])
            blind = number == 1 or "blind" in self.ways
            shown = seen if "attached" in self.ways else seen.detach()
            numbers = at_least_single(self.localization(x if blind else shown))
            if "cell" in self.ways:
                inputs = torch.cat([numbers, theta.flatten(1)], dim=1)
                state = self.cell(inputs, None if "forgets" in self.ways else state)
            if "bounded" in self.ways:
                step = theta = at_least_single(state[0]).view(-1, 2, 3)
            else:
                remembered = self.memory(state[0]) if state else 0
                correction = (numbers + remembered).view(-1, 2, 3) - whole
                step = whole + self.share * correction
                theta = compose(theta, step)
            thetas.append(theta.flatten(1))
            look = (seen, step) if self.resample else (x, theta)
            seen = self.warp_through(*look, size)
        return thetas, seen
