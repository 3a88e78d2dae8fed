"""The reinforced net: its rewards and its loss by hand, its oracle, its notes, and that it learns."""

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_policy import (
    CONTROLS,
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
from stn_utils.experiment import Experiment
from stn_utils.models import build, reinforced
from stn_utils.models.reinforced import policy_loss, returns
from stn_utils.warp import warp

# ---- the loss ----


def test_the_gradient_of_the_loss_reaches_every_weight_of_policy_and_classifier():
    net = net_of(opinionated(made())).train()
    net.loss(*batch(16)).backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dead
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {
        "transformer",
        "classifier",
    }


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
    assert not list(built.transformer.parameters())
    assert built.trace(torch.rand(2, 1, *SPEC.size)).metrics == {}


def test_the_controls_start_with_the_same_classifier():
    nets = []
    for kind in CONTROLS:
        torch.manual_seed(0)
        nets.append(
            build(Experiment(model="reinforced", policy=kind), SPEC).classifier.state_dict()
        )
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])


def spied(monkeypatch, net, x, y):
    """What the loss hands to `returns` and to `policy_loss`: rewards (T, B) and advantages (T, B)."""
    found = {}

    def keep_rewards(rewards, gamma):
        found.update(rewards=torch.stack(list(rewards)), gamma=gamma)
        return returns(rewards, gamma)

    def keep_advantages(logits, chosen, advantages):
        found.update(
            advantages=advantages,
            chosen=torch.stack(list(chosen)),
            logits=torch.stack(list(logits)),
        )
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
    net, (x, y) = net_of(opinionated(made(steps=3)), gamma=0.9, entropy_bonus=0.3).eval(), batch(8)
    found = spied(monkeypatch, net, x, y)
    _, views, logits, values, chosen = net.transformer.rollout(x)
    losses, values = losses_by_hand(net, views, y), torch.stack(values)
    rewards = (losses[:-1] - losses[1:]).clamp(-2, 2)
    torch.testing.assert_close(found["rewards"], rewards, atol=1e-5, rtol=0)
    goal = torch.stack([sum(0.9 ** (t - s) * rewards[t] for t in range(s, 3)) for s in range(3)])
    advantages = (goal - values) / (goal - values).std(correction=0)
    torch.testing.assert_close(found["advantages"], advantages, atol=1e-4, rtol=1e-4)
    chances = torch.stack(logits).log_softmax(dim=2)
    taken = torch.stack([chances[t, torch.arange(8), chosen[t]] for t in range(3)])
    undecided = -(chances.exp() * chances).sum(dim=2).mean()
    wanted = (
        losses[-1].mean()
        - (taken * advantages).mean()
        - 0.3 * undecided
        + 0.5 * (values - goal).square().mean()
    )
    torch.testing.assert_close(found["loss"], wanted, atol=1e-4, rtol=1e-4)
    assert undecided > 0.1 and rewards.abs().max() > 0.01


def test_without_a_critic_the_returns_themselves_are_the_advantages(monkeypatch):
    net, (x, y) = net_of(opinionated(made("without-critic", steps=3)), gamma=0.9), batch(8)
    found = spied(monkeypatch, net.eval(), x, y)
    goal = returns(found["rewards"], 0.9)
    torch.testing.assert_close(found["advantages"], goal / goal.std(correction=0))
    found["loss"].backward()
    policy = net.transformer.policy
    assert not any(p.grad is not None and p.grad.any() for p in policy.value.parameters())
    assert policy.choice.weight.grad.any()


@pytest.mark.parametrize("kind, remembers", [("learned", True), ("without-memory", False)])
def test_without_memory_a_move_depends_on_what_is_seen_and_the_last_move_alone(kind, remembers):
    net, (x, y) = net_of(opinionated(made(kind, steps=3))).train(), batch(8)
    net.loss(x, y).backward()
    assert bool(net.transformer.policy.cell.weight_hh.grad.any()) == remembers


def test_the_sum_of_an_images_rewards_is_what_its_loss_has_lost_unless_cut(monkeypatch):
    net, (x, y) = net_of(opinionated(made(steps=4))).eval(), batch(8)
    rewards = spied(monkeypatch, net, x, y)["rewards"]
    _, views, *_ = net.transformer.rollout(x)
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
    net = build(
        Experiment(model="reinforced", gamma=gamma, entropy=0.7, classifier="fcn"), SPEC
    ).eval()
    assert spied(monkeypatch, net, *batch(4, 28))["gamma"] == gamma
    assert net.entropy_bonus == 0.7


@pytest.mark.parametrize("training", [True, False])
def test_rewards_are_given_without_dropout_or_gradient_and_the_classifiers_mode_is_as_before(
    training,
):
    net, (x, y) = net_of(opinionated(made(steps=3))).train(training), batch()
    calls = []
    net.classifier[1].register_forward_pre_hook(
        lambda dropout, _: calls.append((dropout.training, torch.is_grad_enabled()))
    )
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
def test_the_loss_is_finite_for_any_number_of_moves_and_images_even_the_last_image_of_an_epoch(
    steps, count
):
    net = net_of(made(steps=steps)).train()
    loss = net.loss(*batch(count))
    loss.backward()
    assert loss.isfinite() and all(p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    "alike", ["black pictures", "one picture", "a classifier of zeros", "a critic of zeros too"]
)
def test_the_loss_is_finite_where_every_move_is_worth_the_same(alike):
    net, (x, y) = net_of(made(steps=2)).train(), batch(4)
    if "zeros" in alike:
        nn.init.zeros_(net.classifier[2].weight)
    if "critic" in alike:
        (
            nn.init.zeros_(net.transformer.policy.value.weight),
            nn.init.zeros_(net.transformer.policy.value.bias),
        )
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


# ---- metrics ----


@pytest.mark.parametrize("actions", ACTIONS)
def test_its_metrics_are_the_entropy_and_a_share_of_every_move_that_sum_to_1(actions):
    count = len(ACTIONS[actions])
    net = net_of(opinionated(made(actions=actions, steps=2))).eval()
    metrics = net.trace(batch(20)[0]).metrics
    assert all(value.shape == (20,) for value in metrics.values())
    notes = {name: value.mean().item() for name, value in metrics.items()}
    assert list(notes) == ["entropy", *(f"move_{number}" for number in range(count))]
    shares = [notes[f"move_{number}"] for number in range(count)]
    assert sum(shares) == pytest.approx(1) and min(shares) >= 0
    assert 0 < notes["entropy"] < math.log(count)
    chosen = torch.stack(net.transformer.rollout(batch(20)[0])[4])
    assert shares == pytest.approx(
        [(chosen == number).float().mean().item() for number in range(count)]
    )
    assert chosen.unique().numel() > 1


def test_the_metrics_of_a_new_policy_say_that_it_is_undecided():
    metrics = net_of(made()).eval().trace(batch()[0]).metrics
    assert metrics["entropy"].tolist() == pytest.approx([math.log(9)] * 6)
    assert metrics["move_0"].tolist() == [1] * 6


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
    net = net_of(made(actions=THREE, steps=2, padding="border"), Bright(), entropy_bonus=0.01)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    before = F.cross_entropy(net.eval()(x), y)
    for _ in range(30):
        optimizer.zero_grad()
        net.train().loss(x, y).backward()
        optimizer.step()
    _, _, logits, _, chosen = net.eval().transformer.rollout(x)
    assert torch.stack(chosen).unique().tolist() == [wanted]
    assert torch.stack(logits).softmax(dim=2)[..., wanted].min() > 0.8
    assert F.cross_entropy(net(x), y) < 0.5 * before
