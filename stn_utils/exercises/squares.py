"""The CoordConv paper's own test, without pictures: given (x, y), name the pixel.

A canvas of 64x64 has 56x56 places that lie 4 pixels or more from its rim. A network sees some of
them and is asked for the others: a fifth, drawn at random (uniform), or all in one quadrant.
Source: Liu et al. 2018, section 4.1. Chapter 05 alone uses it.
"""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw
from torch import Tensor, nn

from ..layers import CoordConv2d
from ..names import one_of
from ..show import FAINT, INK, PAPER, WIDTH, WINDOW
from ..show.sheets import GAP, TOP, font
from ..show.style import Figure, styled

SQUARE = 9  # pixels; what the paper's other tasks draw around a place must lie on the canvas
SPLITS = ("uniform", "quadrant")
NO_PLACE = "#e9ecef"  # where the canvas has no place that is asked for


def centres(canvas: int = 64) -> Tensor:
    """All places (N, 2) that the test asks for, whole pixels (x, y), 4 or more from the rim."""
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


def _frame(points: Tensor, held_out: Tensor) -> tuple[int, int, int, int] | None:
    """The box (left, top, right, bottom) of the held-out places, if no other lies in it."""
    held_out = torch.as_tensor(held_out)
    if not held_out.any():
        return None
    low, high = points[held_out].amin(dim=0), points[held_out].amax(dim=0)
    if ((points >= low) & (points <= high)).all(dim=1)[~held_out].any():
        return None
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    return left, top, right, bottom


def place_map(
    panels: dict[str, tuple[Tensor, Tensor, Tensor]], canvas: int, heading: str, scale: int = 8
) -> Image.Image:
    """One picture of a number per place, panels side by side, and the scale of their colours.

    Grey stands for places learned from, orange for others; a box outlines these where they lie in
    one block. panels: {title: (points (N, 2) whole pixels (x, y), values (N,) from 0, paper, to 1,
    full colour, held_out (N,) bool)}. canvas: side in pixels of what the places lie on, drawn
    `scale` times as large; where it has no place it is tinted.
    """
    side = canvas * scale
    size = len(panels) * (side + 2 * GAP), side + 2 * TOP + 22
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 7), heading, fill=INK, font=font(14, bold=True))
    start = 2 * TOP - 5
    for i, (title, (points, values, held_out)) in enumerate(panels.items()):
        left = GAP + i * (side + 2 * GAP)
        pen.text((left, TOP), title, fill=INK, font=font(12))
        pen.rectangle(
            (left - 1, start - 1, left + side, start + side), fill=NO_PLACE, outline=FAINT
        )
        colours = np.where(np.asarray(held_out)[:, None], to_rgb(WINDOW), to_rgb(INK))
        for (x, y), shade in zip(points.tolist(), _shades(values, colours)):
            a, b = left + x * scale, start + y * scale
            pen.rectangle((a, b, a + scale - 1, b + scale - 1), fill=shade)
        if frame := _frame(points, held_out):
            a, b, c, d = (scale * at for at in frame)
            corners = left + a - 1, start + b - 1, left + c + scale, start + d + scale
            pen.rectangle(corners, outline=WINDOW)
    steps, low = torch.linspace(0, 1, 60), start + side + 8
    for left, words, colour in ((GAP, "learned", INK), (GAP + 190, "held out", WINDOW)):
        pen.text((left, low), f"{words}: 0", fill=INK, font=font(12))
        for i, shade in enumerate(_shades(steps, np.array([to_rgb(colour)] * 60))):
            pen.line((left + 72 + i, low + 2, left + 72 + i, low + 12), fill=shade)
        pen.text((left + 138, low), "1", fill=INK, font=font(12))
    return sheet


def _shades(values, colours):
    """From paper, 0, to full colour, 1: a triple of bytes for each value."""
    shades = 1 - np.asarray(values)[:, None] * (1 - colours)
    return [tuple(shade) for shade in (255 * shades).round().astype(int).tolist()]


@styled
def certainty(panels: dict[str, tuple[Tensor, Tensor, Tensor]], canvas: int) -> Figure:
    """A Figure of a probability per place, with a colour scale; panels as in `place_map`.

    An orange box outlines the held-out places where they lie in one block.
    """
    figure = Figure(figsize=(WIDTH, 0.9 + WIDTH / len(panels) * 0.85))
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (title, (points, values, held_out)) in zip(axes, panels.items()):
        grid = np.full((canvas, canvas), np.nan)
        grid[points[:, 1], points[:, 0]] = values
        shown = ax.imshow(grid, cmap="viridis", vmin=0, vmax=1)
        if frame := _frame(points, held_out):
            left, top, right, bottom = frame
            box = left - 0.5, top - 0.5
            ax.add_patch(
                Rectangle(
                    box, right - left + 1, bottom - top + 1, fill=False, color=WINDOW, linewidth=2
                )
            )
        ax.set(title=title, xticks=[], yticks=[], facecolor=NO_PLACE)
        ax.grid(False)
        ax.spines[:].set_visible(False)
    figure.colorbar(shown, ax=list(axes), label="probability of the right pixel", shrink=0.85)
    return figure
