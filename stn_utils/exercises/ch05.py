"""Chapter 05: coordinates, a CoordConv layer without the popular one's mistakes, the picture that
it adds, and questions.
"""

import torch

from ..layers import CoordConv2d
from ..layers import coordinates as reference
from . import checker, expect_shape, hunter, quiz


@checker
def check_channels(channels):
    """channels(height, width) -> (2, height, width), x then y, from -1 to 1."""
    for height, width in ((5, 9), (3, 3), (4, 2)):
        got = channels(height, width)
        expect_shape(got, (2, height, width), f"channels({height}, {width})")
        wanted = reference(height, width)
        assert not torch.allclose(got.float(), wanted.flip(0)) or height == width, (
            "x comes first, then y."
        )
        inside = got.abs().max() < 0.999
        assert not inside, "The outermost pixels are at exactly -1 and 1: corner to corner."
        assert torch.allclose(got.float(), wanted), (
            "x grows along a row, y down a column, both evenly from -1 to 1."
        )


def _live_weight(layer):
    """The weight (out, 2 + 3, k, k) of a layer for two channels: over them, x, y and the radius."""
    return next((p for p in layer.parameters() if p.ndim == 4 and p.shape[1] == 5), None)


@torch.no_grad()
def _seen(layer_class, height, width):
    """The three channels that a layer adds, read out with a 1x1 kernel that copies them."""
    layer = layer_class(2, 3, 1)
    for p in layer.parameters():
        p.zero_()
    weight = _live_weight(layer)
    weight[[0, 1, 2], [2, 3, 4]] = 1
    return layer(torch.zeros(1, 2, height, width))[0]


def _dead(layer_class):
    layer = layer_class(2, 4, 3)
    layer(torch.rand(2, 2, 6, 6)).square().sum().backward()
    dead = [name for name, p in layer.named_parameters() if p.grad is None or not p.grad.any()]
    return f"weights that never get a gradient: {', '.join(dead)}" if dead else None


def _off_centre(layer_class):
    radius = _seen(layer_class, 7, 7)[2]
    row, column = divmod(radius.argmin().item(), 7)
    if (row, column) != (3, 3):
        where = f"row {row}, column {column}, from 0"
        return f"on a 7x7 image the radius is smallest in {where}; the centre is 3, 3"
    return (
        None
        if torch.allclose(radius, reference(7, 7, radius=True)[2])
        else "the radius is not that of x and y"
    )


def _not_square(layer_class):
    x, y = _seen(layer_class, 5, 9)[:2]
    for name, values, right in zip("xy", (x, y), reference(5, 9)):
        if not torch.allclose(values, right, atol=1e-5):
            ends = f"from {values.min():.2g} to {values.max():.2g}"
            return f"on a 5x9 image {name} runs {ends}, not evenly from -1 to 1"
    return None


def _elsewhere(layer_class):
    try:
        layer_class(2, 4, 3).to("meta")(torch.rand(1, 2, 6, 6, device="meta"))
        layer_class(2, 4, 3).to(torch.bfloat16)(torch.rand(1, 2, 6, 6).to(torch.bfloat16))
    except (RuntimeError, NotImplementedError):
        return "its coordinates do not follow the image to another device, or into another dtype"
    return None


FAULTS = (_dead, _off_centre, _not_square, _elsewhere)


# It takes a CoordConv layer with radius: layer_class(in_channels, out_channels, kernel_size).
hunt = hunter(FAULTS)


@checker
def check_layer(layer_class):
    """layer_class(in_channels, out_channels, kernel_size): a CoordConv with x, y and radius, none
    of the mistakes.
    """
    assert issubclass(layer_class, torch.nn.Module), "Hand in the class, a torch.nn.Module."
    layer = layer_class(2, 4, 3)
    assert _live_weight(layer) is not None, (
        "Somewhere there should be one weight (out, in + 3, k, k)."
    )
    for look in FAULTS:
        fault = look(layer_class)
        assert fault is None, f"{fault[0].upper()}{fault[1:]}."


@checker
def check_added(added):
    """added(layer, height, width) -> the picture (out, h, w) that the coordinates add to the output
    for every image.
    """
    for radius in (False, True):
        torch.manual_seed(0)
        layer = CoordConv2d(3, 4, 3, radius=radius)
        plain = torch.nn.Conv2d(3, 4, 3)
        plain.weight.data, plain.bias.data = layer.weight.data[:, :3], layer.bias.data
        x = torch.rand(1, 3, 6, 8)
        wanted = (layer(x) - plain(x))[0].detach()
        got = added(layer, 6, 8)
        expect_shape(got, wanted.shape, "the added picture")
        bias = layer.bias.detach().view(-1, 1, 1)
        assert not torch.allclose(got, wanted + bias, atol=1e-5), (
            "The bias is there without coordinates, too: leave it out."
        )
        assert torch.allclose(got, wanted, atol=1e-5), (
            "Convolve the coordinates alone, with their own part of the weights."
        )


answer = quiz({
    "patch": ("a", {
        "a": "The same weights meet the same values. That is what equivariance says.",
        "b": "Its weights are the same at every place; nothing tells it left from right.",
        "c": "It sees the patch, at both places, and its answer peaks there.",
        "d": "A larger kernel sees more around the patch, and still answers alike at both places.",
    }),
    "stop": ("d", {
        "a": "The held-out places decided when to stop, so they no longer test anything.",
        "b": "It may have trained too little or enough; the score cannot say, it was chosen.",
        "c": "Nothing is above 100 %, and a later epoch may well be worse.",
        "d": "Of many epochs the luckiest was kept. Stop by something else, then read them once.",
    }),
    "power": ("b", {
        "a": "Even if it were there, 97 of 100 such studies would find nothing.",
        "b": "Finding nothing was nearly certain, with or without an effect. Read the interval.",
        "c": "Power is how often a true effect is found, not how likely the effect is.",
        "d": "They are right. There are too few seeds for the question.",
    }),
})  # fmt: skip
