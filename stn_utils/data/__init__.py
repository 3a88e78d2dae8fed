"""load(dataset, world): real images with known poses, whole on the device."""

import functools
import os
import warnings

import torch

from ..names import one_of
from ..spec import Device
from . import glyphs as _glyphs
from . import sources
from .sources import DataUnavailable
from .worlds import WORLDS, Split, World, distort, is_random, make_world

DATASETS = (*sources.DATASETS, "glyphs")


@functools.lru_cache(maxsize=2)
def _raw(dataset):
    if dataset == "glyphs":
        return _glyphs.glyphs(), "drawn here"
    content, source = sources.find(dataset)
    return sources.DATASETS[dataset].parse(content), source


@functools.lru_cache(maxsize=4)
def _had(dataset, fallback):
    """The data set, or the one that stands in for it, which a warning says."""
    try:
        _raw(dataset)
    except DataUnavailable as reason:
        if not fallback:
            raise
        stands_in = f"NOT {dataset}: glyphs drawn from fonts stand in for it. {reason}"
        warnings.warn(stands_in, stacklevel=3)
        return fallback
    return dataset


@functools.lru_cache(maxsize=2)
def _world(dataset, world, replica, device):
    return make_world(dataset, world, *_raw(dataset), replica, device)


def load(
    dataset: str = "mnist",
    world: str = "clean28",
    replica: bool = False,
    device: Device = "cpu",
    fallback: str | None = None,
) -> World:
    """Load a World: 11 of 12 images to train, the 12th to validate, and the test set.

    It is the same on every call, and cached: treat it as read-only. dataset: mnist, fashion-mnist
    or glyphs. world: a name of WORLDS. replica=True merges training and validation, as the seed
    projects did. fallback="glyphs" (or STN_FALLBACK=glyphs) draws digits from fonts where the data
    cannot be had, and warns. Raises ValueError for unknown names, DataUnavailable where no source
    has the data.
    """
    one_of("dataset", dataset, DATASETS)
    one_of("world", world, tuple(WORLDS))
    fallback = fallback or os.environ.get("STN_FALLBACK") or None
    one_of("fallback", fallback or "glyphs", ("glyphs",))
    place = torch.empty(0, device=device).device  # "cuda" and "cuda:0" are one
    return _world(_had(dataset, fallback), world, replica, place)
