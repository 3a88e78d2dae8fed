"""The windows of one look, drawn on a picture: rim, a dot in the top left corner, points."""

import itertools
from collections.abc import Iterator

import torch
from matplotlib.axes import Axes
from PIL import Image, ImageDraw
from torch import Tensor

from ..warp import grid_of, outline, windows_of
from .style import OTHER, THIRD, WINDOW

COLOURS = WINDOW, OTHER, THIRD  # of windows side by side, in this order


def windows(look: Tensor) -> Iterator[tuple[Tensor, str]]:
    """The windows of a look, each with its colour."""
    return zip(windows_of(look), itertools.cycle(COLOURS))


def reach(look: Tensor) -> Tensor:
    """How far each look's windows reach from the image's middle (B,); 1 is its edge."""
    return torch.stack([outline(w).abs().amax(dim=(1, 2)) for w in windows_of(look)]).amax(dim=0)


def mesh(look: Tensor) -> list[Tensor]:
    """Lines (P, 2) within a bent window, five from left to right and as many downwards.

    Of a window that is not bent there are none: its rim says all.
    """
    if look.ndim == 3:
        return []
    rows, columns = (
        torch.linspace(0, side - 1, 7)[1:-1].round().long() for side in look.shape[1:3]
    )
    return [*look[0, rows], *look[0][:, columns].transpose(0, 1)]


def window(
    picture: Image.Image,
    look: Tensor,
    frame: tuple[int, int, int, int],
    line: int,
    dot: int,
    dots: int = 0,
) -> None:
    """Draw the windows of one look, theta (1, 2, 3) or a grid (1, h, w, 2), on a PIL picture.

    frame: left, top, width and height in pixels of the image that [-1, 1] spans. line: how thick.
    dot: the radius of the one in the corner. dots: how many sampling points a side, of a theta.
    """
    start, size = torch.tensor(frame[:2]), torch.tensor(frame[2:])

    def places(where):
        pixels = (where.detach().cpu() + 1) / 2 * size + start
        return [tuple(xy) for xy in pixels.tolist()]

    pen = ImageDraw.Draw(picture)
    for one, colour in windows(look):
        rim = places(outline(one)[0])
        pen.line(rim + rim[:2], fill=colour, width=line, joint="curve")
        for inner in mesh(one):
            pen.line(places(inner), fill=colour, width=max(1, line // 3))
        if dots:
            for x, y in places(grid_of(one, (dots, dots)).flatten(0, 2)):
                pen.rectangle((x - 1, y - 1, x + 1, y + 1), fill=colour)
        x, y = rim[0]
        pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=colour)


def window_on_axes(ax: Axes, look: Tensor, height: int, width: int) -> None:
    """The same on axes that show an image of that height and width, with 6x6 sampling points.

    All of them, 28x28 or more, would hide the image. A bent window has lines instead.
    """

    def places(where):
        return ((where.detach().cpu() + 1) * torch.tensor([width, height]) - 1) / 2

    for one, colour in windows(look):
        rim, bent = places(outline(one)[0]), mesh(one)
        for inner in bent:
            ax.plot(*places(inner).T, color=colour, linewidth=0.7)
        if not bent:
            points = places(grid_of(one, (6, 6)).flatten(0, 2))
            ax.plot(*points.T, ".", color=colour, markersize=2)
        ax.plot(*torch.cat([rim, rim[:1]]).T, color=colour, linewidth=1.6)
        ax.plot(*rim[0], "o", color=colour, markersize=4)
