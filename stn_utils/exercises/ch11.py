"""Chapter 11: the moments of a picture, whether a layer follows a quarter turn, a tap that moves, a
search over poses, and questions.
"""

import torch
from scipy import ndimage

from ..models.instead import RotationConv2d
from ..warp import affine, pixel_centres, warp
from . import checker, quiz


@torch.no_grad()
def searched(net, x, angles):
    """Logits (B, classes) of a net that looks at x at all angles, and believes the surest look."""
    answers = torch.stack([net(warp(x, affine(angle=angle))) for angle in angles], dim=1)
    surest = answers.softmax(dim=2).amax(dim=2).argmax(dim=1)
    return answers[torch.arange(len(x)), surest]


def _random(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@checker
def check_moments(moments):
    """moments(ink) -> (x, y, spread) of ink (H, W), no pixel negative: its middle, in coordinates
    from -1 to 1, pixel-area, and the root of its variance in x plus that in y.
    """
    for seed, size in enumerate([(4, 4), (7, 7), (28, 28), (10, 6)]):
        ink = _random(*size, seed=seed) ** 4
        places, share = pixel_centres(size, ink), ink.flatten() / ink.sum()
        middle = share @ places
        spread = (share @ (places - middle).square()).sum().sqrt()
        wanted = torch.cat([middle, spread[None]])
        got = torch.tensor([float(number) for number in moments(ink)], dtype=torch.float64)
        assert got.shape == (3,), f"It should return three numbers, yours returns {len(got)}."
        assert not torch.allclose(got[:2], middle.flip(0)) or torch.allclose(got, wanted), (
            "x and y are swapped: x runs along the columns."
        )
        assert torch.allclose(got[:2], middle), (
            f"The middle should be ({middle[0]:.3f}, {middle[1]:.3f}), "
            f"yours is ({got[0]:.3f}, {got[1]:.3f})."
        )
        assert not torch.isclose(got[2], spread.square()), "The spread is the root of the variance."
        assert torch.isclose(got[2], spread), (
            f"The spread should be {spread:.3f}, yours is {got[2]:.3f}."
        )
        assert torch.allclose(
            torch.tensor([float(n) for n in moments(3 * ink)], dtype=torch.float64), wanted
        ), "Three times as much ink everywhere must change nothing: divide by its sum."


@torch.no_grad()
def _apart(layer, x, turns, moves):
    """How far the layer is from following a quarter turn, if its turns move on by so many."""
    after = layer(torch.rot90(x, 1, (-2, -1))).unflatten(1, (-1, turns))
    answer = torch.rot90(layer(x), 1, (-2, -1)).unflatten(1, (-1, turns))
    return (after - answer.roll(moves, 2)).abs().max().item()


@checker
def check_follows(follows):
    """follows(layer, x, turns) -> the largest difference between what the layer says of x turned by
    a quarter, and its turned answer to x, whose channels (B, C * turns, h, w) have moved on by a
    quarter of the turns.
    """
    torch.manual_seed(0)
    x = _random(2, 1, 12, 12)
    for turns in (4, 8):
        rotated = RotationConv2d(1, 3, 5, turns, lifts=True).double()
        plain = torch.nn.Conv2d(1, 3 * turns, 5).double()
        found = float(follows(rotated, x, turns))
        backwards = _apart(rotated, x, turns, -turns // 4)
        assert abs(found - backwards) > 1e-9, (
            "The turns moved the wrong way: `torch.rot90` turns against the clock, so they move to "
            "higher places."
        )
        assert found < 1e-9, (
            f"Rotated filters in {turns} turns follow exactly, yours says {found:.3f}. Turn the "
            "answer as well, and move the turns of each filter on by a quarter of their number."
        )
        wanted, got = _apart(plain, x, turns, turns // 4), float(follows(plain, x, turns))
        assert abs(got - wanted) < 1e-9, (
            f"A plain convolution is {wanted:.3f} from following, yours says {got:.3f}."
        )


@checker
def check_tap(tap):
    """tap(image, row, column, down, right) -> image (H, W) read at (row + down, column + right),
    bilinearly; what lies outside is 0.
    """
    image = _random(6, 8)
    steps = 6 * _random(30, 2, seed=1) - 3
    for down, right in [(0.0, 0.0), (0.5, 0.0), (0.0, -1.25), *steps.tolist()]:
        for row, column in ((2, 3), (0, 7), (5, 0)):
            at = [[row + down], [column + right]]
            wanted = ndimage.map_coordinates(image.numpy(), at, order=1, mode="grid-constant")[0]
            got = float(tap(image, row, column, down, right))
            swapped = [[row + right], [column + down]]
            other = ndimage.map_coordinates(image.numpy(), swapped, order=1, mode="grid-constant")
            assert abs(got - other[0]) > 1e-9 or abs(wanted - other[0]) < 1e-9, (
                "down and right are swapped: down adds to the row."
            )
            assert abs(got - wanted) < 1e-9, (
                f"At row {row} {down:+.2f}, column {column} {right:+.2f} it should read "
                f"{wanted:.3f}, yours reads {got:.3f}."
            )


answer = quiz({
    "ink": ("c", {
        "a": "It would, if the clutter were faint. It is as bright as the digit.",
        "b": "They do not learn: nothing tells them which ink is the digit's.",
        "c": "They weigh all ink alike: the middle is that of digit and clutter together.",
        "d": "True: they divide by the ink. But that harms no digit that lies alone.",
    }),
    "turns": ("b", {
        "a": "The turns are there at once, before training.",
        "b": "Its filters stand 45 degrees apart, none at 10: it follows about as plain ones do.",
        "c": "Only what looks the same when turned gives the same answer. These filters do not.",
        "d": "It names no angle. It hands on the answers of all eight turns.",
    }),
    "canon": ("d", {
        "a": "More epochs show it the same 15 degrees again.",
        "b": "A larger net could answer larger turns. Nothing in training asks it to.",
        "c": "Fresh poses are the same poses, drawn again.",
        "d": "Only these ask for such a turn. `beyond_range` measures what is read without them.",
    }),
})  # fmt: skip
