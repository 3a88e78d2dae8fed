"""SequentialTransformer: identity at the start, one warp of the original, by hand, resampled."""

import functools

import pytest
import torch
import torch.nn.functional as F
from tiny_looks import SPEC, moving, new, noise, seen_by_localization, soft
from torch import nn

from stn_utils.experiment import Experiment
from stn_utils.models import build
from stn_utils.models.sequential import RECURRENCES
from stn_utils.warp import PADDINGS, affine, compose, identity, warp

SHAPES = [(3, 1, 28, 28), (2, 3, 5, 9), (2, 6, 7, 6), (1, 1, 2, 2)]


# ---- the start ----


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_new_transformer_looks_at_the_whole_picture_in_every_step_and_passes_it_through(
    steps, shape
):
    x = 20 * noise(*shape) - 10
    layer = new(steps, shape[1])
    looks = layer.looks(x)
    assert len(looks) == steps
    assert all(torch.equal(theta, identity(len(x))) for theta in looks)
    torch.testing.assert_close(layer(x), x, atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [(14, 14), (3, 11), (40, 20)])
@pytest.mark.parametrize("resample", [False, True])
def test_a_new_transformer_with_another_output_size_resizes_once(size, resample):
    x = noise(2, 3, 28, 20)
    layer = new(3, 3, size=size, padding="border", resample=resample)
    resized = F.interpolate(x, size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(layer(x), resized, atol=1e-4, rtol=0)


def test_the_start_is_the_identity_through_an_experiment_whatever_the_world():
    x = noise(4, 1, 28, 28)
    for steps in (1, 5):
        net = build(Experiment(model="sequential", steps=steps), SPEC)
        assert [theta.tolist() for theta in net.looks(x)] == [identity(4).tolist()] * steps
        torch.testing.assert_close(net.warped(x), x, atol=2e-4, rtol=0)


# ---- one warp of the original ----


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [None, (4, 6), (9, 12)])
def test_the_output_is_one_warp_of_the_original_by_the_last_theta_at_the_size_asked_for(
    size, padding
):
    x = noise(3, 2, 7, 9)
    layer = moving(3, 2, size=size, padding=padding, background=0.25)
    looks = layer.looks(x)
    assert not any(torch.allclose(one, other, atol=1e-2) for one, other in zip(looks, looks[1:]))
    assert not torch.allclose(looks[-1][0], looks[-1][1], atol=1e-3)
    torch.testing.assert_close(layer(x), warp(x, looks[-1], size, padding, 0.25))


@pytest.mark.parametrize("mistakes", RECURRENCES.values(), ids=RECURRENCES)
def test_whatever_its_mistakes_the_output_is_one_warp_of_the_original(mistakes):
    x = noise(3, 1, 8, 8)
    layer = moving(3, size=(5, 5), ways=mistakes)
    torch.testing.assert_close(layer(x), warp(x, layer.looks(x)[-1], (5, 5)))


@pytest.mark.parametrize("mistakes", RECURRENCES.values(), ids=RECURRENCES)
def test_the_looks_of_fewer_steps_are_the_first_of_more(mistakes):
    x = noise(2, 1, 9, 9)
    layer = moving(5, size=(4, 4), ways=mistakes)
    five = layer.looks(x)
    for steps in (1, 3):
        layer.steps = steps  # a step is as large as before
        fewer = layer.looks(x)
        assert len(fewer) == steps
        for ours, theirs in zip(fewer, five):
            torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("steps", [2, 5])
