"""Many seeds at once are the seeds one by one."""

import pytest
import torch
from tiny_world import tiny_load, tiny_world

from stn_utils import diagnose
from stn_utils.experiment import Experiment, choices
from stn_utils.models import build
from stn_utils.stack import Stack
from stn_utils.train import fit, fit_stacked

SMALL = Experiment(
    dataset="glyphs",
    classifier="fcn",
    optimizer="sgd",
    lr=0.05,
    batch_size=64,
    epochs=2,
    n_train=300,
)
DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
    ),
]


@pytest.fixture
def doubles(monkeypatch):
    """All in float64: rounding grows at the sampler's kinks, and in float32 some machines see it."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    tiny_world.cache_clear()
    yield
    tiny_world.cache_clear()
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"model": "convnet"},
        {"optimizer": "adam", "lr": 0.001},
        {"momentum": 0.9, "lr": 0.01},
        {"grad_clip": 0.3},
        {"loc_lr_ratio": 0.1, "padding": "border"},
        {"family": "rotation"},
        {"world": "translated42"},
        {"coordconv": "localization", "activation": "leaky-relu"},
    ],
    ids=lambda change: " ".join(map(str, change.values())) or "plain",
)
def test_stacked_seeds_are_those_trained_one_by_one(change, device, doubles):
    experiment = SMALL.replace(**change)
    world = tiny_load("glyphs", experiment.world)
    together = fit_stacked(experiment, [3, 4, 9], device, world=world)
    for run, seed in zip(together, (3, 4, 9)):
        alone = fit(experiment.replace(seed=seed), device, quiet=True, world=world)
        assert run.experiment == alone.experiment
        assert run.history["train_loss"] == pytest.approx(alone.history["train_loss"], rel=1e-6)
        assert run.history.keys() == alone.history.keys()
        for name, weights in alone.weights.items():
            torch.testing.assert_close(run.weights[name], weights, rtol=1e-6, atol=1e-8)
        assert run.test["top1"] == alone.test["top1"]
        assert run.probe["warped"].shape == alone.probe["warped"].shape
        assert run.provenance["stacked"] == 3 and "stacked" not in alone.provenance


@pytest.mark.parametrize("at", choices("at"))
def test_a_stack_has_the_loss_of_each_net_wherever_its_transformer_stands(at):
    world, nets = tiny_load("glyphs", "translated42"), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        nets.append(build(Experiment(at=at, world="translated42"), world.spec).eval())
    x, y = world.train.batch(torch.arange(32))
    found = Stack(nets).eval().loss(torch.stack([x, x.flip(-1)]), torch.stack([y, y]))
    alone = torch.stack([nets[0].loss(x, y), nets[1].loss(x.flip(-1), y)])
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-6)


def test_dropout_is_drawn_for_each_net_of_its_own():
    world = tiny_load("glyphs", "clean28")
    net = build(SMALL.replace(classifier="cnn", model="convnet"), world.spec).train()
    stack = Stack([net, net])
    x, y = world.train.batch(torch.arange(32))
    one, other = stack.loss(x.expand(2, *x.shape), y.expand(2, -1)).tolist()
    assert one != other
    one, other = stack.eval().loss(x.expand(2, *x.shape), y.expand(2, -1)).tolist()
    assert one == pytest.approx(other, rel=1e-6)


@pytest.mark.parametrize(
    "change",
    [{"model": "sequential"}, {"model": "reinforced"}, {"augment": True, "world": "rotated28"}],
)
def test_what_cannot_be_stacked_is_refused(change):
    with pytest.raises(ValueError, match="stack: .* cannot be stacked"):
        fit_stacked(SMALL.replace(**change), [1, 2], "cpu")


def test_no_seed_is_refused():
    with pytest.raises(ValueError, match="seeds: expected at least one"):
        fit_stacked(SMALL, [], "cpu")


def test_a_run_that_is_given_up_stops_and_the_others_go_on():
    """A rate of 0.5 with momentum throws some windows off the picture."""
    experiment = SMALL.replace(lr=0.5, momentum=0.9, epochs=6, patience=1, normalize="none")
    world = tiny_load("glyphs", "clean28")
    runs = fit_stacked(experiment, range(6), "cpu", world=world)
    lengths = [run.epochs for run in runs]
    assert min(lengths) < 6, "nobody was given up: the test asks for nothing"
    for run in runs:
        off = [
            diagnose.epochs_off_image({k: v[:n] for k, v in run.history.items()})
            for n in range(1, run.epochs + 1)
        ]
        assert not any(off[:-1]) and (off[-1] or run.epochs == 6)
        assert run.finished and run.tested()


def test_a_stack_leaves_its_nets_alone():
    world = tiny_load("glyphs", "clean28")
    net = build(SMALL, world.spec)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    stack = Stack([net, net])
    for parameter in stack.parameters():
        parameter.data.zero_()
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())
    assert stack.state_of(1).keys() == before.keys()
