"""Digits drawn from fonts: an MNIST-like set that needs no download.

Ten digits in each font are drawn once, large; every image is one of these drawings under a small
random affine warp, put on 28x28 like MNIST's. The sets are easier than MNIST: never quote their
accuracy as MNIST's.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..warp import affine, warp
from .worlds import Raw, distort

FONTS = (  # all come with matplotlib; test images use fonts of their own
    ("DejaVuSans", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif",
     "DejaVuSerif-Bold", "DejaVuSerif-Italic", "cmr10", "cmb10", "cmtt10", "STIXGeneral",
     "STIXGeneralItalic"),
    ("DejaVuSans-Bold", "DejaVuSansMono-Oblique", "DejaVuSerif-BoldItalic", "cmss10",
     "STIXGeneralBol"),
)  # fmt: skip
LARGE = 56  # side of a drawing, twice the final 28


def _drawing(font_file, digit):
    """Draw one digit, white on black, centred, its longer side 40 of 56 pixels, as MNIST's."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(str(font_file), 120)
    left, top, right, bottom = font.getbbox(digit)
    image = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(image).text((-left, -top), digit, fill=255, font=font)
    factor = 40 / max(image.size)
    sides = [max(1, round(side * factor)) for side in image.size]
    image = image.resize(sides, Image.Resampling.LANCZOS)
    canvas = Image.new("L", (LARGE, LARGE))
    canvas.paste(image, ((LARGE - image.width) // 2, (LARGE - image.height) // 2))
    return torch.from_numpy(np.asarray(canvas).copy()).float()[None] / 255


def draw(fonts: tuple[str, ...], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `count` glyphs: uint8 images (count, 1, 28, 28) and labels (count,).

    The same seed gives the same glyphs.
    """
    import matplotlib  # for its fonts

    files = [Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf" for font in fonts]
    drawings = torch.stack([_drawing(file, digit) for file in files for digit in "0123456789"])
    random = torch.Generator().manual_seed(seed)
    which = torch.randint(len(drawings), (count,), generator=random)

    def uniform(low, high):
        return low + (high - low) * torch.rand(count, generator=random)

    bounds = (-12, 12), (0.95, 1.2), (-0.08, 0.08), (-0.08, 0.08), (-0.2, 0.2)
    theta = affine(*(uniform(*ends) for ends in bounds))
    ink = uniform(0.7, 1.0).view(-1, 1, 1, 1)
    images = []
    for part in torch.arange(count).split(5000):  # in parts: 5,000 drawings are 63 MB
        fine = warp(drawings[which[part]], theta[part])
        images.append((F.avg_pool2d(fine, 2) * ink[part] * 255).round().to(torch.uint8))
    return torch.cat(images), which % 10


def glyphs(n_train: int = 60_000, n_test: int = 10_000) -> Raw:
    """Images and labels to train, and to test; the latter come from fonts never trained on."""
    return draw(FONTS[0], n_train, seed=1), draw(FONTS[1], n_test, seed=2)


def coloured(n_train: int = 50_000, n_test: int = 10_000) -> Raw:
    """The same in colour, (N, 3, 32, 32), where photographs cannot be had.

    Ink and ground of an image are two random colours, one dark and one light.
    """

    def paint(grey, labels, seed):
        random = torch.Generator().manual_seed(seed)
        dark, light = 0.4 * torch.rand(2, len(labels), 3, 1, 1, generator=random)
        inked = torch.rand(len(labels), 1, 1, 1, generator=random) < 0.5
        share = F.pad(grey, (2, 2, 2, 2)).float() / 255
        share = torch.where(inked, share, 1 - share)
        return ((dark + share * (1 - light - dark)) * 255).round().to(torch.uint8), labels

    (x, y), (x_test, y_test) = glyphs(n_train, n_test)
    return paint(x, y, 3), paint(x_test, y_test, 4)


def placed(n_train: int = 1200, n_test: int = 300) -> Raw:
    """The same somewhere on a canvas of 160x160, a third to two thirds of it, with their poses.

    They stand in for photographs of birds.
    """
    where: dict[str, Any] = {
        "canvas": 160,
        "scales": (1.7, 3.4),
        "scatter": True,
        "padding": "border",
    }
    (x, y), (x_test, y_test) = coloured(n_train, n_test)
    x, poses = distort(x, 5, **where)
    x_test, test_poses = distort(x_test, 6, **where)
    return (x, y, poses), (x_test, y_test, test_poses)
