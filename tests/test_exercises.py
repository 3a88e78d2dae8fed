"""Each folded solution passes its checker; stubs and plausible wrong answers do not."""

import math
import re
from pathlib import Path

import nbformat
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stn_utils import load, warp
from stn_utils.exercises import ch00, ch01, ch02, ch03

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
            out = torch.tensor([1.0, 0, 0, 0, 1, 0], dtype=torch.float64).repeat(len(x), 1).requires_grad_()
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
}  # fmt: skip
CHECKERS = {
    "mirror": ch00.check_mirror, "crop": ch00.check_crop, "solve": ch00.check_puzzle,
    "read": ch01.check_read, "grid": ch01.check_grid, "make": ch01.check_shift_only,
    "border": ch02.check_border, "sample": ch02.check_sample_background, "pull": ch02.check_pull,
    "moved": ch03.check_moved, "groups": ch03.check_groups, "clip": ch03.check_clip,
}  # fmt: skip


def sources(chapter, kind):
    path = next(p for p in CHAPTERS if p.stem == chapter)
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def solutions(chapter):
    """What the folded solutions of a chapter define."""
    names = {"torch": torch, "math": math, "warp": warp}
    for source in sources(chapter, "markdown"):
        for code in re.findall(r"<summary>Solution</summary>\s*```python\n(.*?)```", source, flags=re.S):
            exec(code, names)
    return names


def stubs(chapter):
    names = {}
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


@pytest.mark.parametrize("name, number", [(name, n) for name in WRONG for n in range(len(WRONG[name]))])
def test_wrong_answer_is_refused(name, number, capsys):
    CHECKERS[name](WRONG[name][number])
    out = capsys.readouterr().out
    assert "not yet." in out and "raised" not in out, out


def test_code_that_fails_is_reported_not_raised(capsys):
    ch00.check_mirror(lambda: 1 / 0)
    assert "your code raised ZeroDivisionError" in capsys.readouterr().out


def test_solving_the_puzzle_brings_the_digit_back():
    x, _ = load("glyphs", "clean28").val.batch(slice(0, 8))
    solved = warp.warp(torch.stack([ch00.puzzle(image) for image in x]), solutions("00_start_here")["solve"]())
    puzzled = torch.stack([ch00.puzzle(image) for image in x])
    assert (solved - x).abs().mean() < 0.35 * (puzzled - x).abs().mean()
