"""Several looks instead of one: a transformer whose localization net sees what it has done so far, and corrects it."""

import torch
from torch import nn

from ..layers import Transformer, start_at_identity
from ..warp import compose, identity

# What was wrong with the first public attempt (DarioTilves/Spatial_transformer_experiments), as switches:
# blind: the localization net reads the untouched image in every step; forgets: the cell's state is dropped after each;
# bounded: theta is the cell's output itself, so every entry is below 1 (below 0.762 where the state is dropped), and it
# cannot be the identity.
RECURRENCES = {
    "corrected": (),
    "s0": ("blind", "forgets", "bounded"),
    "s0-looks": ("forgets", "bounded"),
    "s0-remembers": ("blind", "bounded"),
    "s0-unbounded": ("blind", "forgets"),
}


class SequentialTransformer(Transformer):
    """Warp images (B, C, H, W) in several steps, each decided on what the steps before have made of them.

    localization: any module from (B, C, H, W) to (B, 6). Its six numbers and theta so far enter an LSTM cell whose state
    is carried from step to step; a linear layer makes a step I + d of what comes out, d zero at the start, and
    theta <- compose(theta, step). So the original is sampled once, at `size`, however many steps there are. resample=True
    samples the last warped image instead, to compare. mistakes: of RECURRENCES. The rest is `Transformer`'s.
    Source: in the spirit of Azimi et al. 2021; compositions as in Lin and Lucey 2017.
    """

    def __init__(self, localization, steps, size=None, padding="zeros", background=0.0, resample=False, mistakes=()):
        super().__init__(size, padding, background, steps)
        self.localization, self.resample, self.mistakes = localization, resample, frozenset(mistakes)
        self.cell = nn.LSTMCell(12, 6)
        if "bounded" not in self.mistakes:
            self.step = start_at_identity(nn.Linear(6, 6))

    def _run(self, x):
        """Every step's theta (B, 2, 3), from the original's coordinates, and the warped image."""
        theta, state, seen, thetas = identity(len(x), x.device, x.dtype), None, x, []
        for number in range(1, self.steps + 1):
            size = None if number == self.steps else x.shape[-2:]
            numbers = self.localization(x if "blind" in self.mistakes else seen)
            state = self.cell(torch.cat([numbers, theta.flatten(1)], dim=1), None if "forgets" in self.mistakes else state)
            if "bounded" in self.mistakes:
                step = theta = state[0].view(-1, 2, 3)
            else:
                step = self.step(state[0]).view(-1, 2, 3)
                theta = compose(theta, step)
            thetas.append(theta)
            seen = self.view(seen, step, size) if self.resample else self.view(x, theta, size)
        return thetas, seen

    def looks(self, x):
        """The list of theta (B, 2, 3), one per step; the last one decides."""
        return self._run(x)[0]

    def forward(self, x):
        return self._run(x)[1]
