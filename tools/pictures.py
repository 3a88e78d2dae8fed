"""Draw the pictures that stand on top of README and chapters. Each is re-fitted from its Experiment and seed.

    python tools/pictures.py
"""

from pathlib import Path

from stn_utils import Experiment, fit, show

ASSETS = Path(__file__).resolve().parents[1] / "assets"

# Short epochs, so that the window can be seen setting out: 24 of 3,000 images.
TRANSLATED = Experiment(world="translated42", n_train=3000, epochs=24)

if __name__ == "__main__":
    run = fit(TRANSLATED)
    print(show.encode_gif(show.frames(run), ASSETS / "gifs" / "translated42.gif", milliseconds=300), "bytes")
