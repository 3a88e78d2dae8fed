"""Pictures: figures of one moment, and sheets that show a Run epoch by epoch (GIF, film strip)."""

from .draw import window
from .figures import (
    before_after,
    confusion,
    curves,
    forest,
    images,
    looks,
    mean_curves,
    mistakes,
    save,
    seed_curves,
)
from .sheets import (
    data_uri,
    encode,
    encode_gif,
    episode,
    epoch_label,
    filmstrip,
    frames,
    gif,
    show_animation,
    stack,
)
from .style import (
    BESIDE,
    FAINT,
    INK,
    OTHER,
    PAPER,
    THIRD,
    WIDTH,
    WINDOW,
    fold,
    plane,
    shown,
    use_style,
)
