"""Chapter 06: unrolling warps, one more look, coming to rest."""

import torch

from .. import warp
from . import checker, expect_shape


def _thetas(count, seed=0):
    random = torch.Generator().manual_seed(seed)
    moved = torch.randn(count, 1, 2, 3, dtype=torch.float64, generator=random)
    return list(torch.eye(2, 3, dtype=torch.float64) + 0.3 * moved)


@checker
def check_unroll(unroll):
    """unroll(steps) -> the one theta (1, 2, 3) of looking through all steps, the first first."""
    steps = _thetas(4)
    corners = torch.tensor(
        [[-1.0, 1, 0], [-1, 0.5, 0], [1, 1, 1]], dtype=torch.float64
    )  # three points, homogeneous
    points = corners
    for step in reversed(steps):  # a point of the last picture, traced back to the first
        points = torch.cat([step[0] @ points, torch.ones(1, 3, dtype=torch.float64)])
    wanted = points[:2] @ torch.linalg.inv(corners)
    got = unroll(list(steps))
    expect_shape(got, (1, 2, 3), "the theta")
    backwards = steps[-1]
    for step in steps[-2::-1]:
        backwards = warp.compose(backwards, step)
    assert not torch.allclose(got, backwards), (
        "The order: the first step is looked through first, so it stands leftmost."
    )
    assert torch.allclose(got[0], wanted), "compose them one by one, from the first on."
    assert torch.allclose(unroll(steps[:1]), steps[0]), "A single step unrolls to itself."


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
