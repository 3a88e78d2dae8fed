"""Chapter 00: mirror, crop, and the puzzle."""

import torch
import torch.nn.functional as F

from ..warp import affine, warp
from . import checker, expect_shape, quiz


def _see(x, theta, size):
    """The reference: torch's own functions, not ours."""
    grid = F.affine_grid(
        theta.to(x.dtype).expand(len(x), 2, 3), [*x.shape[:2], *size], align_corners=False
    )
    return F.grid_sample(x, grid, align_corners=False)


@checker
def check_mirror(mirror):
    """mirror() -> theta (1, 2, 3) that shows the picture mirrored left to right."""
    theta = mirror()
    expect_shape(theta, (1, 2, 3), "theta")
    x = torch.rand(1, 1, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = _see(x, theta, (5, 8))
    assert not torch.allclose(seen, x.flip(2)), (
        "That is upside down. Which row of theta says where to look in x?"
    )
    assert torch.allclose(seen, x.flip(3)), (
        "The left column of the output should be the right column of the input."
    )


@checker
def check_crop(crop):
    """crop(row, column, side, image_side) -> theta (1, 2, 3): the square of `side` pixels, its top
    left pixel there.
    """
    x = torch.rand(1, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for row, column, side in ((0, 0, 12), (4, 4, 4), (2, 7, 4), (5, 1, 6)):
        theta = crop(row, column, side, 12)
        expect_shape(theta, (1, 2, 3), "theta")
        seen = _see(x, theta, (side, side))
        case = f"crop({row}, {column}, {side}, 12)"
        transposed = x[..., column : column + side, row : row + side]
        if row != column:
            assert not torch.allclose(seen, transposed, atol=1e-6), (
                f"{case}: row and column are exchanged. x comes first."
            )
        wanted = x[..., row : row + side, column : column + side]
        assert torch.allclose(seen, wanted, atol=1e-6), (
            f"{case} does not show exactly these pixels. The image spans [-1, 1] "
            "from edge to edge: one pixel is 2 / image_side wide, and the window's "
            "centre lies half a side from its first edge."
        )


_HIDDEN = affine(angle=-35.0, scale=1.25, shift_x=0.2, shift_y=-0.15)


def puzzle(image):
    """What a hidden window shows of image (1, H, W): the picture to bring back."""
    return warp(image[None], _HIDDEN)[0]


@checker
def check_puzzle(solve):
    """solve() -> theta (1, 2, 3) through which the puzzle looks like the original again."""
    theta = solve()
    expect_shape(theta, (1, 2, 3), "theta")
    ends = torch.tensor([[-1.0, 0, 1], [1, 0, 1], [0, -1, 1], [0, 1, 1]])
    through = torch.cat([_HIDDEN[0], torch.tensor([[0.0, 0, 1]])]) @ torch.cat(
        [theta[0].float(), torch.tensor([[0.0, 0, 1]])]
    )
    error = (ends @ through.T - ends)[:, :2].abs().max().item()
    assert error < 0.2, (
        f"A point of the picture is still {14 * error:.0f} of 28 pixels away from its place; "
        "below 3 will do."
    )


answer = quiz({
    "direction": ("c", {
        "a": "theta does not move pixels; it says where each output pixel reads.",
        "b": "That is the inverse. To find it, call warp.invert(theta).",
        "c": "For every output pixel, theta names the place of the input to read.",
        "d": "It has no unit of pixels: places run from -1 to 1.",
    }),
    "twice": ("b", {
        "a": "Numbers above 1 make the window larger, so it shows more, and everything smaller.",
        "b": "It shows the picture at half its size, and round it what lies outside.",
        "c": "Nothing moves: the last column is 0.",
        "d": "A mirror would need a negative number.",
    }),
})  # fmt: skip
