"""The reinforced transformer: its moves, what chooses them, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from tiny_policy import (
    LEFT,
    RIGHT,
    SIDE,
    SPEC,
    THREE,
    batch,
    made,
    net_of,
    noise,
    opinionated,
    product,
)
from torch import nn

from stn_utils.actions import ACTIONS, STAY, matrices
from stn_utils.experiment import Experiment, choices
from stn_utils.models import Policy, ReinforcedTransformer, build
from stn_utils.warp import PADDINGS, affine, identity, on_shape, warp

# ---- the moves ----


@pytest.mark.parametrize("kind", choices("policy"))
def test_two_passes_in_evaluation_agree_and_leave_the_global_random_state_alone(kind):
    transformer, (x, _) = made(kind), batch(8, 28)
    transformer = (opinionated(transformer) if transformer.policy else transformer).eval()
    thetas, outputs = [], []
    for state in (1, 2):
        torch.manual_seed(state)
        before = torch.get_rng_state()
        thetas.append(torch.stack(transformer.looks(x)))
        outputs.append(transformer(x))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(*thetas) and torch.equal(*outputs)
    different = len({tuple(theta.flatten().tolist()) for theta in thetas[0][-1]})
    assert different == 1 if kind == "identity" else different > 2


def test_in_evaluation_the_random_control_draws_for_each_picture_whatever_the_batch():
    transformer, x = made("random", steps=4).eval(), noise(60, 1, 28, 28)
    moves = torch.stack(transformer.rollout(x).moves)
    for size in (1, 7, 30):
        parts = [torch.stack(transformer.rollout(part).moves) for part in x.split(size)]
        assert torch.equal(torch.cat(parts, dim=1), moves)
    assert len({tuple(drawn) for drawn in moves.T.tolist()}) > 40  # of 60 pictures


@pytest.mark.parametrize("kind", ["learned", "without-memory", "random"])
def test_in_training_draws_differ_and_follow_the_global_random_state(kind):
    transformer, x = made(kind).train(), noise(8, 1, 28, 28)
    chosen = []
    for state in (1, 2, 1):
        torch.manual_seed(state)
        chosen.append(torch.stack(transformer.rollout(x)[4]))
    assert not torch.equal(chosen[0], chosen[1]) and torch.equal(chosen[0], chosen[2])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_control_that_never_moves_chooses_the_identity_wherever_it_stands(place, training):
    moves = [LEFT, RIGHT]
    moves.insert(place, STAY)
    transformer, x = made("identity", moves, size=(28, 28)).train(training), noise(5, 1, 28, 28)
    thetas, views, logits, values, chosen = transformer.rollout(x)
    assert all(torch.equal(theta, identity(5)) for theta in thetas)
    assert [move.tolist() for move in chosen] == [[place] * 5] * 3
    torch.testing.assert_close(views[-1], x, atol=1e-5, rtol=0)
    assert values == []


@pytest.mark.parametrize("training", [True, False])
def test_the_random_control_draws_every_move_as_often_as_any_other(training):
    torch.manual_seed(0)
    transformer = made("random", steps=4).train(training)
    chosen = torch.stack(transformer.rollout(noise(900, 1, 2, 2))[4])
    counts = chosen.flatten().bincount(minlength=9)
    assert (counts - 400).abs().max() < 100  # 5 standard deviations
    assert not torch.equal(chosen[0], chosen[1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", choices("policy"))
def test_at_the_start_all_logits_are_zero_so_every_move_is_as_likely(kind, training):
    transformer = made(kind).train(training)
    logits = transformer.rollout(20 * noise(6, 1, 28, 28) - 10)[2]
    assert len(logits) == 3 and all(torch.equal(logit, torch.zeros(6, 9)) for logit in logits)


def test_a_learned_policy_draws_by_its_chances_in_training_and_takes_the_likeliest_else():
    transformer = made(actions=THREE, steps=1)
    with torch.no_grad():
        transformer.policy.choice.bias.copy_(torch.tensor([0.2, 0.5, 0.3]).log())
    x = noise(1, 1, 16, 16).expand(2000, 1, 16, 16)
    torch.manual_seed(0)
    shares = transformer.train().rollout(x)[4][0].bincount(minlength=3) / 2000
    assert shares.tolist() == pytest.approx([0.2, 0.5, 0.3], abs=0.06)  # 5 standard deviations
    assert transformer.eval().rollout(x[:9])[4][0].tolist() == [1] * 9


class Script(nn.Module):
    """A policy that makes the moves (steps, B) of its script, and keeps what it was shown."""

    def __init__(self, moves, count):
        super().__init__()
        self.moves, self.count, self.shown = moves, count, []

    def forward(self, seen, last_move, state):
        number = state or 0
        self.shown.append((seen, last_move, state))
        return (
            1000.0 * F.one_hot(self.moves[number], self.count),
            torch.full((len(seen),), float(number)),
            number + 1,
        )


SCRIPT = torch.tensor([[1, 5, 0, 7], [5, 1, 8, 7], [3, 0, 2, 6], [0, 7, 1, 5]])  # (steps, B)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
def test_theta_is_the_product_of_the_chosen_moves_and_the_view_one_warp_of_the_original(
    padding, training
):
    moves, x = on_shape(matrices(ACTIONS["all"]), (20, 24)), noise(4, 2, 20, 24)
    options = dict(padding=padding, background=-0.4)
    transformer = ReinforcedTransformer(
        Script(SCRIPT, 9), ACTIONS["all"], 4, (9, 7), **options
    ).train(training)
    thetas, views, logits, values, chosen = transformer.rollout(x)
    assert (len(thetas), len(views), len(logits), len(values), len(chosen)) == (5, 5, 4, 4, 4)
    assert torch.equal(torch.stack(chosen), SCRIPT)
    for step, (theta, view) in enumerate(zip(thetas, views)):
        wanted = torch.stack([product(moves, SCRIPT[:step, image]) for image in range(4)])
        torch.testing.assert_close(theta, wanted, atol=1e-6, rtol=0)
        torch.testing.assert_close(view, warp(x, theta, (9, 7), padding, -0.4))
    assert all(
        torch.equal(one, other) for one, other in zip(transformer.looks(x), thetas[1:], strict=True)
    )
    assert torch.equal(transformer(x), views[-1])
    assert torch.equal(transformer.warp_through(x, thetas[2]), views[2])


def test_the_order_of_two_moves_matters():
    zoomed_then_left, left_then_zoomed = (
        product(matrices(ACTIONS["all"]), pair) for pair in ((5, 1), (1, 5))
    )
    assert zoomed_then_left[0, 2] == pytest.approx(-0.85 * 0.15) and left_then_zoomed[
        0, 2
    ] == pytest.approx(-0.15)


def test_the_policy_is_shown_the_view_so_far_its_last_move_and_its_own_state():
    script, x = Script(SCRIPT, 9), noise(4, 1, 20, 20)
    transformer = ReinforcedTransformer(script, ACTIONS["all"], 4, (9, 9)).eval()
    _, views, _, values, _ = transformer.rollout(x)
    assert [state for *_, state in script.shown] == [None, 1, 2, 3]
    assert [value.tolist() for value in values] == [[step] * 4 for step in (0.0, 1.0, 2.0, 3.0)]
    for step, (seen, last_move, _) in enumerate(script.shown):
        assert torch.equal(seen, views[step])
        wanted = torch.zeros(4, 9) if step == 0 else torch.eye(9)[SCRIPT[step - 1]]
        assert torch.equal(last_move, wanted)


def test_a_policy_carries_its_state_and_knows_its_last_move():
    policy = opinionated(made()).policy
    seen, nothing = noise(2, 1, SIDE, SIDE), torch.zeros(2, 9)
    logits, value, state = policy(seen, nothing, None)
    assert logits.shape == (2, 9) and value.shape == (2,)
    again, other_value, _ = policy(seen, nothing, state)
    assert not torch.allclose(again, logits, atol=1e-3) and not torch.allclose(
        other_value, value, atol=1e-4
    )
    moved, _, _ = policy(seen, torch.eye(9)[:2], None)
    assert not torch.allclose(moved, logits, atol=1e-3)


@pytest.mark.parametrize("side, channels, count", [(16, 1, 3), (17, 2, 5), (28, 3, 9), (42, 1, 2)])
def test_a_policy_takes_pictures_of_its_side_and_channels(side, channels, count):
    logits, value, _ = Policy(channels, (side, side), count)(
        noise(4, channels, side, side), torch.zeros(4, count), None
    )
    assert torch.equal(logits, torch.zeros(4, count)) and value.shape == (4,)


# ---- refused, and moved elsewhere ----


@pytest.mark.parametrize("steps", [0, -2])
def test_no_move_is_refused_by_name(steps):
    with pytest.raises(ValueError, match=f"steps: expected at least 1, got {steps}"):
        made(steps=steps)


@pytest.mark.parametrize(
    "wrong, near", [("leanred", "learned"), ("identical", "identity"), ("Random", "random")]
)
def test_an_unknown_policy_is_refused_and_the_nearest_named(wrong, near):
    with pytest.raises(ValueError, match=f"unknown policy '{wrong}'. Did you mean '{near}'"):
        made(wrong)
    with pytest.raises(ValueError, match=f"unknown policy '{wrong}'. Did you mean '{near}'"):
        Experiment(model="reinforced", policy=wrong)


def test_moves_that_cannot_be_undone_are_refused_when_the_transformer_is_built():
    with pytest.raises(ValueError, match="'flat' has determinant 0"):
        made("identity", [STAY, ("flat", affine(scale=0.0))])


@pytest.mark.parametrize("gamma", [-0.1, 1.01, float("nan"), float("inf")])
def test_a_gamma_outside_0_to_1_is_refused_by_name(gamma):
    with pytest.raises(ValueError, match="gamma: expected 0 to 1, got"):
        net_of(made("identity"), gamma=gamma)


@pytest.mark.parametrize("entropy", [-0.1, float("nan"), float("inf")])
def test_an_entropy_bonus_that_is_not_finite_is_refused_by_name(entropy):
    with pytest.raises(ValueError, match="entropy: expected a finite number from 0 on, got"):
        net_of(made("identity"), entropy_bonus=entropy)


def test_moves_and_background_are_stored_and_move_with_the_layer_and_are_not_trained():
    transformer = made(padding="background", background=-0.42)
    assert {"moves", "background"} <= transformer.state_dict().keys()
    assert not {"moves", "background"} & {name for name, _ in transformer.named_parameters()}
    twin = opinionated(transformer).double().eval()
    x = noise(3, 1, 20, 20).double()
    assert twin(x).dtype == twin.looks(x)[-1].dtype == torch.float64


@pytest.mark.parametrize("normalize", choices("normalize"))
def test_a_policy_gets_normalized_views_as_a_localization_net_would(normalize):
    torch.manual_seed(0)
    net = build(Experiment(model="reinforced", normalize=normalize, steps=1), SPEC).eval()
    seen = []
    for module in (
        next(m for m in net.transformer.policy.modules() if isinstance(m, nn.Conv2d)),
        net.classifier,
    ):
        module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = noise(2, 1, 28, 28)
    net(x)
    normalized = (x - 0.1307) / 0.3081
    wanted = {"before": (1, 1), "after": (0, 1), "localization": (1, 0), "none": (0, 0)}[normalize]
    for view, there in zip(seen, wanted, strict=True):
        torch.testing.assert_close(view, normalized if there else x, atol=2e-4, rtol=0)
