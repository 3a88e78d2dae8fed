"""A Run of few glyphs, fitted once, and pictures to try things on."""

import contextlib
import dataclasses
import functools

import pytest
import torch
from PIL import Image
from tiny_world import tiny_load

import stn_utils.data
from stn_utils import train
from stn_utils.experiment import Experiment

EPOCHS = 2


@functools.cache
def fitted(**options):
    """A Run of two epochs on a few glyphs; nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stn_utils.data, "load", tiny_load)
        experiment = Experiment(
            **{"dataset": "glyphs", "epochs": EPOCHS, "n_train": 128, **options}
        )
        return train.fit(experiment, "cpu", quiet=True)


def colours(count, size=(40, 20)):
    return [Image.new("RGB", size, (250 - 60 * i, 60 * i, 100)) for i in range(count)]


LOOKING = {  # a net of several looks, the weights that let it look elsewhere, and the number of its looks
    "stnet": ({}, {"localization.9.bias": [0.8, -0.1, 0.4, 0.1, 0.8, 0.2]}, 1),
    "sequential": (
        {"model": "sequential", "steps": 3},
        {"localization.9.bias": [0.7, -0.3, 0.6, 0.3, 0.7, 0.3]},
        3,
    ),
    "reinforced": (
        {"model": "reinforced", "steps": 4},
        {"policy.choice.bias": [0, 0, 1, 0, 0, 0, 0, 0, 0]},
        4,
    ),
}


def looking(name, **fields):
    """A Run whose net moves its window in every look, and the number of looks."""
    options, weights, count = LOOKING[name]
    run = fitted(world="translated42", epochs=0, **options, **fields)
    changed = {
        f"transformer.{key}": torch.tensor(value, dtype=torch.float32)
        for key, value in weights.items()
    }
    assert all(run.weights[key].shape == value.shape for key, value in changed.items())
    return dataclasses.replace(run, weights={**run.weights, **changed}), count


def images_tested(run):
    """The part of the world that the Run was tested on."""
    return tiny_load(run.experiment.dataset, run.experiment.world, run.experiment.replica).test


@contextlib.contextmanager
def full_disk():
    """No file grows beyond 1,000 bytes: like a full disk, the system ends a write half way."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
