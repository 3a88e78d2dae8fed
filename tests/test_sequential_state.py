"""SequentialTransformer: a state that is carried, and S0's mistake of bounding theta."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_looks import moving, new, noise
from torch import nn

from stn_utils.models.sequential import RECURRENCES
from stn_utils.warp import identity

# ---- the state ----


def after_two_steps_of_the_optimizer(layer, x, target):
    """The gradients of the second step, by name."""
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.01)
    for _ in range(2):
        optimizer.zero_grad()
        F.mse_loss(layer(x), target).backward()
        optimizer.step()
    return {name: p.grad for name, p in layer.named_parameters()}


@pytest.mark.parametrize("steps", [2, 3, 5])
def test_every_weight_gets_a_gradient_from_the_second_step_of_the_optimizer_on(steps):
    grads = after_two_steps_of_the_optimizer(
        new(steps, ways=["cell"]), noise(4, 1, 12, 12), noise(4, 1, 12, 12, seed=2)
    )
    dead = [name for name, grad in grads.items() if grad is None or not grad.count_nonzero()]
    assert not dead
    assert grads["cell.weight_hh"].count_nonzero() == grads["cell.weight_hh"].numel()


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("steps", [1, 2, 4])
def test_recurrent_weights_learn_where_a_state_is_carried_and_nowhere_else(recurrence, steps):
    layer = new(steps, ways=RECURRENCES[recurrence])
    grads = after_two_steps_of_the_optimizer(
        layer, noise(4, 1, 12, 12), noise(4, 1, 12, 12, seed=2)
    )
    carried = recurrence in ("corrected", "blind", "s0-remembers") and steps > 1
    if "cell" in RECURRENCES[recurrence]:
        assert bool(grads.pop("cell.weight_hh").any()) == carried
    assert all(grad.any() for grad in grads.values())


def test_a_carried_state_changes_the_second_look_and_not_the_first():
    x = noise(2, 1, 8, 8)
    layer = moving(3, ways=["cell"])
    before = layer.looks(x)
    with torch.no_grad():
        layer.cell.weight_hh.add_(1.0)
    after = layer.looks(x)
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-4)


# ---- bounded ----

EXTREMES = [1.0, 1e3, -1e3, 1e6, -1e6]


def bounded(steps, recurrence, seed):
    """A bounded transformer whose cell is driven as far as it goes."""
    layer = new(steps, ways=RECURRENCES[recurrence], seed=seed)
    with torch.no_grad():
        for weight in layer.cell.parameters():
            nn.init.normal_(weight, std=30.0)
    return layer


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("recurrence", ["s0", "s0-looks"])
def test_a_bounded_theta_without_a_state_stays_within_the_tangent_of_1_whatever_the_input(
    recurrence, seed
):
    layer = bounded(4, recurrence, seed)
    largest = max(
        theta.abs().max().item()
        for value in EXTREMES
        for theta in layer.looks(value * noise(8, 1, 8, 8))
    )
    assert 0.75 < largest <= math.tanh(1) + 1e-6 < 0.762


def test_a_bounded_theta_with_a_carried_state_stays_below_1_and_its_first_look_within_the_tangent_of_1():
    largest = torch.zeros(4)
    for seed in range(3):
        layer = bounded(4, "s0-remembers", seed)
        for value in EXTREMES:
            found = torch.stack(
                [theta.abs().max() for theta in layer.looks(value * noise(8, 1, 8, 8))]
            )
            largest = largest.maximum(found)
    limits = torch.tensor([1.0, 2, 3, 4]).tanh()  # a cell adds at most 1 to its state a step
    assert (largest <= limits + 1e-6).all()
    assert largest[1] > math.tanh(1) + 0.05


@pytest.mark.parametrize(
    "recurrence", [name for name, mistakes in RECURRENCES.items() if "bounded" in mistakes]
)
def test_a_bounded_transformer_cannot_look_at_the_picture_as_it_is(recurrence):
    x = noise(8, 1, 8, 8)
    for layer in (new(2, ways=RECURRENCES[recurrence]), bounded(2, recurrence, 0)):
        assert not hasattr(layer, "memory")
        for theta in layer.looks(x):
            assert (theta - identity()).abs().amax(dim=(1, 2)).min() > 1 - math.tanh(2)


def test_an_unbounded_one_can_zoom_out_beyond_every_bound():
    layer = new(1, ways=RECURRENCES["s0-unbounded"])
    with torch.no_grad():
        layer.localization[-1].bias.mul_(5)
    assert torch.equal(layer.looks(noise(2, 1, 6, 6))[0], 5 * identity(2))
