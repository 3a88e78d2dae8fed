"""fit of nets with several looks or moves: what their history and their test hold, and which rate moves what."""

import math

import pytest
import torch
from tiny_training import setup_epoch, train_and_go
from tiny_world import tiny_load

from stn_utils.actions import ACTIONS
from stn_utils.models import ReinforcedNet
from stn_utils.train import evaluate, measure

pytestmark = pytest.mark.usefixtures("one_thread")

REINFORCED = dict(
    model="reinforced", actions="shifts-zooms", steps=2, epochs=2, n_train=100, classifier="fcn"
)


def test_a_learned_policys_history_has_its_entropy_and_the_share_of_every_move(small):
    run = train_and_go(small.replace(**REINFORCED))
    moves = [f"move_{number}" for number in range(len(ACTIONS["shifts-zooms"]))]
    assert [name for name in run.history if name.startswith("move_") or name == "entropy"] == [
        "entropy",
        *moves,
    ]
    assert len(moves) == 7 and {len(values) for values in run.history.values()} == {2}
    for epoch in range(2):
        assert sum(run.history[name][epoch] for name in moves) == pytest.approx(1)
        assert 0 < run.history["entropy"][epoch] <= math.log(7) + 1e-6
    net, (x, _) = run.model(), tiny_load().val.batch(slice(None))
    with torch.no_grad():
        _, _, logits, _, chosen = net.transformer.rollout(net.input_norm(x))
    shares = torch.stack(chosen).flatten().bincount(minlength=7) / (2 * len(x))
    assert [run.history[name][-1] for name in moves] == pytest.approx(shares.tolist(), abs=1e-6)
    chances = torch.stack(logits).double().softmax(dim=2)
    undecided = -(chances * chances.log()).sum(dim=2).mean().item()
    assert run.history["entropy"][-1] == pytest.approx(undecided, abs=1e-5)


@pytest.mark.parametrize("policy", ["identity", "random"])
def test_a_control_has_looks_and_no_notes_and_no_oracle(small, policy):
    run = train_and_go(small.replace(**REINFORCED, policy=policy))
    assert not [name for name in run.history if name.startswith("move_") or name == "entropy"]
    assert "oracle_top1" not in run.test
    assert (max(run.history["distance"]) == 0) == (policy == "identity")


@pytest.mark.parametrize(
    "change", [{}, {"model": "convnet"}, {"model": "sequential", "steps": 2}], ids=str
)
def test_what_has_no_policy_has_no_oracle_and_no_notes(small, change):
    run = train_and_go(small.replace(**change, epochs=1))
    assert "oracle_top1" not in run.test and "entropy" not in run.history


def test_a_learned_policys_test_has_the_top_1_of_an_oracle_that_knows_the_labels(small):
    run = train_and_go(small.replace(**REINFORCED))
    net, (x, y) = run.model(), tiny_load().test.batch(slice(None))
    with torch.no_grad():
        right = [net.oracle(x[[i]], y[[i]]).argmax().item() == y[i].item() for i in range(len(y))]
    assert run.test["oracle_top1"] == pytest.approx(sum(right) / len(y))
    assert run.test["oracle_top1"] > run.test["top1"]


def test_an_interrupt_of_the_oracle_leaves_no_half_of_a_test(small, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ReinforcedNet, "oracle", interrupted)
        run = train_and_go(small.replace(**REINFORCED))
    assert run.test is None and run.epochs == 2
    evaluate(run, "cpu")
    assert {"top1", "oracle_top1"} <= run.test.keys()


def test_an_oracle_is_asked_for_no_more_images_than_the_limit(small, monkeypatch):
    run = train_and_go(small.replace(**{**REINFORCED, "epochs": 0}))
    monkeypatch.setattr(measure, "ORACLE_IMAGES", 7)
    part, asked = tiny_load().test, []

    def oracle(self, x, y):
        asked.append((x, y))
        return torch.nn.functional.one_hot(y, 10) * (torch.arange(len(y)) < 3)[:, None]

    monkeypatch.setattr(type(run.model()), "oracle", oracle)
    evaluate(run, "cpu")
    ((x, y),) = asked
    assert torch.equal(x, part.batch(slice(0, 7))[0]) and torch.equal(y, part.labels[:7])
    wanted = (torch.arange(7) < 3) | (y == 0)  # without a logit, class 0 is the answer
    assert run.test["oracle_top1"] == pytest.approx(wanted.double().mean().item())
    assert run.test["oracle_images"] == 7


def test_training_teaches_the_policy_and_a_controls_run_has_nothing_but_a_classifier(small):
    learned = [
        train_and_go(small.replace(**{**REINFORCED, "epochs": epochs})).weights for epochs in (0, 1)
    ]
    moved = {
        name.split(".")[1]
        for name in learned[0]
        if not torch.equal(learned[0][name], learned[1][name])
    }
    assert "policy" in moved
    control = train_and_go(small.replace(**REINFORCED, policy="random")).weights
    assert {name for name in control if name.startswith("transformer.")} == {
        "transformer.background",
        "transformer.moves",
    }


@pytest.mark.parametrize("steps", [1, 3])
def test_a_sequential_run_records_its_last_look(small, steps):
    run = train_and_go(
        small.replace(model="sequential", steps=steps, epochs=1, world="translated42")
    )
    net, x = run.model(), run.probe["images"].float() / 255
    with torch.no_grad():
        looks = net.looks(x)
    assert len(looks) == steps
    torch.testing.assert_close(run.looks[-1], looks[-1], atol=1e-5, rtol=0)
    assert torch.equal(run.looks[0], torch.eye(2, 3).expand(20, 2, 3))


@pytest.mark.parametrize("policy", ["learned", "identity"])
def test_every_parameter_of_a_reinforced_net_stands_in_exactly_one_group(small, policy):
    net, optimizer, _ = setup_epoch(
        small.replace(model="reinforced", policy=policy, lr=0.5, loc_lr_ratio=0.1)
    )
    listed = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    wanted = {
        id(p): 0.05 if name.startswith("transformer.") else 0.5
        for name, p in net.named_parameters()
    }
    assert listed == pytest.approx(wanted)


def test_a_policy_that_diverged_ends_with_a_run_as_other_nets_do(small):
    run = train_and_go(small.replace(**{**REINFORCED, "optimizer": "sgd", "lr": 1e30}))
    assert run.epochs == 2 and math.isnan(run.history["train_loss"][-1]) and run.test is not None
