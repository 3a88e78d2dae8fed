"""Pictures: figures of one moment, and sheets that show a Run epoch by epoch (GIF, film strip, player)."""

from .figures import bands, before_after, confusion, curves, images, looks, mistakes, save, seeds
from .sheets import data_uri, encode, encode_gif, episode, epoch_label, filmstrip, frames, gif, moving, places, stack
from .style import BESIDE, DIGITS_SHOWN, FAINT, INK, OTHER, PAPER, THIRD, WIDTH, WINDOW, shown
