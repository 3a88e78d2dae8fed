"""Two layers: the SpatialTransformer looks where its localization net tells it to, the CoordConv2d knows where it is."""

import torch
from torch import nn

from .experiment import one_of
from .warp import FAMILIES, PADDINGS, make_grid, sample


def start_at_identity(linear, family="affine"):
    """Zero the weights of the last linear layer and set its bias to the family's identity, 1 0 0 0 1 0; returns it.

    The transformer then passes its input through unchanged, whatever the image, until training moves it.
    Source: Jaderberg et al. 2015, appendix A.4.
    """
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor(FAMILIES[family].identity))
    return linear


class Transformer(nn.Module):
    """What every transformer has: the size (h, w) of its output, default that of the input, and its sampler's options.

    padding, background and the coordinate convention are those of `warp.sample`. steps: how many looks, at least 1.
    """

    def __init__(self, size=None, padding="zeros", background=0.0, steps=1):
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}.")
        self.size, self.steps = size, steps
        self.padding = one_of("padding", padding, PADDINGS)
        self.register_buffer("background", torch.as_tensor(background, dtype=torch.float32))

    def view(self, x, theta, size=None):
        """What theta (B, 2, 3) shows of x, at `size` (h, w), default that of the output."""
        return sample(x, make_grid(theta, size or self.size or x.shape[-2:]), self.padding, self.background)


class SpatialTransformer(Transformer):
    """Warp images or feature maps (B, C, H, W) by the theta that `localization` reads from them.

    localization: any module that maps (B, C, H, W) to the parameters of `family`, (B, 6) for affine. The rest is
    `Transformer`'s. Returns (B, C, h, w). Source: Jaderberg et al. 2015, section 3.
    """

    def __init__(self, localization, size=None, padding="zeros", background=0.0, family="affine"):
        super().__init__(size, padding, background)
        self.localization = localization
        self.family = one_of("family", family, tuple(FAMILIES))

    def theta(self, x):
        """Where to look: (B, 2, 3), from output to input coordinates."""
        return FAMILIES[self.family].to_theta(self.localization(x))

    def looks(self, x):
        """The list of theta, one per look: here one."""
        return [self.theta(x)]

    def forward(self, x):
        return self.view(x, self.theta(x))


def coordinates(height, width, radius=False, device=None, dtype=None):
    """The channels that a CoordConv adds: x and y (2, height, width), with the radius (3, height, width).

    x runs from -1 in the first column to 1 in the last, y likewise down the rows, corner to corner as in the paper
    (`align_corners=True`; theta in this course is not). A single column or row is the centre, 0. The radius is the
    distance from the centre, sqrt(2) in the corners. Source: Liu et al. 2018, section 3.
    """

    def line(count):
        ends = (-1, 1) if count > 1 else (0, 0)
        return torch.linspace(*ends, count, device=device, dtype=dtype)

    y, x = torch.meshgrid(line(height), line(width), indexing="ij")
    return torch.stack([x, y, (x.square() + y.square()).sqrt()] if radius else [x, y])


class CoordConv2d(nn.Conv2d):
    """A convolution that also sees its place: nn.Conv2d over the image's channels and those of `coordinates`.

    Takes what nn.Conv2d takes, and `radius`; in_channels counts the image's alone. Maps (B, in_channels, H, W) or
    (in_channels, H, W) as nn.Conv2d does. With zero weights on the added channels it is that convolution.
    Raises ValueError for another number of channels. Source: Liu et al. 2018, section 3.
    """

    def __init__(self, in_channels, *arguments, radius=False, **options):
        super().__init__(in_channels + 2 + radius, *arguments, **options)
        self.radius = radius

    def forward(self, x):
        expected = self.in_channels - 2 - self.radius
        if x.ndim not in (3, 4) or x.shape[-3] != expected:
            added = 2 + self.radius
            raise ValueError(f"x: expected (B, {expected}, H, W), got {tuple(x.shape)}; CoordConv2d adds {added} itself.")
        place = coordinates(*x.shape[-2:], self.radius, x.device, x.dtype)
        seen = torch.cat([x, place.expand(*x.shape[:-3], -1, -1, -1)], dim=-3)
        if x.ndim == 4 and x.stride(1) == 1:  # torch.cat would forget channels_last
            seen = seen.contiguous(memory_format=torch.channels_last)
        return super().forward(seen)
