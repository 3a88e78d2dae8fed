"""load(dataset, world): real images with known poses, whole on the device."""

import functools
import os
import warnings

from ..experiment import choices, one_of
from . import glyphs as _glyphs
from . import sources
from .sources import DataUnavailable
from .worlds import WORLDS, Part, World, distort, make_world

DATASETS = choices("dataset")


@functools.lru_cache(maxsize=2)
def _raw(dataset):
    if dataset == "glyphs":
        return _glyphs.glyphs(), "drawn here"
    content, source = sources.find(dataset)
    return sources.parse(content), source


@functools.lru_cache(maxsize=4)
def _had(dataset, fallback):
    """The data set, or the one that stands in for it, which a warning says."""
    try:
        _raw(dataset)
    except DataUnavailable as reason:
        if not fallback:
            raise
        warnings.warn(f"NOT {dataset}: glyphs drawn from fonts stand in for it. {reason}", stacklevel=3)
        return fallback
    return dataset


@functools.lru_cache(maxsize=4)
def _world(dataset, world, replica, device):
    return make_world(dataset, world, *_raw(dataset), replica, device)


def load(dataset="mnist", world="clean28", replica=False, device="cpu", fallback=None):
    """Load a World: 11 of 12 images to train, the 12th to validate, and the test set; the same on every call.

    dataset: mnist, fashion-mnist or glyphs. world: a name of WORLDS. replica=True merges training and validation,
    as the seed projects did. fallback="glyphs" (or STN_FALLBACK=glyphs) draws digits from fonts where the data cannot
    be had, and warns. The World is cached: treat it as read-only.
    Raises ValueError for unknown names, DataUnavailable where no source has the data.
    """
    one_of("dataset", dataset, DATASETS)
    one_of("world", world, tuple(WORLDS))
    fallback = fallback or os.environ.get("STN_FALLBACK") or None
    one_of("fallback", fallback or "glyphs", ("glyphs",))
    return _world(_had(dataset, fallback), world, replica, str(device))
