"""The CoordConv paper's own test, without pictures: given (x, y), name the pixel.

On a canvas of 64x64, a 9x9 square fits with its centre on 56x56 places. A network sees some of the
centres and is asked for the others: a fifth of them, drawn at random (uniform), or all in one
quadrant. Source: Liu et al. 2018, section 4.1. Chapter 05 alone uses it.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..layers import CoordConv2d
from ..names import one_of
from ..show import FAINT, INK, PAPER, WINDOW
from ..show.sheets import GAP, TOP, font

SQUARE = 9  # pixels; the side of the square that is never drawn here, but says which centres exist
SPLITS = ("uniform", "quadrant")


def centres(canvas: int = 64) -> Tensor:
    """All places (N, 2) of a fully visible square's centre, as whole pixels (x, y)."""
    inside = torch.arange(SQUARE // 2, canvas - SQUARE // 2)
    return torch.cartesian_prod(inside, inside)


def split(points: Tensor, how: str, canvas: int = 64, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Part centres (N, 2) into those to learn from and those held out.

    how: uniform holds out a random fifth, quadrant those in the lower right, both coordinates above
    half the canvas.
    """
    one_of("split", how, SPLITS)
    if how == "uniform":
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(seed))
        held_out = order < len(points) // 5
    else:
        held_out = (points > canvas / 2).all(dim=1)
    return points[~held_out], points[held_out]


def examples(points: Tensor, canvas: int = 64) -> tuple[Tensor, Tensor]:
    """What a network gets and its answer: centres (N, 2) from -1 to 1, the pixel's number (N,).

    Convention: corner to corner, as in `layers.coordinates`.
    """
    return 2 * points.float() / (canvas - 1) - 1, points[:, 1] * canvas + points[:, 0]


def coordconv_net(canvas: int = 64) -> nn.Module:
    """The paper's CoordConv network, (B, 2) -> one logit a pixel (B, canvas^2).

    It has 7,553 parameters at any size, and sees the two numbers at every pixel.
    """
    widths = [32, 64, 64, 1]
    layers: list[nn.Module] = [nn.Unflatten(1, (2, 1, 1)), nn.Upsample(canvas)]
    layers.append(CoordConv2d(2, 32, 1))
    for before, after in zip([32, *widths], widths):
        layers += [nn.ReLU(inplace=True), nn.Conv2d(before, after, 1)]
    return nn.Sequential(*layers, nn.Flatten())


def deconv_net(canvas: int = 64) -> nn.Module:
    """The paper's narrowest deconvolution network, kernel 4, (B, 2) -> a logit a pixel.

    These are (B, canvas^2), canvas a power of 2.
    """
    doublings = (canvas - 1).bit_length()
    widths = [64] * (doublings - 3) + [32] * 2
    layers: list[nn.Module] = [nn.Unflatten(1, (2, 1, 1))]
    for before, after in zip([2, *widths], widths):
        layers += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.BatchNorm2d(after)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 1, 4, 2, 1), nn.Flatten())


@torch.no_grad()
def answers(net: nn.Module, points: Tensor, canvas: int = 64) -> tuple[Tensor, Tensor]:
    """For centres (N, 2): whether their pixel gets the largest logit, and its probability, (N,)."""
    net.eval()
    x, right = examples(points, canvas)
    chances = torch.cat([net(part).softmax(dim=1) for part in x.split(256)])
    return chances.argmax(dim=1) == right, chances.gather(1, right[:, None])[:, 0]


def learn(
    net: nn.Module,
    known: Tensor,
    held_out: Tensor,
    epochs: int,
    lr: float,
    canvas: int = 64,
    batch_size: int = 16,
    until_perfect: bool = False,
) -> Iterator[tuple[int, float, float, float]]:
    """Train with Adam; after every epoch, yield its number, train loss, and two accuracies.

    These are on the known and on the held-out centres. The rate falls to a tenth every 200 epochs,
    as in the paper's runs. until_perfect: end once both are 1. Seed torch before.
    """
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster
    optimizer = torch.optim.Adam(net.parameters(), lr)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 200, 0.1)
    x, y = examples(known, canvas)
    for epoch in range(1, epochs + 1):
        net.train()
        total = torch.zeros(())
        for index in torch.randperm(len(known)).split(batch_size):
            loss = F.cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
        schedule.step()
        seen, unseen = (
            answers(net, part, canvas)[0].float().mean().item() for part in (known, held_out)
        )
        yield epoch, total.item() / len(known), seen, unseen
        if until_perfect and seen == unseen == 1:
            return


def place_map(
    panels: dict[str, tuple[Tensor, Tensor, Tensor]], canvas: int, heading: str, scale: int = 8
) -> Image.Image:
    """One picture of a number per place, panels side by side.

    Grey stands for places learned from, orange for others. panels: {title: (points (N, 2) whole
    pixels (x, y), values (N,) from 0, paper, to 1, full colour, held_out (N,) bool)}. canvas: side
    in pixels of what the places lie on, drawn `scale` times as large.
    """
    side = canvas * scale
    size = len(panels) * (side + 2 * GAP), side + 2 * TOP
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 7), heading, fill=INK, font=font(14, bold=True))
    for i, (title, (points, values, held_out)) in enumerate(panels.items()):
        left = GAP + i * (side + 2 * GAP)
        pen.text((left, TOP), title, fill=INK, font=font(12))
        pen.rectangle((left - 1, 2 * TOP - 6, left + side, 2 * TOP + side - 5), outline=FAINT)
        colours = np.where(np.asarray(held_out)[:, None], to_rgb(WINDOW), to_rgb(INK))
        shades = 1 - np.asarray(values)[:, None] * (1 - colours)
        shades = (255 * shades).round().astype(int).tolist()
        for (x, y), shade in zip(points.tolist(), shades):
            a, b = left + x * scale, 2 * TOP - 5 + y * scale
            pen.rectangle((a, b, a + scale - 1, b + scale - 1), fill=tuple(shade))
    return sheet
