"""Several looks instead of one: a transformer whose localization net sees what it has done so far, and corrects it."""

import torch
from torch import nn

from ..layers import Transformer
from ..warp import compose, identity

# What was wrong with the first public attempt (DarioTilves/Spatial_transformer_experiments), as switches. blind: the
# localization net reads the untouched image in every step; forgets: the cell's state is dropped after each; bounded: theta
# is the cell's output, every entry below 1 (0.762 where the state is dropped), so it cannot be the identity.
RECURRENCES = {
    "corrected": (),
    "blind": ("blind",),
    "forgets": ("forgets",),
    "s0": ("blind", "forgets", "bounded"),
    "s0-looks": ("forgets", "bounded"),
    "s0-remembers": ("blind", "bounded"),
    "s0-unbounded": ("blind", "forgets"),
}


class SequentialTransformer(Transformer):
    """Warp images (B, C, H, W) in several steps, each decided on what the steps before have made of them.

    localization: any module from (B, C, H, W) to (B, 6), a step that starts at the identity. An LSTM cell reads it, and
    theta so far; its state is carried from look to look, and what `memory`, zero at the start, makes of it is added. Of T
    steps a T-th is taken each, so that a first update moves the window as far as that of one look. Then
    theta <- compose(theta, step), as in Lin and Lucey 2017: the original is sampled once, at `size`. From the second look
    on, what the localization net sees passes no gradient. resample=True samples the last warped image instead. mistakes: of
    RECURRENCES. The rest is `Transformer`'s. In the spirit of Azimi et al. 2021.
    """

    def __init__(self, localization, steps, size=None, padding="zeros", background=0.0, resample=False, mistakes=()):
        super().__init__(size, padding, background, steps)
        self.localization, self.resample, self.mistakes = localization, resample, frozenset(mistakes)
        self.share = 1 / steps  # of the looks that it was made for
        self.cell = nn.LSTMCell(12, 6)
        if "bounded" not in self.mistakes:
            self.memory = nn.Linear(6, 6, bias=False)
            nn.init.zeros_(self.memory.weight)

    def _run(self, x):
        """Every step's theta (B, 2, 3), from the original's coordinates, and the warped image."""
        still = theta = identity(len(x), x.device, x.dtype)
        state, seen, thetas = None, x, []
        for number in range(1, self.steps + 1):
            size = None if number == self.steps else x.shape[-2:]
            numbers = self.localization(x if number == 1 or "blind" in self.mistakes else seen.detach())
            state = self.cell(torch.cat([numbers, theta.flatten(1)], dim=1), None if "forgets" in self.mistakes else state)
            if "bounded" in self.mistakes:
                step = theta = state[0].view(-1, 2, 3)
            else:
                step = still + self.share * ((numbers + self.memory(state[0])).view(-1, 2, 3) - still)
                theta = compose(theta, step)
            thetas.append(theta)
            seen = self.view(seen, step, size) if self.resample else self.view(x, theta, size)
        return thetas, seen

    def looks(self, x):
        """The list of theta (B, 2, 3), one per step; the last one decides."""
        return self._run(x)[0]

    def forward(self, x):
        return self._run(x)[1]
