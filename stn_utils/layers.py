"""The SpatialTransformer: a layer that looks where its localization net tells it to."""

import torch
from torch import nn

from .experiment import one_of
from .warp import PADDINGS, make_grid, sample


def start_at_identity(linear):
    """Zero the weights of the last linear layer (n -> 6) and set its bias to 1 0 0 0 1 0; returns it.

    The transformer then passes its input through unchanged, whatever the image, until training moves it.
    Source: Jaderberg et al. 2015, appendix A.4.
    """
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([1.0, 0, 0, 0, 1, 0]))
    return linear


class SpatialTransformer(nn.Module):
    """Warp images or feature maps (B, C, H, W) by the theta that `localization` reads from them.

    localization: any module that maps (B, C, H, W) to (B, 6). size: (h, w) of the output, default that of the
    input. padding, background and the coordinate convention are those of `warp.sample`.
    Returns (B, C, h, w). Source: Jaderberg et al. 2015, section 3.
    """

    def __init__(self, localization, size=None, padding="zeros", background=0.0):
        super().__init__()
        self.localization = localization
        self.size = size
        self.padding = one_of("padding", padding, PADDINGS)
        self.register_buffer("background", torch.as_tensor(background, dtype=torch.float32))

    def theta(self, x):
        """Where to look: (B, 2, 3), from output to input coordinates."""
        return self.localization(x).view(-1, 2, 3)

    def forward(self, x):
        grid = make_grid(self.theta(x), self.size or x.shape[-2:])
        return sample(x, grid, self.padding, self.background)
