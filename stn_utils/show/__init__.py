"""Pictures: figures of one moment, and sheets that show a Run epoch by epoch (GIF, film strip, player)."""

from .figures import bands, before_after, confusion, curves, draw_grid, draw_window, images, looks, mistakes, seeds
from .sheets import data_uri, encode, encode_gif, epoch_label, filmstrip, frames, gif, places
from .style import DIGITS_SHOWN, FAINT, INK, OTHER, PAPER, THIRD, WIDTH, WINDOW, shown

__all__ = [
    "DIGITS_SHOWN", "FAINT", "INK", "OTHER", "PAPER", "THIRD", "WIDTH", "WINDOW",
    "bands", "before_after", "confusion", "curves", "data_uri", "draw_grid", "draw_window", "encode", "encode_gif",
    "epoch_label", "filmstrip", "frames", "gif", "images", "looks", "mistakes", "places", "seeds", "shown",
]  # fmt: skip
