"""load(dataset, world): real images with known poses, whole on the device."""

import functools
import os
import warnings

from ..names import one_of
from ..spec import Device, pick_device
from . import birds, sources
from . import glyphs as _glyphs
from .own import from_folder, from_tensors
from .sources import DataUnavailable
from .worlds import OWN, WORLDS, Split, World, distort, make_world

DRAWN = {
    "glyphs": _glyphs.glyphs,
    "coloured-glyphs": _glyphs.coloured,
    "placed-glyphs": _glyphs.placed,
}
STANDS_IN = {"cifar10": "coloured-glyphs", "birds": "placed-glyphs"}  # for others glyphs
DATASETS = (*sources.DATASETS, "birds", *DRAWN)
LICENCES = {
    **{name: dataset.licence for name, dataset in sources.DATASETS.items()},
    "birds": birds.LICENCE,
    **dict.fromkeys(DRAWN, "drawn here from the fonts that come with matplotlib"),
}


def find(dataset: str) -> str:
    """Where a data set is, or was fetched from. Raises DataUnavailable where it cannot be had."""
    if dataset in DRAWN:
        return "drawn on demand"
    return birds.find()[1] if dataset == "birds" else sources.find(dataset)[1]


@functools.lru_cache(maxsize=2)
def _raw(dataset):
    """A data set's parts, where they come from, and the names of its classes."""
    if dataset in DRAWN:
        return DRAWN[dataset](), "drawn here", None
    if dataset == "birds":
        folder, source = birds.find()
        raw, names = birds.read(folder)
        return raw, source, names
    (content, source), known = sources.find(dataset), sources.DATASETS[dataset]
    return known.parse(content), source, known.names


@functools.lru_cache(maxsize=4)
def _had(dataset, fallback):
    """The data set, or the one that stands in for it, which a warning says."""
    try:
        _raw(dataset)
    except DataUnavailable as reason:
        if not fallback:
            raise
        drawn = STANDS_IN.get(dataset, fallback)
        stands_in = f"NOT {dataset}: {drawn} drawn from fonts stand in for it. {reason}"
        warnings.warn(stands_in, stacklevel=3)
        return drawn
    return dataset


@functools.lru_cache(maxsize=2)
def _world(dataset, world, replica, device):
    if world in birds.CUTS:
        return birds.cut_out(_world(dataset, "photo160", replica, device), world)
    raw, source, names = _raw(dataset)
    return make_world(dataset, world, raw, source, replica, device, names)


def load(
    dataset: str = "mnist",
    world: str = "clean28",
    replica: bool = False,
    device: Device = "cpu",
    fallback: str | None = None,
) -> World:
    """Load a World: 11 of 12 images to train, the 12th to validate, and the test set.

    It is the same on every call, and cached: treat it as read-only. dataset: mnist, fashion-mnist,
    cifar10, birds, or what is drawn here: glyphs, coloured-glyphs, placed-glyphs. world: a name of
    WORLDS. replica=True merges training and validation, as the seed projects did.
    fallback="glyphs" (or STN_FALLBACK=glyphs) draws digits from fonts where the data cannot be had,
    in colour for cifar10 and birds, and warns. Raises ValueError for unknown names, DataUnavailable
    where no source has the data.
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
