"""Chapter 06: one more look, equal steps, coming to rest."""

import torch

from .. import warp
from . import checker, expect_shape, quiz

answer = quiz(
    {
        "compose": (
            "a",
            {
                "a": "A value between pixels is a mean of them; ten means in a row blur.",
                "b": "They do: composed first, the ten are the identity, and nothing is lost.",
                "c": "It turns about the middle of the canvas and stays on it.",
                "d": "A coarser turn needs fewer samplings, so it blurs less, not more.",
            },
        ),
        "cell": (
            "b",
            {
                "a": "It may have got one, and learned something that changes no answer.",
                "b": "As many are right. Whether the same ones are, you would have to compare.",
                "c": "One network says nothing of others; a study trains with it and without.",
                "d": "That is another question: train without it, and compare.",
            },
        ),
    }
)


def _thetas(count, seed=0):
    random = torch.Generator().manual_seed(seed)
    moved = torch.randn(count, 1, 2, 3, dtype=torch.float64, generator=random)
    return list(torch.eye(2, 3, dtype=torch.float64) + 0.3 * moved)


@checker
def check_equal_step(equal_step):
    """equal_step(theta, count) -> the step (1, 2, 3) that, composed count times, is theta."""
    turned = warp.affine(torch.tensor([70.0], dtype=torch.float64), scale=0.6, shift_x=0.3)
    for theta, count in ((turned, 3), (warp.affine(torch.tensor([-40.0]).double()), 5)):
        got = equal_step(theta, count)
        expect_shape(got, (1, 2, 3), "the step")
        got = torch.as_tensor(got, dtype=torch.float64)
        still = warp.identity(dtype=torch.float64)
        assert not torch.allclose(got, still + (theta - still) / count), (
            "A part of the difference is not a root: compose it count times, and see."
        )
        whole = still
        for _ in range(count):
            whole = warp.compose(whole, got)
        assert torch.allclose(whole, theta, atol=1e-6), (
            f"Composed {count} times it gives {whole[0].tolist()}, not {theta[0].tolist()}."
        )


@checker
def check_look(look):
    """look(x, theta, localize) -> theta after one more look."""
    random = torch.Generator().manual_seed(0)
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64, generator=random)
    theta, step = torch.cat(_thetas(2, seed=1)), torch.cat(_thetas(2, seed=2))
    seen = []

    def localize(pictures):
        seen.append(pictures)
        return step

    got = look(x, theta, localize)
    expect_shape(got, (2, 2, 3), "the new theta")
    assert len(seen) == 1, f"localize should be asked once, not {len(seen)} times."
    assert not torch.equal(seen[0], x), (
        "The net saw the untouched picture: it is blind to what theta has done."
    )
    assert torch.allclose(seen[0], warp.warp(x, theta)), "The net should see what theta shows of x."
    assert not torch.allclose(got, step), "The step alone forgets what was there before: compose."
    assert not torch.allclose(got, warp.compose(step, theta)), (
        "The order: theta first, then the step."
    )
    assert torch.allclose(got, warp.compose(theta, step)), "theta, then the step."


@checker
def check_at_rest(at_rest):
    """at_rest(thetas, tolerance) -> (B,), each picture's first look after which theta stays."""
    start = torch.eye(2, 3).repeat(4, 1, 1)
    moves = torch.tensor(
        [[0, 0, 0, 0], [1, 0, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1]]
    )  # look x picture: does it move?
    thetas = [start]
    for flags in moves[1:]:
        thetas.append(thetas[-1] + 0.5 * flags.view(4, 1, 1))
    thetas = [
        theta + 0.001 * number for number, theta in enumerate(thetas)
    ]  # a tremble, within the tolerance
    got = at_rest(thetas, 0.01)
    expect_shape(got, (4,), "the result")
    assert got.tolist() != [2, 0, 1, 2], (
        "Not the number of moves: the last one counts, counted from 1."
    )
    assert got.tolist() != [2, 0, 2, 3] and got.tolist() != [3, 0, 2, 3], (
        "The first look has number 1."
    )
    assert got.tolist() != [3, 1, 1, 2], (
        "Not the first pause: the look after which it never moves again."
    )
    assert got.tolist() == [3, 1, 3, 4], f"Here it should be [3, 1, 3, 4], not {got.tolist()}."
