"""A step as one CUDA graph: the same training as step by step. Skipped by name where no GPU is."""

import functools
import warnings

import pytest
import torch
from tiny_training import setup_epoch
from tiny_world import tiny_load
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stn_utils.data.worlds import Split
from stn_utils.experiment import Experiment
from stn_utils.models import build
from stn_utils.train import begin, fit, make_optimizer, train_epoch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
SMALL = Experiment(dataset="glyphs", classifier="fcn", optimizer="sgd", lr=0.01, batch_size=32)
KINDS = {
    "sgd": {},
    "momentum": {"momentum": 0.9},
    "adam": {"optimizer": "adam", "lr": 0.001},
    "clipped": {"grad_clip": 0.5},
    "ratio": {"loc_lr_ratio": 0.1},
    "rotation": {"family": "rotation"},
    "shift-scale": {"family": "shift-scale"},
    "border": {"padding": "border"},
    "reflection": {"padding": "reflection"},
    "coordconv": {"coordconv": "both", "classifier": "cnn"},
    "convnet": {"model": "convnet"},
    "cnn": {"classifier": "cnn"},
    "sequential": {"model": "sequential", "steps": 2},
    "s0": {"model": "sequential", "steps": 2, "recurrence": "s0"},
    "reinforced": {"model": "reinforced", "steps": 2, "actions": "shifts-zooms"},
    "never moving": {"model": "reinforced", "policy": "identity", "actions": "turns"},
    "random moves": {"model": "reinforced", "policy": "random", "actions": "all"},
    "moments": {"pose": "moments"},
    "axis": {"pose": "axis", "model": "convnet"},
    "deformable": {"classifier": "deformable", "model": "convnet"},
    "rotations": {"classifier": "rotations", "model": "convnet"},
    "in the depth": {"at": "conv1+conv2", "classifier": "cnn"},
    "shared": {"at": "shared", "classifier": "cnn"},
    "projective": {"family": "projective"},
    "spline": {"family": "tps"},
    "two windows": {"windows": 2},
}


class Copies(TorchDispatchMode):
    """Notes what is computed from tensors of two devices: a graph cannot copy from the CPU."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        answer = function(*args, **(kwargs or {}))
        tensors = [t for t in tree_leaves((args, kwargs, answer)) if torch.is_tensor(t)]
        if len({t.device for t in tensors}) > 1:
            self.seen.append(function)
        return answer


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_waits_for_the_device_or_copies_to_it(kind):
    """Without a GPU: a tensor on `meta` has no values, so whoever asks for one fails, as in a graph."""
    experiment = SMALL.replace(**KINDS[kind])
    world = tiny_load(experiment.dataset, experiment.world)
    model = build(experiment, world.spec).to("meta")
    optimizer = make_optimizer(model, experiment)
    x = torch.empty(32, *world.train.images.shape[1:], device="meta")
    y = torch.empty(32, dtype=torch.long, device="meta")

    def step():
        loss = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        model.clip_gradients(0.5)
        optimizer.step()

    step()  # what is made once, at first use
    with Copies() as copies:
        step()
    assert not copies.seen


def two_epochs(experiment, graph):
    """The losses of two epochs, and the weights after them; 1,100 images leave a part of a batch."""
    world = tiny_load(experiment.dataset, experiment.world, device="cuda")
    torch.manual_seed(1)
    model, optimizer = begin(experiment, world.spec, torch.device("cuda"))
    losses = []
    for epoch in range(2):
        torch.manual_seed(100 + epoch)
        part = world.train
        losses.append(
            train_epoch(
                model, optimizer, part, experiment.batch_size, experiment.grad_clip, graph=graph
            )
        )
    return losses, torch.cat([p.detach().flatten() for p in model.parameters()])


@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_trains_as_steps_do(kind):
    experiment = SMALL.replace(**KINDS[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a graph that could not be captured
        losses, weights = two_epochs(experiment, graph=True)
    by_steps, weights_by_steps = two_epochs(experiment, graph=False)
    _, weights_again = two_epochs(experiment, graph=False)
    apart = max(1e-4, 3 * (weights_by_steps - weights_again).norm() / weights_again.norm())
    assert losses == pytest.approx(by_steps, rel=2e-2)
    assert (weights - weights_by_steps).norm() / weights_by_steps.norm() < apart


@needs_gpu
def test_what_cannot_be_captured_is_trained_step_by_step_and_said():
    def waits(loss, x, y):
        found = loss(x, y)
        return found if found.item() >= 0 else found  # a graph cannot wait

    results = []
    for kind in ("waits", "does not"):
        world = tiny_load("glyphs", "clean28", device="cuda")
        torch.manual_seed(1)
        model, optimizer = begin(SMALL, world.spec, torch.device("cuda"))
        torch.manual_seed(5)
        if kind == "waits":
            model.loss = functools.partial(waits, model.loss)
            with pytest.warns(UserWarning, match="trained without a CUDA graph"):
                results.append(train_epoch(model, optimizer, world.train, 32, graph=True))
        else:
            results.append(train_epoch(model, optimizer, world.train, 32, graph=True))
    assert results[0] == pytest.approx(results[1], rel=1e-2)
    assert torch.randn(3, device="cuda").isfinite().all()  # the generator is itself again


@needs_gpu
def test_a_graph_gives_its_memory_back():
    world = tiny_load("glyphs", "clean28", device="cuda")
    model, optimizer = begin(SMALL, world.spec, torch.device("cuda"))
    sizes = []
    for _ in range(4):
        train_epoch(model, optimizer, world.train, 32, graph=True)
        torch.cuda.synchronize()
        sizes.append(torch.cuda.memory_allocated())
    assert sizes[-1] <= sizes[1] * 1.01


@needs_gpu
@pytest.mark.parametrize("first, then", [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_another_device(first, then, tmp_path):
    experiment = SMALL.replace(optimizer="adam", lr=0.001, epochs=1, n_train=256)
    fit(experiment, first, tmp_path, quiet=True, world=tiny_load("glyphs", "clean28"), graph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        longer = experiment.replace(epochs=2)
        run = fit(
            longer, then, tmp_path, quiet=True, world=tiny_load("glyphs", "clean28"), graph=True
        )
    assert run.epochs == 2
    assert run.history["train_loss"][1] < run.history["train_loss"][0]


def test_few_batches_are_taken_step_by_step():
    """On a CPU every batch is, and a part of one at the end is trained on, too."""
    model, optimizer, split = setup_epoch(SMALL)
    few = Split(split.images[:70], split.labels[:70])
    seen = []
    loss = model.loss
    model.loss = lambda x, y: seen.append(len(y)) or loss(x, y)
    train_epoch(model, optimizer, few, 32, graph=True)
    assert seen == [32, 32, 6]
