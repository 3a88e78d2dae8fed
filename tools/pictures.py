"""Draw the pictures that stand on top of README and chapters. Each is re-fitted from its Experiment and seed.

    python tools/pictures.py [NAME ...]
"""

import sys
from pathlib import Path

import torch

from stn_utils import Experiment, fit, show

ASSETS = Path(__file__).resolve().parents[1] / "assets"

# Short epochs, so that the window can be seen setting out: 24 of 3,000 images.
TRANSLATED = Experiment(world="translated42", n_train=3000, epochs=24)

# As in the study `normalization`, with short epochs again: one rate for all, and a tenth for the localization net.
COLLAPSE = Experiment(
    world="cluttered40", optimizer="sgd", lr=0.1, padding="zeros", mean=0.1307, std=0.3081, n_train=2000, epochs=24
)
PICTURES = {
    "translated42": TRANSLATED,
    "adam": {
        "SGD 0.01, momentum 0.9": COLLAPSE.but(lr=0.01, momentum=0.9),
        "Adam 0.001": COLLAPSE.but(lr=0.001, optimizer="adam"),
    },
    "collapse": {"localization rate 0.1": COLLAPSE, "localization rate 0.01": COLLAPSE.but(loc_lr_ratio=0.1)},
}


def draw(name):
    """Fit what the picture shows, and write its GIF; prints the size."""
    wanted = PICTURES[name]
    runs = {title: fit(e) for title, e in wanted.items()} if isinstance(wanted, dict) else fit(wanted)
    print(name, show.encode_gif(show.frames(runs), ASSETS / "gifs" / f"{name}.gif", milliseconds=300), "bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the same bits on machines with more or fewer cores
    for name in sys.argv[1:] or PICTURES:
        draw(name)
