"""Chapter 01: read between pixels, build the grid, allow shifts alone."""

import torch
import torch.nn.functional as F
from torch import nn

from . import checker, expect_shape, quiz


@checker
def check_read(read):
    """read(image, row, column) -> bilinear value of image (H, W) between pixels, zero outside."""
    from scipy.ndimage import map_coordinates

    image = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = float(read(image, 2, 3))
    assert abs(whole - image[2, 3]) < 1e-9, (
        "At whole numbers it should return the pixel itself: image[2, 3] for (2, 3)."
    )
    for row, column in (
        (1.5, 2.0),
        (1.0, 2.5),
        (3.25, 4.75),
        (0.1, 5.9),
        (-0.5, 3.0),
        (4.0, 6.6),
        (9.0, 9.0),
    ):
        got = float(read(image, row, column))
        padded = F.pad(
            image, (2, 2, 2, 2)
        ).numpy()  # so that scipy, too, fades to zero across the border
        wanted = map_coordinates(
            padded, [[row + 2], [column + 2]], order=1, mode="constant", cval=0
        )[0]
        inside = 0 <= row <= 4 and 0 <= column <= 6
        where = (
            "weigh the four neighbours by how near they are"
            if inside
            else "neighbours outside the image count as 0"
        )
        assert abs(got - wanted) < 1e-9, (
            f"read(image, {row}, {column}) is {got:.4f}, should be {wanted:.4f}: {where}."
        )


@checker
def check_grid(grid):
    """grid(theta, size) -> (B, H, W, 2) of input coordinates (x, y), equal to affine_grid's."""
    random = torch.Generator().manual_seed(0)
    theta = torch.randn(3, 2, 3, dtype=torch.float64, generator=random)
    got = grid(theta, (4, 6))
    expect_shape(got, (3, 4, 6, 2), "the grid")
    wanted = F.affine_grid(theta, [3, 1, 4, 6], align_corners=False)
    corners = F.affine_grid(theta, [3, 1, 4, 6], align_corners=True)
    assert not torch.allclose(got, wanted.flip(-1)), (
        "The last dimension is (y, x); it should be (x, y)."
    )
    assert not torch.allclose(got, corners), (
        "-1 and 1 are the outer EDGES of the image, not the centres of its corner pixels."
    )
    assert torch.allclose(got, wanted), (
        "Some coordinates are off: output pixel -> normalized (x, y, 1) -> theta @ it."
    )


@checker
def check_shift_only(make):
    """make(features) -> a localization net (B, C, H, W) -> (B, 6) that can shift its window and
    nothing else.

    features maps (B, C, H, W) to the shift (B, 2), in the order x, y.
    """
    features = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    x = torch.rand(5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    out = make(features)(x)
    expect_shape(out, (5, 6), "the answer of the net")
    theta, shift = out.view(5, 2, 3), features(x)
    straight = torch.eye(2, dtype=out.dtype).expand(5, 2, 2)
    assert torch.allclose(theta[:, :, :2], straight), (
        "The left 2x2 of theta should be the identity: no zoom, no turn."
    )
    assert not torch.allclose(theta[:, :, 2], shift.flip(1)), (
        "x and y are exchanged: theta's first row is x."
    )
    assert torch.allclose(theta[:, :, 2], shift), (
        "The last column of theta should be the shift that features(x) gives."
    )
    out.sum().backward()
    assert features[1].weight.grad is not None, (
        "No gradient reaches `features`: build theta from its output."
    )


answer = quiz({
    "poses": ("d", {
        "a": "Its parts can move a window, but nothing has taught them to.",
        "b": "It had both, and was lost all the same: look at the curves.",
        "c": "The classifier is the same in both networks.",
        "d": "It makes poses cheaper to learn, once they are in the training data.",
    }),
    "kink": ("a", {
        "a": "Between two centres the value is a straight line; at the next it bends.",
        "b": "However smooth the picture, between pixels it reads along straight lines.",
        "c": "There is none: the edge lies half way between two centres, on a straight piece.",
        "d": "The window's size changes how fast it runs along the line, not where the line bends.",
    }),
    "interval": ("c", {
        "a": "An interval that holds zero does not say that there is no difference.",
        "b": "It is about the mean of all possible runs, not about the next run.",
        "c": "With these seeds a difference of 0 is as possible as one of 1 point.",
        "d": "Only if the interval lay above zero.",
    }),
})  # fmt: skip
