"""Each folded solution passes its checker; stubs and plausible wrong answers do not."""

import importlib
import math
import re
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage, stats
from torch import nn

from stn_utils import exercises, load, warp
from stn_utils.exercises import (
    ch00,
    ch01,
    ch02,
    ch03,
    ch04,
    ch05,
    ch06,
    ch07,
    ch08,
    ch09,
    ch10,
    ch11,
)
from stn_utils.layers import CoordConv2d, coordinates

CHAPTERS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


def affine(*rows):
    return torch.tensor([rows], dtype=torch.float64)


def crop_with_swapped_axes(row, column, side, image_side):
    zoom, at = side / image_side, lambda first: 2 * (first + side / 2) / image_side - 1
    return affine([zoom, 0, at(row)], [0, zoom, at(column)])


def crop_between_corner_centres(row, column, side, image_side):
    span, at = image_side - 1, lambda first: 2 * (first + (side - 1) / 2) / (image_side - 1) - 1
    return affine([(side - 1) / span, 0, at(column)], [0, (side - 1) / span, at(row)])


def read_swapped(image, row, column):
    return ch01_solution_read()(image, column, row)


def ch01_solution_read():
    return solutions("01_vanilla_stn")["read"]


def make_with_shift(places):
    """A localization net that writes its shift into the wrong places of the six numbers."""

    def make(features):
        class Net(nn.Module):
            def forward(self, x):
                out = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64).repeat(len(x), 1)
                out[:, places] = features(x)
                return out

        return Net()

    return make


def make_without_gradient(features):
    class Net(nn.Module):
        def forward(self, x):
            shift = features(x).detach()
            out = (
                torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64)
                .repeat(len(x), 1)
                .requires_grad_()
            )
            return out + F.pad(shift[:, :1], (2, 3)) + F.pad(shift[:, 1:], (5, 0))

    return Net()


def grid_of(corners, flip=False):
    def grid(theta, size):
        out = F.affine_grid(theta, [len(theta), 1, *size], align_corners=corners)
        return out.flip(-1) if flip else out

    return grid


def distance_from_identity(theta):
    return theta - torch.eye(2, 3, dtype=theta.dtype)


def norm_of(gradients):
    return torch.cat([g.flatten() for g in gradients]).norm()


def scores_of(counts):
    right = counts.diagonal()
    return right / counts.sum(dim=1).clamp(min=1), right / counts.sum(dim=0).clamp(min=1)


def scores_after_writing(counts):
    counts[counts.sum(dim=0) == 0] = 1
    return scores_of(counts)


def coordinates_of(line, swapped=False):
    def make(height, width):
        x, y = line(width).expand(height, width), line(height)[:, None].expand(height, width)
        return torch.stack([y, x] if swapped else [x, y])

    return make


def to_one(count):
    return torch.linspace(-1, 1, count)


def coordconv_that(places):
    """A CoordConv whose three channels are what `places(height, width)` makes."""

    class Layer(nn.Module):
        def __init__(self, in_channels, out_channels, kernel_size):
            super().__init__()
            self.conv = nn.Conv2d(in_channels + 3, out_channels, kernel_size)

        def forward(self, x):
            place = places(*x.shape[-2:]).to(x)
            return self.conv(torch.cat([x, place.expand(len(x), -1, -1, -1)], dim=1))

    return Layer


def off_centre(height, width):
    x, y = coordinates(height, width)
    return torch.stack([x, y, ((x - 0.5) ** 2 + (y - 0.5) ** 2).sqrt()])


def axes_divided_by_each_other(height, width):
    x, y = coordinates(height, width)
    x, y = (x + 1) * (width - 1) / (height - 1) - 1, (y + 1) * (height - 1) / (width - 1) - 1
    return torch.stack([x, y, (x**2 + y**2).sqrt()])


class DeadWeights(coordconv_that(lambda height, width: coordinates(height, width, radius=True))):
    def __init__(self, in_channels, out_channels, kernel_size):
        super().__init__(in_channels, out_channels, kernel_size)
        self.unused = nn.Conv2d(in_channels, out_channels, kernel_size)


class InFloat32(nn.Module):
    def __init__(self, *arguments):
        super().__init__()
        self.conv = CoordConv2d(*arguments, radius=True)

    def forward(self, x):
        place = coordinates(*x.shape[-2:], radius=True).expand(len(x), -1, -1, -1)
        return F.conv2d(torch.cat([x, place], dim=1), self.conv.weight, self.conv.bias)


