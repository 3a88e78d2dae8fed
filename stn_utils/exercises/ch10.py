"""Chapter 10: from a box to a window, what a window gains, how well two windows agree, and
questions.
"""

import torch

from ..warp import affine, overlap
from . import checker, expect_shape, quiz


def _boxes(count, seed=0):
    """Random boxes (x, y, width, height) in pixels, inside pictures (width, height)."""
    random = torch.Generator().manual_seed(seed)
    for _ in range(count):
        wide, high = (int(side) for side in torch.randint(40, 200, (2,), generator=random))
        shares = torch.rand(4, generator=random, dtype=torch.float64)
        x, y = (0.8 * shares[:2] * torch.tensor([wide, high])).tolist()
        width, height = (wide - x) * (0.1 + 0.9 * shares[2]), (high - y) * (0.1 + 0.9 * shares[3])
        yield (x, y, float(width), float(height)), (wide, high)


@checker
def check_theta_of_box(theta_of_box):
    """theta_of_box(box, size) -> theta (1, 2, 3), float64: box (x, y, width, height) in pixels from
    the top left corner, size (width, height) of the picture.
    """
    for (x, y, width, height), (wide, high) in _boxes(20):
        got = theta_of_box((x, y, width, height), (wide, high))
        expect_shape(got, (1, 2, 3), "theta_of_box(box, size)")
        got = got.double()
        scale = torch.tensor([width / wide, height / high], dtype=torch.float64)
        middle = torch.tensor([(2 * x + width) / wide - 1, (2 * y + height) / high - 1])
        corner = torch.tensor([2 * x / wide - 1, 2 * y / high - 1])
        shift = got[0, :, 2]
        assert not torch.allclose(shift, corner.double()), (
            "Its last column is the box's corner: it should be the middle."
        )
        assert not torch.allclose(shift, middle.flip(0).double()) or wide == high, (
            "x and y are swapped: the first line of theta speaks of x."
        )
        assert torch.allclose(got[0, [0, 1], [0, 1]], scale), (
            f"Its diagonal should be {scale.tolist()}, the box's share of the picture's sides."
        )
        assert torch.allclose(shift, middle.double()), (
            f"Its last column should be {middle.tolist()}: -1 is the left edge, 1 the right one."
        )
        assert not got[0, [0, 1], [1, 0]].any(), "A box is not turned: two of the six are zero."


@checker
def check_pixels_on(pixels_on):
    """pixels_on(bird, canvas, output, scale) -> pixels across the bird in what the network gets:
    bird of so many pixels on a canvas of `canvas`, a window of that scale, `output` pixels wide.
    """
    for bird, canvas, output, scale in [
        (60, 160, 96, 1.0),
        (60, 160, 96, 0.5),
        (30, 200, 64, 0.25),
    ]:
        wanted, got = bird / canvas / scale * output, float(pixels_on(bird, canvas, output, scale))
        whole = bird / canvas * output
        assert abs(got - whole) > 1e-6 or scale == 1, "The window's scale has to enter."
        assert abs(got - whole * scale) > 1e-6 or scale == 1, "A smaller window shows it larger."
        assert abs(got - wanted) < 1e-6, f"Expected {wanted:.1f}, yours says {got:.1f}."


@checker
def check_iou(iou):
    """iou(one, other) -> intersection over union of two windows (scale, x, y), squares in
    normalized coordinates.
    """
    random = torch.Generator().manual_seed(1)
    for _ in range(30):
        one, other = (
            [0.2 + 0.6 * s, x - 0.5, y - 0.5]
            for s, x, y in torch.rand(2, 3, generator=random, dtype=torch.float64).tolist()
        )
        looks = [affine(scale=s, shift_x=x, shift_y=y).double() for s, x, y in (one, other)]
        counted = overlap(*looks, size=(400, 400)).item()
        got = float(iou(one, other))
        assert got >= 0, "It is negative: two windows that are apart have nothing in common."
        assert got <= 1, "It is above 1: the union holds the common part once, not twice."
        assert abs(got - counted) < 0.01, (
            f"Of {one} and {other} it should be {counted:.2f}, counted; yours says {got:.2f}."
        )
    assert abs(float(iou((0.5, 0, 0), (0.5, 0, 0))) - 1) < 1e-9, "A window agrees with itself: 1."


answer = quiz({
    "frozen": ("b", {
        "a": "They are numbers like all others: a gradient can be taken with respect to the input.",
        "b": "Frozen says only that its weights are not changed. The chain rule runs through it.",
        "c": "That would be chapter 07's way, where the sampler has no gradient.",
        "d": "The linear layer learns, and the gradient goes on from it, back to the window.",
    }),
    "ceiling": ("c", {
        "a": "It was measured with the same features and the same number of pictures.",
        "b": "A window of the course's family: nothing is turned or bent.",
        "c": "It costs no training of a window, and says what there is to win.",
        "d": "It has the same ones. The question is what a window can win on them.",
    }),
    "resolution": ("a", {
        "a": "96 pixels across half the picture: twice as many on every part of the bird.",
        "b": "The window costs the localization net on top; the classifier's input stays 96x96.",
        "c": "The pictures are the same, and so is the number of them.",
        "d": "Its weights stay the same, with the window and without.",
    }),
})  # fmt: skip
