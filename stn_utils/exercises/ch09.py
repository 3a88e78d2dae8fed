"""Chapter 09: a window that knows the answer, the filter that a turned picture wants, how far a
filter is from following a turn, a bank of turned filters that follows it, and questions.
"""

import torch
import torch.nn.functional as F
from torch import nn

from ..models import build
from . import checker, expect_shape, quiz


class Told(nn.Module):
    """A localization net that is told theta (B, 2, 3), and does not look."""

    def __init__(self, theta):
        super().__init__()
        self.theta = theta

    def forward(self, x):
        return self.theta.flatten(1)


def perfect(run, at, theta):
    """The network of a plain CNN's Run, with a transformer that is told theta (B, 2, 3)."""
    net = build(run.experiment.replace(model="stnet", at=at), run.spec)
    net.load_state_dict(run.weights, strict=False)
    transformer = net.transformer if at == "input" else net.inside[0]
    transformer.localization = Told(theta)
    return net.eval()


def _random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _turn(x, quarters):
    """x (..., H, W), a quarter turn clockwise on the screen, so many times."""
    return torch.rot90(x, -quarters, (-2, -1))


def mismatch(f, change, x):
    """How far f, from pictures to maps, is from following a change: 0 if it follows exactly."""
    first, second = f(change(x)), change(f(x))
    return ((first - second).norm() / second.norm()).item()


@checker
def check_partner(partner):
    """partner(kernel) -> the kernel (1, 1, k, k) whose map of a picture that is turned a quarter
    counter-clockwise is the turned map of `kernel`.
    """
    for size in (2, 3, 5):
        kernel, x = _random(1, 1, size, size, seed=size), _random(2, 1, 9, 9)
        wanted = _turn(F.conv2d(x, kernel), -1)
        got = partner(kernel)
        expect_shape(got, kernel.shape, "partner(kernel)")
        found = F.conv2d(_turn(x, -1), got.to(kernel))
        back = F.conv2d(_turn(x, -1), _turn(kernel, 1))
        assert not torch.allclose(found, back), "It turns the wrong way: clockwise."
        unturned = torch.allclose(got.to(kernel), kernel)
        assert not unturned, "That is the kernel itself; it has to turn along with the picture."
        mirrored = any(torch.allclose(got.to(kernel), kernel.flip(dim)) for dim in (-1, -2))
        mirrored = mirrored or torch.allclose(got.to(kernel), kernel.transpose(-1, -2))
        assert not mirrored, "A mirror image is no turn."
        assert torch.allclose(found, wanted), "Its map of the turned picture is another one."


@checker
def check_mismatch(mismatch_of):
    """mismatch_of(f, turn, x) -> |f(turn(x)) - turn(f(x))| / |turn(f(x))|, norms of everything."""
    x, kernel = _random(2, 1, 8, 8), _random(3, 1, 3, 3, seed=1)

    def f(x):
        return F.conv2d(x, kernel)

    for name, change in (
        ("a quarter turn", lambda x: _turn(x, 1)),
        ("a mirror", lambda x: x.flip(-1)),
    ):
        first, second = f(change(x)), change(f(x))
        wanted = mismatch(f, change, x)
        got = float(mismatch_of(f, change, x))
        absolute = (first - second).norm().item()
        assert abs(got - absolute) > 1e-6, "Divide by the size of the map, or it has no scale."
        squared = (first - second).square().sum() / second.square().sum()
        assert abs(got - squared.item()) > 1e-6, "That is its square: take the norms."
        assert abs(got - wanted) < 1e-6, f"For {name} it is {wanted:.4f}, yours says {got:.4f}."
    got = float(mismatch_of(f, lambda x: x, x))
    assert abs(got) < 1e-9, f"Nothing is changed, so nothing is amiss; yours says {got:.4f}."


@checker
def check_bank(bank):
    """bank(x, kernel) -> (B, 1, h, w): the largest answer of the kernel's four quarter turns,
    place by place.
    """
    x, kernel = _random(2, 1, 9, 9), _random(1, 1, 3, 3, seed=2)
    answers = torch.stack([F.conv2d(x, _turn(kernel, quarters)) for quarters in range(4)])
    wanted = answers.amax(dim=0)
    got = bank(x, kernel)
    expect_shape(got, wanted.shape, "bank(x, kernel)")
    for meaning in ("mean", "sum"):
        other = getattr(answers, meaning)(dim=0)
        assert not torch.allclose(got, other), (
            f"That is the {meaning} of the four: take the largest."
        )
    assert torch.allclose(got, wanted), "The largest of all four quarter turns, at every place."
    assert torch.allclose(bank(_turn(x, 1), kernel), _turn(got, 1)), "It does not follow a turn."


answer = quiz({
    "map": ("c", {
        "a": "Then its values would be those of the upright map, moved. Compare the largest ones.",
        "b": "However far you turn, values move and no new ones are made.",
        "c": "A warp moves and mixes the values that are there. None is above 2: so there is no 3.",
        "d": "Each picture has its own map, but the values at hand are the limit for all of them.",
    }),
    "ceiling": ("b", {
        "a": "The window was the true pose. No training can find a better one.",
        "b": "The filters answer otherwise to a turned stroke, and no warp turns a filter.",
        "c": "A turn by 90 degrees moves pixels onto pixels: nothing is blurred.",
        "d": "A square that turns by 90 degrees covers itself: no corner is lost.",
    }),
    "shift": ("d", {
        "a": "By two pixels they do agree: that is equivariance.",
        "b": "A turn by 15 degrees may move pixels less than a shift. Size is not what counts.",
        "c": "The padding is the blank picture's answer, as it would be for the shifted picture.",
        "d": "A shift moves the answers and changes none, so the map can be shifted instead.",
    }),
})  # fmt: skip