def rest_after(thetas, tolerance, first=1):
    """The number of moves above the tolerance, counted from `first`: not when the last one was."""
    moved = [
        (b - a).flatten(1).abs().max(dim=1).values > tolerance for a, b in zip(thetas, thetas[1:])
    ]
    return first + torch.stack(moved).sum(dim=0)


def first_pause(thetas, tolerance):
    moved = torch.stack(
        [(b - a).flatten(1).abs().max(dim=1).values > tolerance for a, b in zip(thetas, thetas[1:])]
    )
    return torch.where(moved.all(dim=0), len(thetas), moved.long().argmin(dim=0) + 1)


def taken(logits, chosen):
    return torch.stack(
        [z.log_softmax(dim=1).gather(1, move[:, None])[:, 0] for z, move in zip(logits, chosen)]
    )


def to_go(rewards, gamma, backwards=False):
    count = len(rewards)
    weights = [
        [gamma ** (count - 1 - t if backwards else t - s) * (t >= s) for t in range(count)]
        for s in range(count)
    ]
    return torch.tensor(weights, dtype=torch.float64) @ torch.stack(list(rewards)).double().detach()


def without_partner():
    moves = [
        ("stay", warp.affine()),
        ("in", warp.affine(scale=0.7)),
        ("out", warp.affine(scale=1.3)),
    ]
    return [*moves, ("left", warp.affine(shift_x=-0.3)), ("right", warp.affine(shift_x=0.3))]


def projected(p, x, y):
    w = p[6] * x + p[7] * y + 1
    return (p[0] * x + p[1] * y + p[2]) / w, (p[3] * x + p[4] * y + p[5]) / w


def plated(centres, reads, place, power=2):
    """The spline through control points, with bends r^power log r^2."""

    def rows(places):
        r = torch.cdist(places, centres)
        bends = r**power * (r + (r == 0)).log() * 2
        return torch.cat([bends, F.pad(places, (1, 0), value=1.0)], dim=1)

    system = torch.cat([rows(centres), F.pad(rows(centres)[:, -3:].T, (0, 3))])
    return (rows(place[None]) @ torch.linalg.solve(system, F.pad(reads, (0, 0, 0, 3))))[0]


def signed(grid):
    right, down = grid[:, :-1, 1:] - grid[:, :-1, :-1], grid[:, 1:, :-1] - grid[:, :-1, :-1]
    return right[..., 0] * down[..., 1] - right[..., 1] * down[..., 0]


def turned_answers(x, kernel):
    return torch.stack([F.conv2d(x, torch.rot90(kernel, i, (-2, -1))) for i in range(4)])


def window_of(box, size, middle=True):
    x, y, width, height = box
    place = (x + width / 2, y + height / 2) if middle else (x, y)
    x, y = (2 * at / side - 1 for at, side in zip(place, size))
    return affine([width / size[0], 0, x], [0, height / size[1], y])


def shared(one, other, least=0):
    """The area that two square windows (scale, x, y) share."""
    sides = [
        min(one[i] + one[0], other[i] + other[0]) - max(one[i] - one[0], other[i] - other[0])
        for i in (1, 2)
    ]
    return max(least, sides[0]) * max(least, sides[1])


def moments_of(ink, centres=None, total=None):
    centres = centres or (lambda n: (2 * torch.arange(n, dtype=torch.float64) + 1) / n - 1)
    share = ink / (ink.sum() if total is None else total)
    x, y = centres(ink.shape[1])[None], centres(ink.shape[0])[:, None]
    middle = (share * x).sum(), (share * y).sum()
    variance = (share * ((x - middle[0]) ** 2 + (y - middle[1]) ** 2)).sum()
    return *middle, variance.sqrt()


