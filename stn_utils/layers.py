"""Two layers: a SpatialTransformer chooses where it looks, a CoordConv2d knows where it is."""

from typing import Any

import torch
from torch import Tensor, nn

from .families import FAMILIES
from .names import one_of
from .spec import Device, Size
from .warp import PADDINGS, Number, at_least_single, expect_images, grid_of, sample


def start_at_identity(linear: nn.Linear, family: str = "affine", windows: int = 1) -> nn.Linear:
    """Let the last linear layer answer the family's identity, 1 0 0 0 1 0; returns it.

    Its weights become zero, its bias the identity, that of each window.

    The transformer then passes its input through unchanged, whatever the image, until training
    moves it. Raises ValueError for an unknown family, or another number of outputs than it has.
    Source: Jaderberg et al. 2015, appendix A.4.
    """
    start = torch.tensor(FAMILIES[one_of("family", family, FAMILIES)].identity * windows)
    if linear.bias is None or len(linear.bias) != len(start):
        got = "no bias" if linear.bias is None else f"{len(linear.bias)} outputs"
        raise ValueError(f"linear: {family} wants {len(start)} outputs and a bias, got {got}.")
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.copy_(start)
    return linear


class SpatialTransformerBase(nn.Module):
    """What every transformer has: the size (h, w) of its output, and its sampler's options.

    size: by default that of the input.

    padding and background are those of `warp.sample`. steps: how many looks, at least 1. family: of
    `FAMILIES`, it says what the parameters of a look mean. A subclass gives `trace`. Convention: a
    look is in input coordinates, pixel-area, see `warp`.
    """

    background: Tensor

    def __init__(
        self,
        size: Size | None = None,
        padding: str = "zeros",
        background: Number = 0.0,
        steps: int = 1,
        family: str = "affine",
    ) -> None:
        super().__init__()
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, got {steps}.")
        self.size, self.steps = size, steps
        self.padding = one_of("padding", padding, PADDINGS)
        self.family = one_of("family", family, FAMILIES)
        self.register_buffer("background", torch.as_tensor(background, dtype=torch.float32))

    def warp_through(self, x: Tensor, look: Tensor, size: Size | None = None) -> Tensor:
        """What a look, theta (B, 2, 3) or a grid, shows of x; size (h, w): default the output's."""
        return sample(x, grid_of(look, self._size(x, size)), self.padding, self.background)

    def _size(self, x, size=None):
        return size or self.size or (x.shape[2], x.shape[3])

    def look(self, x: Tensor, parameters: Tensor) -> Tensor:
        """The look that parameters (B, n) of the family mean for images like x."""
        size_in = x.shape[2], x.shape[3]
        return FAMILIES[self.family].look(parameters, size_in, self._size(x))

    def trace(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """One pass over x (B, C, H, W): parameters (B, n) of each look, x warped (B, C, h, w)."""
        raise NotImplementedError

    def looks(self, x: Tensor) -> list[Tensor]:
        """Where to look: a theta (B, 2, 3), or a grid, per look; the last one decides."""
        return [self.look(x, parameters) for parameters in self.trace(x)[0]]

    def forward(self, x: Tensor) -> Tensor:
        """The warped x (B, C, h, w)."""
        expect_images(x)
        return self.trace(x)[1]


class SpatialTransformer(SpatialTransformerBase):
    """Warp images or feature maps (B, C, H, W) by the theta that `localization` reads from them.

    localization: any module that maps (B, C, H, W) to the parameters of `family`, (B, 6) for
    affine; of K windows those of each, (B, 6 K). The rest is `SpatialTransformerBase`'s. Returns
    what the windows show, side by side, (B, C, h, K w). Source: Jaderberg et al. 2015, section 3.
    """

    def __init__(
        self,
        localization: nn.Module,
        size: Size | None = None,
        padding: str = "zeros",
        background: Number = 0.0,
        family: str = "affine",
        windows: int = 1,
    ) -> None:
        super().__init__(size, padding, background, family=family)
        self.localization, self.windows = localization, windows

    def trace(self, x: Tensor, read: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Let the localization net read x, make a grid of its numbers, sample x there.

        read: what it reads instead.
        """
        parameters = self._numbers(x if read is None else read)
        return [parameters], self.warp_through(x, self.look(x, parameters))

    def _numbers(self, read):
        """What the localization net answers: (B, n), of several windows (B, windows, n)."""
        parameters = at_least_single(self.localization(read))
        if self.windows == 1:
            return parameters
        if parameters.shape[1] % self.windows:
            got = f"got shape {tuple(parameters.shape)}"
            raise ValueError(f"localization: expected those of {self.windows} windows, {got}.")
        return parameters.unflatten(1, (self.windows, -1))


def coordinates(
    height: int,
    width: int,
    radius: bool = False,
    device: Device = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """The channels that a CoordConv adds: x and y (2, height, width), and the radius (1, ...).

    x runs from -1 in the first column to 1 in the last, y likewise down the rows, corner to corner
    as in the paper (`align_corners=True`; theta in this course is not). A single column or row is
    the centre, 0. The radius is the distance from the centre, sqrt(2) in the corners. Source: Liu
    et al. 2018, section 3.
    """

    def line(count):
        ends = (-1, 1) if count > 1 else (0, 0)
        return torch.linspace(*ends, count, device=device, dtype=dtype)

    y, x = torch.meshgrid(line(height), line(width), indexing="ij")
    channels = [x, y]
    if radius:
        channels.append((x.square() + y.square()).sqrt())
    return torch.stack(channels)


class CoordConv2d(nn.Conv2d):
    """A convolution that sees its place: nn.Conv2d over the image and its `coordinates`.

    Takes what nn.Conv2d takes, and `radius`; in_channels counts the image's alone. Maps
    (B, in_channels, H, W) or (in_channels, H, W) as nn.Conv2d does. With zero weights on the added
    channels it is that convolution. Raises ValueError for another number of channels, and for
    groups, of which the last alone would see the coordinates. Source: Liu et al. 2018, section 3.
    """

    def __init__(
        self, in_channels: int, *arguments: Any, radius: bool = False, **options: Any
    ) -> None:
        super().__init__(in_channels + 2 + radius, *arguments, **options)
        self.radius = radius
        if self.groups != 1:
            raise ValueError(f"groups: a CoordConv2d has one, got {self.groups}.")

    def forward(self, x: Tensor) -> Tensor:
        expected = self.in_channels - 2 - self.radius
        if x.ndim not in (3, 4) or x.shape[-3] != expected:
            added = 2 + self.radius
            raise ValueError(
                f"x: expected (B, {expected}, H, W), got {tuple(x.shape)}; "
                f"CoordConv2d adds {added} itself."
            )
        height, width = x.shape[-2:]
        place = coordinates(height, width, self.radius, x.device, x.dtype)
        place = place.expand(*x.shape[:-3], -1, -1, -1)
        seen = torch.cat([x, place], dim=-3)
        if x.ndim == 4 and x.stride(1) == 1:  # torch.cat would forget channels_last
            seen = seen.contiguous(memory_format=torch.channels_last)
        return super().forward(seen)
