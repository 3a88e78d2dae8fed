"""The reinforced transformer: its policy gradient against the exact one, its moves, its rewards, and that it learns."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stn_utils.actions import ACTIONS, STAY, matrices
from stn_utils.experiment import Experiment, choices
from stn_utils.models import Policy, ReinforcedNet, ReinforcedTransformer, build, reinforced
from stn_utils.models.reinforced import entropy, policy_loss, returns
from stn_utils.warp import PADDINGS, affine, identity, warp

SPEC = dict(channels=1, canvas=28, view=28, classes=10, background=[0.0], mean=[0.1307], std=[0.3081])
SIDE = 16
LEFT, RIGHT = ("left", affine(shift_x=-0.25)), ("right", affine(shift_x=0.25))
THREE = [STAY, LEFT, RIGHT]
CONTROLS = ["identity", "random"]


def noise(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind="learned", actions="all", steps=3, size=(SIDE, SIDE), channels=1, seed=0, **options):
    """A transformer; its policy at its start."""
    torch.manual_seed(seed)
    actions = ACTIONS[actions] if isinstance(actions, str) else actions
    policy = Policy(channels, size[0], len(actions)) if kind == "learned" else None
    return ReinforcedTransformer(policy, actions, steps, size, kind=kind, **options)


@torch.no_grad()
def opinionated(transformer):
    """The same, its policy no longer undecided: every image has moves of its own."""
    torch.manual_seed(5)
    policy, side = transformer.policy, transformer.size[0]
    for layer in policy.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=2 / math.sqrt(layer.weight[0].numel()))
    nn.init.normal_(policy.choice.weight, std=4.0)
    seen = batch(50, side)[0].expand(50, policy.features[0].in_channels, side, side)
    policy.choice.bias -= policy(seen, torch.zeros(50, len(transformer.moves)), None)[0].mean(dim=0)  # no favourite
    return transformer


class Classifier(nn.Sequential):
    """A linear one with dropout in it."""

    def __init__(self, side=SIDE, classes=10, dropout=0.5):
        super().__init__(nn.Flatten(), nn.Dropout(dropout), nn.Linear(side * side, classes))


def net_of(transformer, classifier=None, **options):
    torch.manual_seed(3)
    classifier = classifier or Classifier(transformer.size[0])
    return ReinforcedNet(nn.Identity(), transformer, nn.Identity(), classifier, **options)


def batch(count=6, side=SIDE):
    """Pictures of a few soft spots each, and their classes."""
    spots = F.interpolate(noise(count, 1, 4, 4).pow(3), (side, side), mode="bilinear")
    return spots, torch.arange(count) % 10


# ---- returns and entropy, by hand ----

REWARDS = [[1.0, 0], [0, 2], [4, -1]]


@pytest.mark.parametrize(
    "gamma, wanted",
    [(0.0, REWARDS), (1.0, [[5, 1], [4, 1], [4, -1]]), (0.5, [[2, 0.75], [2, 1.5], [4, -1]])],
)
def test_a_return_is_the_reward_and_what_is_discounted_behind_it(gamma, wanted):
    for rewards in (torch.tensor(REWARDS), list(torch.tensor(REWARDS))):
        assert torch.equal(returns(rewards, gamma), torch.tensor(wanted))


def test_returns_are_the_sums_of_their_definition():
    rewards, gamma = numbers(6, 4), 0.9
    wanted = torch.stack([sum(gamma ** (t - start) * rewards[t] for t in range(start, 6)) for start in range(6)])
    torch.testing.assert_close(returns(rewards, gamma), wanted)
    assert torch.equal(returns(rewards[:1], gamma), rewards[:1])


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_entropy_of_the_undecided_is_the_logarithm_of_their_number(count):
    for level in (0.0, -7.0, 100.0):
        assert entropy([torch.full((5, count), level)] * 3).item() == pytest.approx(math.log(count), abs=1e-6)


def test_the_entropy_is_the_mean_over_steps_and_images_of_sums_by_hand():
    halves, sure = torch.tensor([0.5, 0.25, 0.25]).log(), torch.tensor([0.0, -1e4, -1e4])
    assert entropy([halves[None]]).item() == pytest.approx(1.5 * math.log(2))
    assert entropy([sure[None]]).item() == 0
    mixed = [torch.stack([halves, sure]), torch.stack([sure, sure])]
    assert entropy(mixed).item() == pytest.approx(1.5 * math.log(2) / 4)


# ---- the policy gradient ----


def two_steps():
    """A problem of two steps and three moves: what is preferred first, then after each first move, and the rewards."""
    return numbers(3, seed=1), numbers(3, 3, seed=2), numbers(3, seed=3), numbers(3, 3, seed=4)


def weighed_gradients(gamma, baseline=(0.0, 0.0)):
    """Gradients of -policy_loss, averaged over all nine trajectories weighed by their chances; nothing is drawn."""
    first, second, reward_1, reward_2 = two_steps()
    total_1, total_2 = torch.zeros_like(first), torch.zeros_like(second)
    for a, b in itertools.product(range(3), repeat=2):
        chance = first.softmax(0)[a] * second[a].softmax(0)[b]
        one, two = first.clone().requires_grad_(), second.clone().requires_grad_()
        gains = returns(torch.stack([reward_1[a], reward_2[a, b]])[:, None], gamma)
        gains = gains - torch.tensor(baseline)[:, None]
        loss = policy_loss([one[None], two[a][None]], [torch.tensor([a]), torch.tensor([b])], gains)
        loss.backward()
        total_1 -= 2 * chance * one.grad  # the loss is a mean over two steps
        total_2 -= 2 * chance * two.grad
    return total_1, total_2


def exact_gradients(gamma):
    """Gradients of the expected return from the first step on, and of the expected second reward."""
    first, second, reward_1, reward_2 = two_steps()
    first.requires_grad_(), second.requires_grad_()
    later = (second.softmax(1) * reward_2).sum(dim=1)
    chances = first.softmax(0)
    (from_first,) = torch.autograd.grad((chances * (reward_1 + gamma * later)).sum(), first, retain_graph=True)
    (from_second,) = torch.autograd.grad((chances * later).sum(), second)
    return from_first, from_second


@pytest.mark.parametrize("baseline", [(0.0, 0.0), (3.0, -2.0)], ids=["no baseline", "a baseline"])
@pytest.mark.parametrize("gamma", [1.0, 0.7, 0.0])
def test_the_policy_gradient_over_all_trajectories_is_the_exact_gradient_of_the_expected_return(gamma, baseline):
    for found, wanted in zip(weighed_gradients(gamma, baseline), exact_gradients(gamma), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)
        assert wanted.abs().max() > 0.01


def test_the_policy_loss_is_minus_the_mean_of_log_chances_times_advantages():
    logits, chosen, gains = numbers(4, 5, 3), torch.randint(3, (4, 5)), numbers(4, 5, seed=7)
    wanted = 0.0
    for step, image in itertools.product(range(4), range(5)):
        chance = logits[step, image].exp()[chosen[step, image]] / logits[step, image].exp().sum()
        wanted -= chance.log() * gains[step, image] / 20
    torch.testing.assert_close(policy_loss(list(logits), list(chosen), gains), wanted)
    torch.testing.assert_close(policy_loss(logits, chosen, gains), wanted)


def test_no_gradient_flows_into_the_advantages():
    gains = numbers(2, 3).requires_grad_()
    logits = numbers(2, 3, 4).requires_grad_()
    policy_loss(logits, torch.zeros(2, 3, dtype=torch.long), gains).backward()
    assert gains.grad is None and logits.grad.any()


@pytest.mark.parametrize("better", [0, 1])
def test_of_two_arms_the_better_one_is_soon_pulled_more_than_nine_times_in_ten(better):
    torch.manual_seed(0)
    logits = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([logits], lr=1.0)
    for _ in range(60):
        everyone = logits.expand(32, 2)
        arms = torch.multinomial(everyone.softmax(dim=1).detach(), 1)[:, 0]
        optimizer.zero_grad()
        policy_loss([everyone], [arms], (arms == better).double()[None]).backward()
        optimizer.step()
    assert logits.softmax(dim=0)[better] > 0.9


def test_the_gradient_differs_between_the_arms_and_raises_what_was_rewarded():
    gradients = []
    for arm in (0, 1):
        logits = torch.zeros(1, 2, requires_grad=True)
        policy_loss([logits], [torch.tensor([arm])], torch.ones(1, 1)).backward()
        gradients.append(logits.grad[0].tolist())
    assert gradients == [[-0.5, 0.5], [0.5, -0.5]]


# ---- the moves ----


@pytest.mark.parametrize("kind", choices("policy"))
def test_two_passes_in_evaluation_agree_and_leave_the_global_random_state_alone(kind):
    transformer, (x, _) = made(kind), batch(8, 28)
    transformer = opinionated(transformer).eval() if kind == "learned" else transformer.eval()
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


@pytest.mark.parametrize("kind", ["learned", "random"])
def test_in_training_draws_differ_and_follow_the_global_random_state(kind):
    transformer, x = made(kind).train(), noise(8, 1, 28, 28)
    chosen = []
    for state in (1, 2, 1):
        torch.manual_seed(state)
        chosen.append(torch.stack(transformer.episode(x)[4]))
    assert not torch.equal(chosen[0], chosen[1]) and torch.equal(chosen[0], chosen[2])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_control_that_never_moves_chooses_the_identity_wherever_it_stands(place, training):
    moves = [LEFT, RIGHT]
    moves.insert(place, STAY)
    transformer, x = made("identity", moves, size=(28, 28)).train(training), noise(5, 1, 28, 28)
    thetas, views, logits, values, chosen = transformer.episode(x)
    assert all(torch.equal(theta, identity(5)) for theta in thetas)
    assert [move.tolist() for move in chosen] == [[place] * 5] * 3
    torch.testing.assert_close(views[-1], x, atol=1e-5, rtol=0)
    assert values == [None] * 3


@pytest.mark.parametrize("training", [True, False])
def test_the_random_control_draws_every_move_as_often_as_any_other(training):
    torch.manual_seed(0)
    transformer = made("random", steps=4).train(training)
    chosen = torch.stack(transformer.episode(noise(900, 1, 2, 2))[4])
    counts = chosen.flatten().bincount(minlength=9)
    assert (counts - 400).abs().max() < 100  # 5 standard deviations
    assert not torch.equal(chosen[0], chosen[1])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", choices("policy"))
def test_at_the_start_all_logits_are_zero_so_every_move_is_as_likely(kind, training):
    transformer = made(kind).train(training)
    logits = transformer.episode(20 * noise(6, 1, 28, 28) - 10)[2]
    assert len(logits) == 3 and all(torch.equal(logit, torch.zeros(6, 9)) for logit in logits)


def test_a_learned_policy_draws_by_its_chances_in_training_and_takes_the_likeliest_else():
    transformer = made(actions=THREE, steps=1)
    with torch.no_grad():
        transformer.policy.choice.bias.copy_(torch.tensor([0.2, 0.5, 0.3]).log())
    x = noise(1, 1, 16, 16).expand(2000, 1, 16, 16)
    torch.manual_seed(0)
    shares = transformer.train().episode(x)[4][0].bincount(minlength=3) / 2000
    assert shares.tolist() == pytest.approx([0.2, 0.5, 0.3], abs=0.06)  # 5 standard deviations
    assert transformer.eval().episode(x[:9])[4][0].tolist() == [1] * 9


class Script(nn.Module):
    """A policy that makes the moves (steps, B) of its script, and keeps what it was shown."""

    def __init__(self, moves, count):
        super().__init__()
        self.moves, self.count, self.shown = moves, count, []

    def forward(self, seen, last_move, state):
        number = state or 0
        self.shown.append((seen, last_move, state))
        return 1000.0 * F.one_hot(self.moves[number], self.count), torch.full((len(seen),), float(number)), number + 1


def product(moves, numbers):
    """The matrices of those moves multiplied in their order, in float64 (2, 3)."""
    total = torch.eye(3, dtype=torch.float64)
    for number in numbers:
        total = total @ torch.cat([moves[number].double(), torch.tensor([[0, 0, 1.0]]).double()])
    return total[:2].float()


SCRIPT = torch.tensor([[1, 5, 0, 7], [5, 1, 8, 7], [3, 0, 2, 6], [0, 7, 1, 5]])  # (steps, B)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("padding", PADDINGS)
def test_theta_is_the_product_of_the_chosen_moves_and_the_view_one_warp_of_the_original(padding, training):
    moves, x = matrices(ACTIONS["all"]), noise(4, 2, 20, 24)
    options = dict(padding=padding, background=-0.4)
    transformer = ReinforcedTransformer(Script(SCRIPT, 9), ACTIONS["all"], 4, (9, 7), **options).train(training)
    thetas, views, logits, values, chosen = transformer.episode(x)
    assert (len(thetas), len(views), len(logits), len(values), len(chosen)) == (5, 5, 4, 4, 4)
    assert torch.equal(torch.stack(chosen), SCRIPT)
    for step, (theta, view) in enumerate(zip(thetas, views)):
        wanted = torch.stack([product(moves, SCRIPT[:step, image]) for image in range(4)])
        torch.testing.assert_close(theta, wanted, atol=1e-6, rtol=0)
        torch.testing.assert_close(view, warp(x, theta, (9, 7), padding, -0.4))
    assert all(torch.equal(one, other) for one, other in zip(transformer.looks(x), thetas[1:], strict=True))
    assert torch.equal(transformer(x), views[-1])
    assert torch.equal(transformer.view(x, thetas[2]), views[2])


def test_the_order_of_two_moves_matters():
    zoomed_then_left, left_then_zoomed = (product(matrices(ACTIONS["all"]), pair) for pair in ((5, 1), (1, 5)))
    assert zoomed_then_left[0, 2] == pytest.approx(-0.85 * 0.15) and left_then_zoomed[0, 2] == pytest.approx(-0.15)


def test_the_policy_is_shown_the_view_so_far_its_last_move_and_its_own_state():
    script, x = Script(SCRIPT, 9), noise(4, 1, 20, 20)
    transformer = ReinforcedTransformer(script, ACTIONS["all"], 4, (9, 9)).eval()
    _, views, _, values, _ = transformer.episode(x)
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
    assert not torch.allclose(again, logits, atol=1e-3) and not torch.allclose(other_value, value, atol=1e-4)
    moved, _, _ = policy(seen, torch.eye(9)[:2], None)
    assert not torch.allclose(moved, logits, atol=1e-3)


@pytest.mark.parametrize("side, channels, count", [(16, 1, 3), (17, 2, 5), (28, 3, 9), (42, 1, 2)])
def test_a_policy_takes_pictures_of_its_side_and_channels(side, channels, count):
    logits, value, _ = Policy(channels, side, count)(noise(4, channels, side, side), torch.zeros(4, count), None)
    assert torch.equal(logits, torch.zeros(4, count)) and value.shape == (4,)


# ---- the loss ----


def test_the_gradient_of_the_loss_reaches_every_weight_of_policy_and_classifier():
    net = net_of(opinionated(made())).train()
    net.loss(*batch(16)).backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"transformer", "classifier"}


@pytest.mark.parametrize("kind", CONTROLS)
def test_the_loss_of_a_control_is_the_plain_cross_entropy_and_it_has_no_policy(kind):
    net, (x, y) = net_of(made(kind)).train(), batch()
    assert net.transformer.policy is None and not list(net.transformer.parameters())
    for training in (True, False):
        net.train(training)
        torch.manual_seed(7)
        loss = net.loss(x, y)
        torch.manual_seed(7)
        assert torch.equal(loss, F.cross_entropy(net(x), y))
    built = build(Experiment(model="reinforced", policy=kind), SPEC)
    assert not list(built.transformer.parameters()) and built.notes(x) == {}


def test_the_controls_start_with_the_same_classifier():
    nets = []
    for kind in CONTROLS:
        torch.manual_seed(0)
        nets.append(build(Experiment(model="reinforced", policy=kind), SPEC).classifier.state_dict())
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def spied(monkeypatch, net, x, y):
    """What the loss hands to `returns` and to `policy_loss`: rewards (T, B) and advantages (T, B)."""
    found = {}

    def keep_rewards(rewards, gamma):
        found.update(rewards=torch.stack(list(rewards)), gamma=gamma)
        return returns(rewards, gamma)

    def keep_advantages(logits, chosen, advantages):
        found.update(advantages=advantages, chosen=torch.stack(list(chosen)), logits=torch.stack(list(logits)))
        return policy_loss(logits, chosen, advantages)

    with monkeypatch.context() as patch:
        patch.setattr(reinforced, "returns", keep_rewards)
        patch.setattr(reinforced, "policy_loss", keep_advantages)
        found["loss"] = net.loss(x, y)
    return found


def losses_by_hand(net, views, y):
    """The cross-entropy of every view and image (T + 1, B), a probability at a time, without dropout."""
    (_, _, last) = net.classifier
    logits = torch.stack(views).flatten(2) @ last.weight.T + last.bias
    return -logits.softmax(dim=2)[:, torch.arange(len(y)), y].log()


def test_the_loss_is_the_classifiers_and_the_policys_and_the_critics_by_hand(monkeypatch):
    net, (x, y) = net_of(opinionated(made(steps=3)), gamma=0.9, entropy=0.3).eval(), batch(8)
    found = spied(monkeypatch, net, x, y)
    _, views, logits, values, chosen = net.transformer.episode(x)
    losses, values = losses_by_hand(net, views, y), torch.stack(values)
    rewards = (losses[:-1] - losses[1:]).clamp(-2, 2)
    torch.testing.assert_close(found["rewards"], rewards, atol=1e-5, rtol=0)
    goal = torch.stack([sum(0.9 ** (t - s) * rewards[t] for t in range(s, 3)) for s in range(3)])
    advantages = (goal - values) / (goal - values).std(correction=0)
    torch.testing.assert_close(found["advantages"], advantages, atol=1e-4, rtol=1e-4)
    chances = torch.stack(logits).log_softmax(dim=2)
    taken = torch.stack([chances[t, torch.arange(8), chosen[t]] for t in range(3)])
    undecided = -(chances.exp() * chances).sum(dim=2).mean()
    wanted = losses[-1].mean() - (taken * advantages).mean() - 0.3 * undecided + 0.5 * (values - goal).square().mean()
    torch.testing.assert_close(found["loss"], wanted, atol=1e-4, rtol=1e-4)
    assert undecided > 0.1 and rewards.abs().max() > 0.01


def test_the_sum_of_an_images_rewards_is_what_its_loss_has_lost_unless_cut(monkeypatch):
    net, (x, y) = net_of(opinionated(made(steps=4))).eval(), batch(8)
    rewards = spied(monkeypatch, net, x, y)["rewards"]
    _, views, *_ = net.transformer.episode(x)
    losses = losses_by_hand(net, views, y)
    torch.testing.assert_close(rewards.sum(dim=0), losses[0] - losses[-1], atol=1e-5, rtol=0)


def test_no_reward_is_larger_than_2_either_way(monkeypatch):
    net, (x, y) = net_of(opinionated(made(steps=4))).eval(), batch(32)
    with torch.no_grad():
        net.classifier[2].weight.mul_(300)
    found = spied(monkeypatch, net, x, y)
    assert (found["rewards"].min().item(), found["rewards"].max().item()) == (-2, 2)
    assert found["loss"].isfinite()


def test_rewards_and_advantages_go_with_their_images_when_the_batch_is_permuted(monkeypatch):
    net, (x, y) = net_of(opinionated(made(steps=3))).eval(), batch(12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(4))
    ours, theirs = spied(monkeypatch, net, x, y), spied(monkeypatch, net, x[order], y[order])
    for name in ("rewards", "advantages", "chosen", "logits"):
        torch.testing.assert_close(theirs[name], ours[name][:, order], atol=1e-4, rtol=1e-4)
    assert ours["rewards"].std(dim=1).min() > 1e-3  # not the batch's mean for everyone
    torch.testing.assert_close(theirs["loss"], ours["loss"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.98, 1.0])
def test_gamma_reaches_the_returns(monkeypatch, gamma):
    net = build(Experiment(model="reinforced", gamma=gamma, entropy=0.7, classifier="fcn"), SPEC).eval()
    assert spied(monkeypatch, net, *batch(4, 28))["gamma"] == gamma
    assert net.entropy == 0.7


@pytest.mark.parametrize("training", [True, False])
def test_rewards_are_given_without_dropout_or_gradient_and_the_classifiers_mode_is_as_before(training):
    net, (x, y) = net_of(opinionated(made(steps=3))).train(training), batch()
    calls = []
    net.classifier[1].register_forward_pre_hook(lambda dropout, _: calls.append((dropout.training, torch.is_grad_enabled())))
    net.loss(x, y)
    assert sorted(calls, key=lambda call: call[1]) == [(False, False)] * 4 + [(training, True)]
    assert [module.training for module in net.modules()] == [training] * len(list(net.modules()))


def test_the_classifiers_mode_is_as_before_even_when_a_reward_fails():
    net, (x, y) = net_of(made()).train(), batch()
    with pytest.raises(RuntimeError):
        net._losses([x, x[:, :, :3]], y)
    assert all(module.training for module in net.modules())


def test_the_policy_does_not_learn_through_the_sampler_nor_the_classifier_from_rewards():
    """The classifier's gradient is that of the last view's loss alone."""
    net, (x, y) = net_of(opinionated(made(steps=2))).eval(), batch(8)
    net.loss(x, y).backward()
    ours = net.classifier[2].weight.grad.clone()
    net.zero_grad()
    F.cross_entropy(net(x), y).backward()
    torch.testing.assert_close(net.classifier[2].weight.grad, ours)
    assert all(p.grad is None or not p.grad.any() for p in net.transformer.parameters())


@pytest.mark.parametrize("steps, count", [(1, 1), (1, 2), (3, 1), (2, 5)])
def test_the_loss_is_finite_for_any_number_of_moves_and_images_even_the_last_image_of_an_epoch(steps, count):
    net = net_of(made(steps=steps)).train()
    loss = net.loss(*batch(count))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("alike", ["black pictures", "one picture", "a classifier of zeros", "a critic of zeros too"])
def test_the_loss_is_finite_where_every_move_is_worth_the_same(alike):
    net, (x, y) = net_of(made(steps=2)).train(), batch(4)
    if "zeros" in alike:
        nn.init.zeros_(net.classifier[2].weight)
    if "critic" in alike:
        nn.init.zeros_(net.transformer.policy.value.weight), nn.init.zeros_(net.transformer.policy.value.bias)
    x = {"black pictures": 0 * x, "one picture": x[:1].expand(4, 1, SIDE, SIDE)}.get(alike, x)
    loss = net.loss(x, y)
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in net.parameters())


# ---- the oracle ----


def per_image(net, x, y):
    """The loss of each image (B,)."""
    return F.cross_entropy(net.classifier(x), y, reduction="none")


@pytest.mark.parametrize("actions", ACTIONS)
def test_an_oracle_is_for_no_image_worse_than_staying_and_no_worse_with_more_moves(actions):
    x, y = batch(24)
    means = []
    for steps in (1, 2, 4):
        net = net_of(made(actions=actions, steps=steps)).eval()
        best = F.cross_entropy(net.oracle(x, y), y, reduction="none")
        assert (best <= per_image(net, x, y) + 1e-5).all()
        means.append(best.mean().item())
    assert means[0] > means[1] > means[2]


def test_an_oracle_of_one_move_is_the_best_of_all_moves_tried_one_by_one():
    (x, y), actions = batch(24), ACTIONS["all"]
    net = net_of(made(actions=actions, steps=1)).eval()
    tried = torch.stack([per_image(net, warp(x, move), y) for _, move in actions])
    assert len(tried.argmin(dim=0).unique()) > 3
    best = F.cross_entropy(net.oracle(x, y), y, reduction="none")
    torch.testing.assert_close(best, tried.amin(dim=0), atol=1e-5, rtol=0)


def test_an_oracle_of_three_moves_takes_the_best_move_thrice():
    (x, y), moves = batch(6), matrices(ACTIONS["all"])
    net = net_of(made(steps=3)).eval()
    for image, found in enumerate(net.oracle(x, y)):
        chosen = []
        for _ in range(3):
            thetas = torch.stack([product(moves, [*chosen, move]) for move in range(9)])
            views = warp(x[[image]].expand(9, 1, SIDE, SIDE), thetas)
            chosen.append(per_image(net, views, y[[image]].expand(9)).argmin().item())
        view = warp(x[[image]], product(moves, chosen)[None])
        torch.testing.assert_close(found, net.classifier(view)[0], atol=1e-4, rtol=0)


def test_an_oracle_of_standing_still_is_the_classifier():
    net, (x, y) = net_of(made(actions=[STAY], steps=3)).eval(), batch()
    torch.testing.assert_close(net.oracle(x, y), net.classifier(x), atol=1e-5, rtol=0)
    assert not net.oracle(x, y).requires_grad


def test_an_oracle_needs_no_policy():
    net = net_of(made("identity", steps=2)).eval()
    x, y = batch(24)
    assert F.cross_entropy(net.oracle(x, y), y) < F.cross_entropy(net(x), y)


# ---- notes ----


@pytest.mark.parametrize("actions", ACTIONS)
def test_notes_are_the_entropy_and_a_share_of_every_move_that_sum_to_1(actions):
    count = len(ACTIONS[actions])
    net = net_of(opinionated(made(actions=actions, steps=2))).eval()
    notes = net.notes(batch(20)[0])
    assert list(notes) == ["entropy", *(f"move_{number}" for number in range(count))]
    assert all(type(value) is float for value in notes.values())
    shares = [notes[f"move_{number}"] for number in range(count)]
    assert sum(shares) == pytest.approx(1) and min(shares) >= 0
    assert 0 < notes["entropy"] < math.log(count)
    chosen = torch.stack(net.transformer.episode(batch(20)[0])[4])
    assert shares == pytest.approx([(chosen == number).float().mean().item() for number in range(count)])
    assert chosen.unique().numel() > 1


def test_the_notes_of_a_new_policy_say_that_it_is_undecided():
    notes = net_of(made()).eval().notes(batch()[0])
    assert notes["entropy"] == pytest.approx(math.log(9)) and notes["move_0"] == 1


# ---- it learns ----


class Bright(nn.Module):
    """A classifier of two classes: the brighter the picture, the likelier is class 1."""

    def forward(self, x):
        brightness = x.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(brightness), 12 * brightness], dim=1)


@pytest.mark.parametrize("label, wanted", [(1, 2), (0, 1)], ids=["right", "left"])
def test_a_policy_learns_the_one_move_that_lowers_the_loss(label, wanted):
    """The pictures are brighter to the right: class 1 wants the window there, class 0 to the left."""
    x = torch.linspace(-1, 1, SIDE).expand(24, 1, SIDE, SIDE) + 0.1 * noise(24, 1, SIDE, SIDE)
    y = torch.full((24,), label)
    net = net_of(made(actions=THREE, steps=2, padding="border"), Bright(), entropy=0.01)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    before = F.cross_entropy(net.eval()(x), y)
    for _ in range(30):
        optimizer.zero_grad()
        net.train().loss(x, y).backward()
        optimizer.step()
    _, _, logits, _, chosen = net.eval().transformer.episode(x)
    assert torch.stack(chosen).unique().tolist() == [wanted]
    assert torch.stack(logits).softmax(dim=2)[..., wanted].min() > 0.8
    assert F.cross_entropy(net(x), y) < 0.5 * before


# ---- refused, and moved elsewhere ----


@pytest.mark.parametrize("steps", [0, -2])
def test_no_move_is_refused_by_name(steps):
    with pytest.raises(ValueError, match=f"steps: expected at least 1, got {steps}"):
        made(steps=steps)


@pytest.mark.parametrize("wrong, near", [("leanred", "learned"), ("identical", "identity"), ("Random", "random")])
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
    for module in (next(m for m in net.transformer.policy.modules() if isinstance(m, nn.Conv2d)), net.classifier):
        module.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    x = noise(2, 1, 28, 28)
    net(x)
    normalized = (x - 0.1307) / 0.3081
    wanted = {"before": (1, 1), "after": (0, 1), "localization": (1, 0), "none": (0, 0)}[normalize]
    for view, there in zip(seen, wanted, strict=True):
        torch.testing.assert_close(view, normalized if there else x, atol=2e-4, rtol=0)