@torch.no_grad()
def difference_of(layer, x, turns, moved=None, back=1):
    first, second = layer(torch.rot90(x, 1, (-2, -1))), torch.rot90(layer(x), back, (-2, -1))
    first, second = (answer.unflatten(1, (-1, turns)) for answer in (first, second))
    return (first - second.roll(turns // 4 if moved is None else moved, 2)).abs().max().item()


def tap_of(image, row, column, down, right, mode="grid-constant"):
    at = [[row + down], [column + right]]
    return ndimage.map_coordinates(image.numpy(), at, order=1, mode=mode)[0]


WRONG = {
    "mirror": [lambda: affine([1, 0, 0], [0, -1, 0]), lambda: affine([1, 0, 0], [0, 1, 0]), lambda: torch.eye(2, 3)],
    "crop": [
        crop_with_swapped_axes, crop_between_corner_centres,
        lambda *a: warp.invert(affine([a[2] / a[3], 0, 0.1], [0, a[2] / a[3], 0.1])),
    ],
    "solve": [
        lambda: warp.affine(angle=-35, scale=0.8, shift_x=-0.2), lambda: warp.affine(angle=35, scale=1.25),
        lambda: warp.identity(),
    ],
    "read": [read_swapped, lambda i, r, c: i[min(round(r), 4), min(round(c), 6)], lambda i, r, c: i[int(r) % 5, int(c) % 7]],
    "grid": [grid_of(corners=True), grid_of(corners=False, flip=True)],
    "make": [make_with_shift([5, 2]), make_with_shift([0, 4]), make_without_gradient],
    "border": [lambda m, s: (255 * m, -m / s), lambda m, s: (255 * m / s, m / s), lambda m, s: (0.0, m / s)],
    "sample": [
        lambda x, g, b: F.grid_sample(x, g, align_corners=False),
        lambda x, g, b: F.grid_sample(x, g, padding_mode="border", align_corners=False),
        lambda x, g, b: F.grid_sample(x - b, g, align_corners=False),
        lambda x, g, b: torch.where((g.abs() > 1).any(-1)[:, None], b, F.grid_sample(x, g, align_corners=False)),
    ],
    "pull": [
        lambda t: t.square().sum(dim=(1, 2)).mean(), lambda t: distance_from_identity(t).square().sum(),
        lambda t: distance_from_identity(t).square().mean(),
        lambda t: distance_from_identity(t.detach()).square().sum((1, 2)).mean(),
    ],
    "moved": [
        lambda g, h, o, lr: lr * g * (1 + h @ o), lambda g, h, o, lr: -lr * g * (h @ o),
        lambda g, h, o, lr: -lr * g * (1 + h @ h),
    ],
    "groups": [
        lambda net, lr, ratio: [{"params": net.parameters(), "lr": lr}],
        lambda net, lr, ratio: [{"params": net.localization.parameters(), "lr": lr * ratio}],
        lambda net, lr, ratio: [{"params": net.localization.parameters(), "lr": lr},
                                {"params": net.classifier.parameters(), "lr": lr * ratio}],
    ],
    "clip": [
        lambda gs, limit: [g / max(1, g.norm() / limit) for g in gs], lambda gs, limit: [g.clamp(-limit, limit) for g in gs],
        lambda gs, limit: [g * (limit / norm_of(gs)) for g in gs],
        lambda gs, limit: [g.mul_(min(1, limit / norm_of(gs))) for g in gs],
    ],
    "top1_from": [
        lambda a, c: a, lambda a, c: 1 - 5 * (1 - a), lambda a, c: 1 - c * (1 - a), lambda a, c: 1 - 2 / c * (1 - a),
    ],
    "recall_and_precision": [
        lambda counts: scores_of(counts)[::-1], scores_after_writing,
        lambda counts: (counts.diagonal() / counts.sum(1), counts.diagonal() / counts.sum(0)),
        lambda counts: (counts.diagonal() / counts.sum(),) * 2,
        lambda counts: (counts.diagonal() / counts.sum(1), scores_of(counts)[1]),
    ],
    "seeds_needed": [
        lambda s, d: next(n for n in range(2, 10**5) if 1.959964 * s / n**0.5 < d),
        lambda s, d: math.ceil((s / d) ** 2),
        lambda s, d: next(n for n in range(2, 10**5) if stats.t.ppf(0.95, n - 1) * s / n**0.5 < d),
    ],
    "channels": [
        coordinates_of(to_one, swapped=True), coordinates_of(lambda n: torch.linspace(0, 1, n)),
        coordinates_of(lambda n: (2 * torch.arange(n) + 1) / n - 1),
    ],
    "Repaired": [DeadWeights, InFloat32, coordconv_that(off_centre), coordconv_that(axes_divided_by_each_other)],
    "added": [
        lambda layer, h, w: layer(torch.zeros(1, 3, h, w))[0].detach(),
        lambda layer, h, w: coordinates(h, w, layer.radius),
        lambda layer, h, w: F.conv2d(coordinates(h, w)[None], layer.weight[:, :2].detach())[0],
    ],
    "equal_step": [
        lambda theta, count: warp.identity(dtype=theta.dtype) * (1 - 1 / count) + theta / count,
        lambda theta, count: theta,
        lambda theta, count: warp.invert(theta),
    ],
    "look": [
        lambda x, theta, localize: warp.compose(theta, localize(x)),
        lambda x, theta, localize: localize(warp.warp(x, theta)),
        lambda x, theta, localize: warp.compose(localize(warp.warp(x, theta)), theta),
    ],
    "at_rest": [rest_after, lambda thetas, tolerance: rest_after(thetas, tolerance, first=0), first_pause],
    "discounted": [
        lambda rewards, gamma: rewards.flip(0).cumsum(0).flip(0),
        lambda rewards, gamma: to_go(rewards, gamma, backwards=True),
        lambda rewards, gamma: to_go(rewards, gamma)[:1].expand(len(rewards), -1),
    ],
    "surrogate": [
        lambda z, moves, rewards, gamma=0.98: (taken(z, moves) * to_go(rewards, gamma)).mean(),
        lambda z, moves, rewards, gamma=0.98: -(taken(z, moves)[-1] * to_go(rewards, gamma)[-1]).mean(),
        lambda z, moves, rewards, gamma=0.98: -(taken(z, moves) * to_go(rewards, 1.0)).mean(),
        lambda z, moves, rewards, gamma=0.98: -(torch.stack(z).log_softmax(2).amax(2) * to_go(rewards, gamma)).mean(),
        lambda z, moves, rewards, gamma=0.98: -(taken(z, moves) * to_go(rewards, gamma)).mean(1).sum(),
    ],
    "my_moves": [
        without_partner,
        lambda: [(name, move) for name, move in without_partner() if name != "stay"] + [("up", warp.affine(shift_y=0.1))],
        lambda: [*without_partner(), ("flat", warp.affine(scale=0.0))],
        lambda: without_partner()[:3],
    ],
    "through": [
        lambda p, x, y: (p[0] * x + p[1] * y + p[2], p[3] * x + p[4] * y + p[5]),
        lambda p, x, y: projected(p, x, y)[::-1],
        lambda p, x, y: projected([*p[:6], p[7], p[6]], x, y),
        lambda p, x, y: projected(p, y, x),
    ],
    "plate": [
        lambda c, r, p: plated(c, r, p, power=1), lambda c, r, p: r.mean(0), lambda c, r, p: p,
        lambda c, r, p: r[(c - p).norm(dim=1).argmin()],
    ],
    "folds": [
        lambda g: torch.zeros(len(g), dtype=torch.bool),
        lambda g: (g[:, :, 1:, 0] <= g[:, :, :-1, 0]).flatten(1).any(1),
        lambda g: signed(g).sum(dim=(1, 2)) <= 0,
    ],
    "partner": [
        lambda k: k, lambda k: torch.rot90(k, -1, (-2, -1)), lambda k: torch.rot90(k, 2, (-2, -1)), lambda k: k.flip(-1),
        lambda k: k.transpose(-1, -2), lambda k: k[0, 0],
    ],
    "bank": [
        lambda x, k: F.conv2d(x, k), lambda x, k: turned_answers(x, k).mean(0), lambda x, k: turned_answers(x, k).sum(0),
        lambda x, k: turned_answers(x, k)[:2].amax(0), lambda x, k: turned_answers(x, k).amax((0, -1, -2), keepdim=True)[0],
        lambda x, k: F.conv2d(x, torch.stack([torch.rot90(k, i, (-2, -1)) for i in range(4)]).amax(0)),
    ],
    "mismatch_of": [
        lambda f, turn, x: (f(turn(x)) - turn(f(x))).norm().item(),
        lambda f, turn, x: ((f(turn(x)) - turn(f(x))).norm() / turn(f(x)).norm()).item() ** 2,
        lambda f, turn, x: ((f(turn(x)) - f(x)).norm() / f(x).norm()).item(),
        lambda f, turn, x: 0.0,
    ],
    "theta_of_box": [
        lambda box, size: window_of(box, size, middle=False), lambda box, size: window_of(box, size).flip(1),
        lambda box, size: window_of(box, (1, 1)), lambda box, size: warp.invert(window_of(box, size)),
        lambda box, size: window_of(box, size)[0],
    ],
    "iou": [
        lambda one, other: shared(one, other) / (4 * one[0] ** 2 + 4 * other[0] ** 2),
        lambda one, other: shared(one, other, least=-9) / (4 * one[0] ** 2 + 4 * other[0] ** 2),
        lambda one, other: shared(one, other) / (4 * one[0] ** 2),
        lambda one, other: 1 - abs(one[1] - other[1]),
    ],
    "pixels_on": [
        lambda bird, canvas, output, scale: bird / canvas * output,
        lambda bird, canvas, output, scale: bird / canvas * output * scale,
        lambda bird, canvas, output, scale: bird / scale,
    ],
    "moments": [
        lambda ink: (lambda x, y, spread: (y, x, spread))(*moments_of(ink)),
        lambda ink: (lambda x, y, spread: (x, y, spread**2))(*moments_of(ink)),
        lambda ink: moments_of(ink, centres=lambda n: torch.linspace(-1, 1, n, dtype=torch.float64)),
        lambda ink: moments_of(ink, total=torch.tensor(1.0)),
        lambda ink: (*moments_of(ink)[:2], moments_of(ink)[2] / 2**0.5),
    ],
    "follows": [
        lambda layer, x, turns: difference_of(layer, x, turns, moved=0), lambda layer, x, turns: 0.0,
        lambda layer, x, turns: difference_of(layer, x, turns, back=0),
        lambda layer, x, turns: difference_of(layer, x, turns, moved=-turns // 4),
    ],
    "tap": [
        lambda image, row, column, down, right: tap_of(image, row, column, right, down),
        lambda image, row, column, down, right: tap_of(image, row, column, round(down), round(right)),
        lambda image, row, column, down, right: tap_of(image, row, column, -down, -right),
        lambda image, row, column, down, right: tap_of(image, row, column, down, right, mode="nearest"),
    ],
}  # fmt: skip
CHECKERS = {
    "mirror": ch00.check_mirror, "crop": ch00.check_crop, "solve": ch00.check_puzzle,
    "read": ch01.check_read, "grid": ch01.check_grid, "make": ch01.check_shift_only,
    "border": ch02.check_border, "sample": ch02.check_sample_background, "pull": ch02.check_pull,
    "moved": ch03.check_moved, "groups": ch03.check_groups, "clip": ch03.check_clip,
    "top1_from": ch04.check_top1_from, "recall_and_precision": ch04.check_recall_and_precision,
    "seeds_needed": ch04.check_seeds_needed,
    "equal_step": ch06.check_equal_step, "look": ch06.check_look, "at_rest": ch06.check_at_rest,
    "discounted": ch07.check_discounted, "surrogate": ch07.check_surrogate, "my_moves": ch07.check_my_moves,
    "through": ch08.check_through, "plate": ch08.check_plate, "folds": ch08.check_folds,
    "theta_of_box": ch10.check_theta_of_box, "iou": ch10.check_iou, "pixels_on": ch10.check_pixels_on,
    "moments": ch11.check_moments, "follows": ch11.check_follows, "tap": ch11.check_tap,
    "partner": ch09.check_partner, "bank": ch09.check_bank, "mismatch_of": ch09.check_mismatch,
    "channels": ch05.check_channels, "Repaired": ch05.check_layer, "added": ch05.check_added,
}  # fmt: skip


def sources(chapter, kind):
    path = next(p for p in CHAPTERS if p.stem == chapter)
    return [
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind
    ]


def solutions(chapter):
    """What the folded solutions of a chapter define."""
    names = {"torch": torch, "nn": nn, "math": math, "warp": warp}
    for source in sources(chapter, "markdown"):
        for code in re.findall(
            r"<summary>Solution</summary>\s*```python\n(.*?)```", source, flags=re.S
        ):
            exec(code, names)
    return names


def stubs(chapter):
    names = {"nn": nn}
    for source in sources(chapter, "code"):
        if "raise NotImplementedError" in source:
            exec(source, names)
    return {name: value for name, value in names.items() if name in CHECKERS}


EXERCISES = [(chapter.stem, name) for chapter in CHAPTERS for name in stubs(chapter.stem)]


def test_every_chapter_has_three_exercises_and_every_checker_is_used():
    assert all(len(stubs(chapter.stem)) == 3 for chapter in CHAPTERS)
    assert {name for _, name in EXERCISES} == set(CHECKERS) == set(WRONG)


@pytest.mark.parametrize("chapter, name", EXERCISES)
def test_solution_is_right(chapter, name, capsys):
    CHECKERS[name](solutions(chapter)[name])
    assert capsys.readouterr().out.endswith(": right\n")


@pytest.mark.parametrize("chapter, name", EXERCISES)
def test_stub_is_not_attempted(chapter, name, capsys):
    CHECKERS[name](stubs(chapter)[name])
    assert capsys.readouterr().out.endswith(": not attempted yet\n")


@pytest.mark.parametrize(
    "name, number", [(name, n) for name in WRONG for n in range(len(WRONG[name]))]
)
def test_wrong_answer_is_refused(name, number, capsys):
    CHECKERS[name](WRONG[name][number])
    out = capsys.readouterr().out
    assert "not yet." in out and "raised" not in out, out


def test_code_that_fails_is_reported_not_raised(capsys):
    ch00.check_mirror(lambda: 1 / 0)
    assert "your code raised ZeroDivisionError" in capsys.readouterr().out


def test_solving_the_puzzle_brings_the_digit_back():
    x, _ = load("glyphs", "clean28").val.batch(slice(0, 8))
    solved = warp.warp(
        torch.stack([ch00.puzzle(image) for image in x]), solutions("00_start_here")["solve"]()
    )
    puzzled = torch.stack([ch00.puzzle(image) for image in x])
    assert (solved - x).abs().mean() < 0.35 * (puzzled - x).abs().mean()


def test_a_tally_counts_what_was_asked_and_what_is_right(capsys, monkeypatch):
    monkeypatch.setattr(exercises, "RESULTS", dict.fromkeys(("check_a", "check_b", "check_c")))
    results = exercises.RESULTS

    @exercises.checker
    def check_a(answer):
        assert answer == 1, "it is not 1"

    @exercises.checker
    def check_b(answer):
        answer()

    check_a(2), check_a(1), check_b(None)
    assert results == {"check_a": True, "check_b": False, "check_c": None}
    assert exercises.tally() == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 2 right"


QUIZZES = {"ch00": ("direction", "twice"), "ch01": ("poses", "kink", "interval"),
           "ch02": ("frame", "cause"), "ch03": ("adam", "plain"),
           "ch04": ("trap", "holm", "lost"), "ch05": ("patch", "stop", "power"), "ch06": ("compose", "cell"),
           "ch07": ("past", "baseline", "oracle"), "ch08": ("division", "horizon", "freedom"),
           "ch09": ("map", "ceiling", "shift"),
           "ch10": ("resolution", "frozen", "ceiling"),
           "ch11": ("ink", "turns", "canon")}  # fmt: skip


@pytest.mark.parametrize("chapter, name", [(c, n) for c, names in QUIZZES.items() for n in names])
def test_a_question_has_four_answers_one_of_them_right_and_a_reason_for_each(chapter, name, capsys):
    answer = importlib.import_module(f"stn_utils.exercises.{chapter}").answer
    said = {}
    for letter in "abcd":
        answer(name, f" {letter.upper()} ")
        said[letter] = capsys.readouterr().out.strip()
    right = [letter for letter, text in said.items() if text.startswith(f"{name}: right. ")]
    wrong = [letter for letter, text in said.items() if text.startswith(f"{name}: not yet. ")]
    assert len(right) == 1 and len(wrong) == 3 and len(set(said.values())) == 4
    answer(name, "?")
    assert capsys.readouterr().out == f"{name}: not attempted yet\n"
    answer(name, "e")
    assert "expected one of a, b, c, d, got 'e'" in capsys.readouterr().out
    chapters = list((Path(__file__).parents[1] / "notebooks").glob(f"{chapter[2:]}_*.ipynb"))
    assert f'{chapter}.answer(\\"{name}\\", \\"?\\")' in chapters[0].read_text()
