"""load(dataset, world): real images with known poses, whole on the device."""

import functools
import os
import warnings

from ..names import one_of
from ..spec import Device, pick_device
from . import glyphs as _glyphs
from . import sources
from .own import from_folder, from_tensors
from .sources import DataUnavailable
from .worlds import OWN, WORLDS, Split, World, distort, make_world

DRAWN = {"glyphs": _glyphs.glyphs, "coloured-glyphs": _glyphs.coloured}
DATASETS = (*sources.DATASETS, *DRAWN)


@functools.lru_cache(maxsize=2)
def _raw(dataset):
    if dataset in DRAWN:
        return DRAWN[dataset](), "drawn here"
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
        fallback = "coloured-glyphs" if dataset == "cifar10" else fallback
        stands_in = f"NOT {dataset}: {fallback} drawn from fonts stand in for it. {reason}"
        warnings.warn(stands_in, stacklevel=3)
        return fallback
    return dataset


@functools.lru_cache(maxsize=2)
def _world(dataset, world, replica, device):
    names = getattr(sources.DATASETS.get(dataset), "names", None)
    return make_world(dataset, world, *_raw(dataset), replica, device, names)


def load(
    dataset: str = "mnist",
    world: str = "clean28",
    replica: bool = False,
    device: Device = "cpu",
    fallback: str | None = None,
) -> World:
    """Load a World: 11 of 12 images to train, the 12th to validate, and the test set.

    It is the same on every call, and cached: treat it as read-only. dataset: mnist, fashion-mnist,
    cifar10, glyphs or coloured-glyphs. world: a name of WORLDS. replica=True merges training and
    validation, as the seed projects did. fallback="glyphs" (or STN_FALLBACK=glyphs) draws digits
    from fonts, in colour for cifar10, where the data cannot be had, and warns. Raises ValueError
    for unknown names, DataUnavailable where no source has the data.
    """
    if OWN in (dataset, world):
        doors = "`fit(…, world=data.from_folder(…))`, or `stn train --data FOLDER`"
        raise ValueError(f"{OWN}: pictures of your own are not found by name; give them: {doors}.")
    if not isinstance(replica, bool):
        raise ValueError(f"replica: expected True or False, got {replica!r}.")
    one_of("dataset", dataset, DATASETS)
    one_of("world", world, WORLDS)
    if fallback := fallback or os.environ.get("STN_FALLBACK"):
        one_of("fallback", fallback, ("glyphs",))
    return _world(_had(dataset, fallback), world, replica, pick_device(device))
