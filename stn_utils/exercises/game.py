"""Chapter 07's game: three moves of a trained policy's window, counted out for a page."""

import itertools
import json
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .. import show
from ..actions import Move
from ..models import ReinforcedNet
from ..player import fill
from ..warp import compose, corners, identity, on_shape
from .explorer import explorer_still

TURNS = 3  # moves of the reader
ACROSS = 16  # views in a row of the sheet

Path = tuple[int, ...]  # numbers of moves, one after the other


def paths(count: int, turns: int = TURNS) -> list[Path]:
    """All paths of 0 to `turns` moves out of `count`, short ones first."""
    return [p for t in range(turns + 1) for p in itertools.product(range(count), repeat=t)]


def follow(
    net: ReinforcedNet, x: Tensor, moves: list[Path]
) -> tuple[list[Tensor], dict[Path, int]]:
    """The windows (1, 2, 3) that paths lead to on images like x, each once, and which is whose.

    With a path its beginnings must be there, before it.
    """
    steps = on_shape(net.transformer.moves, (x.shape[2], x.shape[3]))
    by_path, numbers, found, at = {(): identity()}, {}, [], {}
    for path in moves:
        if path:
            by_path[path] = compose(by_path[path[:-1]], steps[[path[-1]]])
        key = tuple((1e4 * by_path[path]).round().int().flatten().tolist())
        if key not in numbers:  # left and then right is where one was
            numbers[key] = len(found)
            found.append(by_path[path])
        at[path] = numbers[key]
    return found, at


@torch.no_grad()
def read(net: ReinforcedNet, x: Tensor, y: int, thetas: list[Tensor]) -> tuple[Tensor, ...]:
    """What windows show of one image (V, C, h, w), the chances of the classes, and the losses."""
    x = net.eval().normalize(x).expand(len(thetas), -1, -1, -1)
    views = net.transformer.warp_through(x, torch.cat(thetas))
    logits = net.classify(views)
    wanted = torch.full((len(thetas),), y)
    return views, logits.softmax(dim=1), F.cross_entropy(logits, wanted, reduction="none")


@torch.no_grad()
def hardest(net: ReinforcedNet, x: Tensor, y: Tensor, among: int = 10) -> int:
    """The number of the image of x (N, C, H, W) that is worth a game.

    Of the `among` images with the highest loss after the policy's own moves: the one whose loss
    some three moves bring lowest.
    """
    losses = F.cross_entropy(net.eval()(x), y, reduction="none")
    worst = losses.topk(min(among, len(x))).indices.tolist()
    thetas, _ = follow(net, x, paths(len(net.transformer.moves)))
    lowest = [read(net, x[[i]], int(y[i]), thetas)[2].min().item() for i in worst]
    return worst[lowest.index(min(lowest))]


@torch.no_grad()
def game(net: ReinforcedNet, x: Tensor, y: int, actions: list[Move]) -> dict[str, Any]:
    """All that the page knows of a game on one image x (1, 1, H, W) of class y.

    paths: {moves as digits: number of the view}; of each view its window's corners, the loss and
    the chances in percent. policy: the path it takes; best: that of three moves whose end has the
    lowest loss.
    """
    asked = net.eval().transformer.rollout(net.normalize(x))
    own = tuple(int(move) for move in asked.moves)
    known = paths(len(actions))
    known += [own[: t + 1] for t in range(TURNS, len(own))]
    thetas, at = follow(net, x, known)
    views, chances, losses = read(net, x, y, thetas)
    best = min((p for p in at if len(p) == TURNS), key=lambda p: (losses[at[p]].item(), p))
    return {
        "names": [name for name, _ in actions],
        "truth": y,
        "turns": TURNS,
        "across": ACROSS,
        "paths": {"".join(map(str, path)): view for path, view in at.items()},
        "losses": [round(loss, 3) for loss in losses.tolist()],
        "chances": [[round(100 * chance) for chance in line] for line in chances.tolist()],
        "corners": [[round(v, 3) for v in corners(t).flatten().tolist()] for t in thetas],
        "policy": "".join(map(str, own)),
        "best": "".join(map(str, best)),
        "input": _sheet(net.normalize(x), 1),
        "sheet": _sheet(views, ACROSS),
        "size": views.shape[3:1:-1],
    }


def _sheet(views, across):
    """Views (V, 1, h, w) as one grey picture, `across` in a row, as a data: URI."""
    low, high = views.min(), views.max()
    pixels = ((views[:, 0] - low) / (high - low).clamp(min=1e-6) * 255).round().byte()
    _, height, width = pixels.shape
    sheet = torch.zeros(-(-len(pixels) // across) * height, across * width, dtype=torch.uint8)
    for number, view in enumerate(pixels):
        top, left = number // across * height, number % across * width
        sheet[top : top + height, left : left + width] = view
    return show.data_uri(show.encode(Image.fromarray(sheet.numpy())), "png")


def game_html(net: ReinforcedNet, x: Tensor, y: int, actions: list[Move]) -> str:
    """A game of three moves on one grey image x (1, 1, H, W) of class y, as a self-contained page.

    Every view is counted out beforehand: it plays without a kernel and without a network. actions:
    the moves that the net was built with, at most ten.
    """
    if x.shape[1] != 1 or len(actions) > 10:
        raise ValueError(
            f"a game has one channel and at most ten moves, got {x.shape[1]} and {len(actions)}."
        )
    known = json.dumps(game(net, x, y, actions), separators=(",", ":"))
    still = show.data_uri(show.encode(explorer_still(x[0], identity())), "png")
    return fill("game.html", GAME=known, STILL=still)