def test_an_update_moves_the_window_as_far_as_with_one_look(steps):
    moved = []
    for count in (1, steps):
        layer, x = new(count), soft(4, 12)
        optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
        F.mse_loss(layer(x), x.roll(1, dims=3)).backward()
        optimizer.step()
        moved.append((layer.looks(x)[-1] - identity()).detach())
    torch.testing.assert_close(*moved, rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("padding", ["zeros", "background"])
def test_the_localization_net_sees_what_the_steps_before_have_made_of_the_original(padding):
    x = noise(3, 1, 12, 10)
    layer = moving(4, size=(5, 5), padding=padding, background=-0.3)
    looks = layer.looks(x)
    seen, _ = seen_by_localization(layer, x)
    assert len(seen) == 4 and torch.equal(seen[0], x)
    for view, theta in zip(seen[1:], looks):  # at the input's size, though the output is smaller
        torch.testing.assert_close(view, warp(x, theta, (12, 10), padding, -0.3))
        assert not torch.allclose(view, x, atol=0.05)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_a_blind_localization_net_sees_the_untouched_picture_in_every_look(recurrence):
    blind = "blind" in RECURRENCES[recurrence]
    assert blind == (recurrence in ("blind", "s0", "s0-remembers", "s0-unbounded"))
    x = noise(2, 1, 8, 8)
    seen, _ = seen_by_localization(moving(3, ways=RECURRENCES[recurrence]), x)
    assert [torch.equal(view, x) for view in seen] == [True, blind, blind]


# ---- by hand ----


def cell_by_hand(cell, inputs, state):
    """An LSTM cell in its textbook's formulas; returns (h, c)."""
    h, c = (
        state
        if state
        else (torch.zeros(len(inputs), 6).to(inputs), torch.zeros(len(inputs), 6).to(inputs))
    )
    gates = inputs @ cell.weight_ih.T + cell.bias_ih + h @ cell.weight_hh.T + cell.bias_hh
    i, f, g, o = gates.split(6, dim=1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def look(x, theta, size):
    grid = F.affine_grid(theta, (len(x), x.shape[1], *size), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def through(first, then):
    """The theta of looking through `first`, then through `then`."""
    left, right = first[:, :, :2], then[:, :, :2]
    return torch.cat([left @ right, left @ then[:, :, 2:] + first[:, :, 2:]], dim=2)


def by_hand(layer, x, size, mistakes, resample):
    """The thetas and the output, in plain operations with the layer's weights."""
    theta, state, seen, thetas = torch.eye(2, 3).repeat(len(x), 1, 1).to(x), None, x, []
    for number in range(layer.steps):
        shown = seen if "attached" in mistakes else seen.detach()
        numbers = layer.localization(x if number == 0 or "blind" in mistakes else shown)
        h, memory = torch.zeros(len(x), 6).to(x), torch.zeros(6, 6).to(x)
        if "cell" in mistakes:
            inputs = torch.cat([numbers, theta.flatten(1)], dim=1)
            state = cell_by_hand(layer.cell, inputs, state)
            h, memory = state[0], getattr(layer, "memory", layer.localization[-1]).weight
        if "forgets" in mistakes:
            state = None
        if "bounded" in mistakes:
            theta = step = h.view(-1, 2, 3)
        else:
            whole = (numbers + h @ memory.T).view(-1, 2, 3)
            parts = 1 if "whole" in mistakes else layer.steps
            step = torch.eye(2, 3) + (whole - torch.eye(2, 3)) / parts
            theta = through(theta, step)
        thetas.append(theta)
        here = size if number == layer.steps - 1 else x.shape[-2:]
        seen = look(seen, step, here) if resample else look(x, theta, here)
    return thetas, seen


CASES = [(name, False) for name in RECURRENCES] + [("corrected", True), ("composed", True)]


@pytest.mark.parametrize(
    "recurrence, resample", CASES, ids=[f"{name}{', resampled' * again}" for name, again in CASES]
)
def test_looks_output_and_gradients_are_those_of_plain_operations(recurrence, resample):
    mistakes = RECURRENCES[recurrence]
    layer = moving(3, 2, size=(4, 6), ways=mistakes, resample=resample).double()
    x = noise(3, 2, 7, 8).double().requires_grad_()
    found = []
    for looks, out in ((layer.looks(x), layer(x)), by_hand(layer, x, (4, 6), mistakes, resample)):
        layer.zero_grad()
        x.grad = None
        ((out * noise(4, 6, seed=2)).sum() + looks[-1].square().sum()).backward()
        found.append(
            [
                *looks,
                out,
                x.grad,
                *(
                    p.grad if p.grad is not None else torch.zeros_like(p)
                    for p in layer.parameters()
                ),
            ]
        )
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-7)


# ---- resampled ----


def test_one_step_resampled_is_one_step_composed():
    x = noise(3, 2, 9, 8)
    ours, theirs = (moving(1, 2, size=(6, 6), resample=resample)(x) for resample in (True, False))
    assert not torch.allclose(theirs, warp(x, identity(), (6, 6)), atol=0.05)
    assert torch.equal(ours, theirs)


class Scripted(nn.Module):
    """A localization net that takes given steps, whatever it is shown; of each the transformer takes a T-th."""

    def __init__(self, steps):
        super().__init__()
        self.script, self.number = (
            [identity() + len(steps) * (step - identity()) for step in steps],
            0,
        )

    def forward(self, x):
        self.number += 1
        return self.script[(self.number - 1) % len(self.script)].flatten(1).expand(len(x), 6)


SCRIPT = [affine(12, 0.95, 0.05), affine(-20, 1.05, 0, 0.06), affine(15, 0.9, -0.04, 0.02)]


def scripted(resample, size=None):
    layer = new(len(SCRIPT), resample=resample, size=size)
    layer.localization = Scripted(SCRIPT)
    return layer


def test_several_steps_resampled_differ_from_the_composed_ones_by_blur_alone():
    x, middle = soft(3, 48), (..., slice(12, 36), slice(12, 36))
    composed, resampled = scripted(False), scripted(True)
    for ours, theirs in zip(resampled.looks(x), composed.looks(x), strict=True):
        assert torch.equal(ours, theirs)
    torch.testing.assert_close(composed.looks(x)[-1][:1], functools.reduce(through, SCRIPT))
    away = (resampled(x) - composed(x))[middle].abs().max()
    assert 1e-5 < away < 0.01
    assert (composed(x) - x)[middle].abs().max() > 0.1
    sharp = noise(3, 1, 48, 48)  # and blur there is
    spread = [layer(sharp)[middle].std() for layer in (resampled, composed)]
    assert spread[0] < 0.9 * spread[1]


def test_a_resampled_picture_is_cut_at_every_step_and_a_composed_one_never():
    there, back = affine(shift_x=1.0), affine(shift_x=-1.0)
    x = noise(2, 1, 8, 8) + 0.1
    outputs = []
    for resample in (False, True):
        layer = new(2, resample=resample)
        layer.localization = Scripted([there, back])
        outputs.append(layer(x))
    torch.testing.assert_close(outputs[0], x, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        outputs[1], torch.cat([0 * x[..., :4], x[..., 4:]], dim=3), atol=1e-5, rtol=0
    )


def test_two_thetas_composed_by_hand_are_those_of_the_course():
    first, then = affine(30, 0.8, 0.1, -0.2, 0.3), affine(-50, 1.2, 0.4, 0.1, -0.1)
    torch.testing.assert_close(through(first, then), compose(first, then))
