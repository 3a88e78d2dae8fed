"""A world of few glyphs, cheap enough to train on in a test."""

import functools

from stn_utils.data.glyphs import glyphs
from stn_utils.data.worlds import make_world


@functools.cache
def tiny_world(dataset, world, replica, device):
    return make_world(dataset, world, glyphs(1200, 60), "made up", replica, device)


def tiny_load(dataset="glyphs", world="clean28", replica=False, device="cpu"):
    """A World of 1,100 glyphs to train, 100 to validate, 60 to test."""
    return tiny_world(dataset, world, replica, str(device))
