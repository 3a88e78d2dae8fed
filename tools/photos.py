"""How well `stn predict` reads a photograph: 200 of them, drawn from MNIST's test digits.

    python tools/photos.py

Ink on white, cream, grey, pink, blue, green or black grounds; off centre, in one of many sizes,
lit from one side and darker towards the rim, with grain. Two runs of the course's default recipe
read them, one on upright digits and one on turned, scaled and scattered ones.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from stn_utils import Experiment, fit, load, metrics
from stn_utils.cli.predict import read

COUNT, SEED = 200, 0
DARK_INK = [(30, 30, 40), (20, 40, 120), (140, 30, 30)]
LIGHT_INK = [(240, 240, 235), (240, 220, 120)]
GROUNDS = {  # the colour of the paper, and of the inks that are used on it
    "white": ((245, 245, 245), DARK_INK),
    "cream": ((240, 228, 196), DARK_INK),
    "grey": ((168, 170, 172), DARK_INK),
    "pink": ((236, 190, 200), DARK_INK),
    "green board": ((52, 88, 70), LIGHT_INK),
    "blue": ((60, 80, 140), LIGHT_INK),
    "black": ((25, 25, 28), LIGHT_INK),
}


def cover(digit, side, blur):
    """How much of each pixel (side, side) the ink of a digit (28, 28) covers, with a pen's edge."""
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    smooth = ndimage.gaussian_filter(np.asarray(large) / 255, blur)
    return ((smooth - 0.3) / 0.4).clip(0, 1)


def light(size, random):
    """Brightness of every pixel (H, W): stronger on one side, weaker towards the rim."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in size), indexing="ij")
    angle, slope, rim = (
        random.uniform(0, 2 * np.pi),
        random.uniform(0, 0.3),
        random.uniform(0, 0.15),
    )
    return 1 + slope * (np.cos(angle) * x + np.sin(angle) * y) - rim * (x * x + y * y)


def photograph(digit, random):
    """A photograph (H, W, 3), uint8, of a digit (28, 28), uint8."""
    size = int(random.integers(240, 600)), int(random.integers(240, 800))
    side = int(random.uniform(0.25, 0.6) * min(size))
    top, left = (int(random.integers(whole - side + 1)) for whole in size)
    ground, inks = list(GROUNDS.values())[random.integers(len(GROUNDS))]
    ink = np.zeros((*size, 1))
    ink[top : top + side, left : left + side, 0] = cover(digit, side, side / 90)
    ink *= random.uniform(0.6, 1.0)
    sheet = (1 - ink) * ground + ink * np.array(inks[random.integers(len(inks))])
    grain = random.normal(0, random.uniform(1, 8), sheet.shape)
    return (sheet * light(size, random)[..., None] + grain).clip(0, 255).astype(np.uint8)


def main():
    random, test = np.random.default_rng(SEED), load("mnist").test
    chosen = random.permutation(len(test))[:COUNT]
    runs = {world: fit(Experiment(world=world), quiet=True) for world in ("clean28", "rts42")}
    right = dict.fromkeys(runs, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "photo.jpg"
        for index in chosen:
            picture = photograph(test.images[index, 0].numpy(), random)
            Image.fromarray(picture).save(path, quality=85)
            for world, run in runs.items():
                x, note = read(path, run)
                if x is not None:
                    with torch.no_grad():
                        answer = run.model()(x).argmax().item()
                    right[world] += answer == test.labels[index].item()
    for world, count in right.items():
        low, high = metrics.wilson(count, COUNT)
        interval = f"{100 * low:.1f} to {100 * high:.1f} %"
        print(f"{world}: {count} of {COUNT} read rightly ({interval}), its own test top-1 "
              f"{100 * runs[world].test['top1']:.2f} %")  # fmt: skip
    return 0 if min(right.values()) >= 0.9 * COUNT else 1


if __name__ == "__main__":
    sys.exit(main())
