"""Instead of a transformer that learns: a pose that is computed, taps that move, turned filters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..layers import SpatialTransformerBase
from ..warp import Number, affine, compose, make_grid, pixel_centres, sample

SPREAD = 0.48  # of MNIST's digits about their middles, their mean, in half a picture's side
POSES = ("none", "moments", "axis")  # what is computed of the ink: nothing, or its Moments


class Moments(nn.Module):
    """Images (B, C, H, W) -> theta (B, 2, 3) that centres the ink and sizes it; nothing is learned.

    Ink is how far a pixel is from `background`, averaged over channels, so it is never negative. A
    picture without ink is left as it is. upright: the ink's long axis is turned upright as well, by
    at most 90 degrees: an axis has no head. Source: Hu 1962.
    """

    background: Tensor

    def __init__(self, background: Number = 0.0, upright: bool = False) -> None:
        super().__init__()
        self.upright = upright
        self.register_buffer("background", torch.as_tensor(background, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        size = height, width = x.shape[2], x.shape[3]
        ink = (x - self.background).abs().mean(dim=1).flatten(1)
        total = ink.sum(dim=1, keepdim=True)
        share = ink / total.clamp(min=1e-6)
        unit = ink.new_ones(2)  # as long down as across; filled in, for a graph copies no list
        unit[0], unit[1] = width / max(size), height / max(size)
        places = pixel_centres(size, ink) * unit
        middle = share @ places
        away = places - middle[:, None]
        across, down = torch.einsum("bp,bpi->ib", share, away.square())
        both = torch.einsum("bp,bp->b", share, away.prod(dim=2))
        blank = total[:, 0] < 1e-6
        scale = torch.where(blank, 1.0, (across + down).sqrt() / SPREAD)
        angle = -0.5 * torch.rad2deg(torch.atan2(2 * both, down - across)) if self.upright else 0.0
        shift_x, shift_y = (middle / unit).unbind(dim=1)
        return affine(angle, scale, shift_x, shift_y, size=size)


class Canonical(SpatialTransformerBase):
    """Bring images to the pose that `pose`, say Moments, computes; then let `then` correct it.

    pose: (B, C, H, W) -> theta (B, 2, 3). then: a transformer of thetas, or what has no looks; it
    sees the picture in that pose; its size and its sampler's options hold for both. Both windows
    are composed, and the original is sampled once.
    """

    def __init__(self, pose: nn.Module, then: SpatialTransformerBase) -> None:
        super().__init__(then.size, then.padding, then.background, 1 + then.steps)
        self.pose, self.then = pose, then

    def trace(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """The pose's theta as (B, 6), then each of the corrected ones; x through the last."""
        theta = self.pose(x)
        seen = self.warp_through(x, theta, (x.shape[2], x.shape[3]))
        corrections = [self.then.look(x, numbers) for numbers in self.then.trace(seen)[0]]
        thetas = [theta, *(compose(theta, correction) for correction in corrections)]
        return [theta.flatten(1) for theta in thetas], self.warp_through(x, thetas[-1])


class DeformableConv2d(nn.Conv2d):
    """A convolution whose taps move: another one, zero at the start, says how far, place by place.

    Maps (B, in_channels, H, W) as nn.Conv2d without padding or stride does. Source: Dai et al.
    2017, section 2.1.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size)
        self.offsets = nn.Conv2d(in_channels, 2 * kernel_size**2, kernel_size)
        for start in self.offsets.parameters():
            nn.init.zeros_(start)

    def forward(self, x: Tensor) -> Tensor:
        size, side = (x.shape[2], x.shape[3]), self.kernel_size[0]
        centres = pixel_centres(size, x).unflatten(0, size)
        patches = centres.unfold(0, side, 1).unfold(1, side, 1)
        taps = patches.flatten(3).movedim(3, 0)
        moved = self.offsets(x).unflatten(1, (-1, 2))  # (B, taps, (x, y), h, w), in pixels
        steps = [2 * moved[:, :, i] / size[1 - i] for i in (0, 1)]  # a pixel is 2 / size
        grid = taps + torch.stack(steps, dim=-1)  # (B, taps, h, w, 2)
        read = sample(x, grid.flatten(1, 2)).unflatten(2, grid.shape[1:3])  # (B, C, taps, h, w)
        return F.conv2d(read.flatten(1, 2), self.weight.flatten(1)[:, :, None, None], self.bias)


class RotationConv2d(nn.Module):
    """A convolution with every filter in some turns of the circle: a group convolution.

    Maps (B, in_channels * before, H, W) to (B, out_channels * rotations, h, w), where before is 1
    for pictures (`lifts`), else `rotations`; the turns of one filter stand side by side. If the
    picture is turned by a quarter, the answers turn along and move on by a quarter of the turns,
    exactly; by other angles in part, for filters are read between their pixels. Source: Cohen and
    Welling 2016.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        rotations: int = 8,
        lifts: bool = False,
    ) -> None:
        super().__init__()
        self.rotations, self.before = rotations, 1 if lifts else rotations
        self.weight = nn.Conv2d(in_channels * self.before, out_channels, kernel_size).weight
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def filters(self) -> Tensor:
        """All turns of all filters, (out_channels * rotations, in_channels * before, k, k)."""
        turns = []
        for turn in range(self.rotations):
            angle = self.weight.new_full((len(self.weight),), 360.0 * turn / self.rotations)
            grid = make_grid(affine(angle), self.weight.shape[2:])  # type: ignore[arg-type]
            turned = sample(self.weight, grid).unflatten(1, (-1, self.before))
            turns.append(turned.roll(turn if self.before > 1 else 0, dims=2).flatten(1, 2))
        return torch.stack(turns, dim=1).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.filters(), self.bias.repeat_interleave(self.rotations))
