"""What tests of training share: a quiet fit, one epoch set up by hand, and whether two Runs are the same."""

import functools

import torch
from tiny_world import tiny_load

from stn_utils.models import build
from stn_utils.train import fit, make_optimizer

train_and_go = functools.partial(fit, device="cpu", quiet=True)


def assert_same_bits(ours, theirs):
    def history(run):
        return {name: values for name, values in run.history.items() if name != "seconds"}

    assert history(ours) == history(theirs)
    for name in ("weights", "probe", "test"):
        one, other = getattr(ours, name), getattr(theirs, name)
        assert one.keys() == other.keys()
        for key, value in one.items():
            same = torch.equal(value, other[key]) if torch.is_tensor(value) else value == other[key]
            assert same, f"{name}[{key!r}] differs"


def setup_epoch(experiment):
    world = tiny_load(experiment.dataset, experiment.world)
    model = build(experiment, world.spec)
    return model, make_optimizer(model, experiment), world.train
