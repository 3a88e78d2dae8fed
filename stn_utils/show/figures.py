"""Figures: panels in the order input, grid on input, warped. Each function returns its Figure.

In a notebook it appears where it is the last value of a cell, or by `display(...)`.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from torch import Tensor

from .. import study
from ..data import World
from ..diagnose import History
from ..metrics import interval
from ..run import Run
from .draw import reach, window_on_axes
from .style import (
    BESIDE,
    DIGITS_SHOWN,
    FAINT,
    INK,
    PAPER,
    STYLE,
    WIDTH,
    WINDOW,
    Figure,
    Pictures,
    plane,
    shown,
    styled,
)


def _picture(ax, image, title=None, low=0, high=1, show_range=False):
    """One image with nothing around it; pixel coordinates, pixel 0 centred at 0."""
    pixels = plane(image)
    ax.imshow(pixels, vmin=low, vmax=high)
    ax.grid(False)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    if show_range:
        ax.set_xlabel(f"{pixels.min():.2g} to {pixels.max():.2g}", fontsize=8)


@styled
def images(
    batch: Pictures,
    titles: Sequence[str] | None = None,
    low: float | None = 0,
    high: float | None = 1,
    suptitle: str | None = None,
) -> Figure:
    """A row of images (N, C, H, W) or a list of (H, W), the value range under each."""
    count = len(batch)
    side = WIDTH / max(count, 5)
    height, width = plane(batch[0]).shape[:2]
    figure = Figure(figsize=(side * count, side * height / width + 0.45))
    for i, ax in enumerate(figure.subplots(1, count, squeeze=False)[0]):
        title = None if titles is None else titles[i]
        _picture(ax, batch[i], title, low, high, show_range=True)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


@styled
def looks(
    x: Tensor,
    look: Tensor,
    x_warped: Tensor,
    titles: Sequence[str] | None = None,
    suptitle: str | None = None,
) -> Figure:
    """Three rows: inputs (N, C, H, W), each look's grid and window on them, warped pictures.

    look: theta (N, 2, 3), or grids (N, h, w, 2).
    """
    count = len(x)
    side = WIDTH / max(count, 5)
    height, width = x.shape[-2:]
    farthest = reach(look).nan_to_num(0, 9).max().item()
    beyond = min(max((farthest - 1) / 2 + 0.03, 0.05), 0.5)  # a window may reach beyond the image
    rim = max(height, width) * beyond
    tall = side * height / width
    figure = Figure(figsize=(side * count, 3 * tall + 0.3))
    axes = figure.subplots(3, count, squeeze=False)
    for i in range(count):
        above, middle, below = axes[:, i]
        _picture(above, x[i], None if titles is None else titles[i])
        _picture(middle, x[i])
        window_on_axes(middle, look[[i]], height, width)
        across, down = (-rim - 0.5, width + rim - 0.5), (height + rim - 0.5, -rim - 0.5)
        middle.set(xlim=across, ylim=down, facecolor=FAINT)
        _picture(below, x_warped[i])
    for ax, name in zip(axes[:, 0], ("input", "grid\non input", "warped")):
        ax.set_ylabel(name)
    if suptitle:
        figure.suptitle(suptitle)
    return figure


def before_after(run: Run, count: int = DIGITS_SHOWN, epoch: int = -1) -> Figure:
    """The probe images of a Run before and after its warp, at an epoch (0 is before training)."""
    probe, windows, chosen = shown(run, count)
    epoch = range(run.epochs + 1)[epoch]
    heading = f"{run.title}, {run.experiment.model}, epoch {epoch}"
    pictures, warped = probe["images"][chosen] / 255, probe["warped"][epoch][chosen] / 255
    return looks(pictures, windows[epoch][chosen], warped, suptitle=heading)


def _entry(history, name):
    """An entry of a history as an array, and its label; `top1` and `loss` are those followed."""
    key = next((key for key in (f"val_{name}", f"test_{name}", name) if key in history), None)
    if key is None:
        raise ValueError(f"history: no {name!r} in it; it has {', '.join(history)}.")
    values = np.array(history[key], dtype=float)
    if name == "top1":
        return 100 * values, f"{key.split('_')[0]} top-1, %"
    return values, {"det": "det A", "outside": "share outside"}.get(name, key.replace("_", " "))


def _epochs(ax):
    ax.set_xlabel("epoch")
    ax.xaxis.get_major_locator().set_params(integer=True)


def curves(runs: dict[str, Run], name: str = "top1") -> Figure:
    """History of several Runs {label: Run}: `top1`, `loss`, or any other entry, over epochs."""
    if not runs:
        raise ValueError("runs: expected at least one Run, got none.")
    histories = {}
    for label, run in runs.items():
        end = f" (collapsed in epoch {run.collapse_epoch})" if run.collapse_epoch else ""
        histories[label + end] = [run.history]
    return mean_curves(histories, name, next(iter(runs.values())).title)


@styled
def seed_curves(
    records: list[study.Record],
    rows: dict[str, str],
    name: str = "det",
    low: float | None = None,
    high: float | None = None,
) -> Figure:
    """A study's history entry over epochs, a panel per row: a thin line per seed.

    A dotted line is a run that collapsed; the thick one is the mean of those that did not. records:
    those of the study. rows: {row name: title}. name: an entry of the history; `top1` is in
    percent, `det` is drawn by doublings, with a line at 1, the whole picture.
    """
    figure = Figure(figsize=(WIDTH, 2.6))
    axes = figure.subplots(1, len(rows), sharex=True, sharey=True, squeeze=False)[0]
    for ax, (row, title) in zip(axes, rows.items()):
        kept = []
        for record in (record for record in records if record["row"] == row):
            values, heading = _entry(record["history"], name)
            epochs, lost = record["history"]["epoch"], study.collapse(record)
            line, color = (":", INK) if lost else ("-", WINDOW)
            ax.plot(epochs, values, line, color=color, linewidth=1, alpha=0.5)
            kept += [] if lost else [values]
            axes[0].set_ylabel(heading)
        if kept:
            ax.plot(epochs, np.mean(kept, axis=0), color=WINDOW, linewidth=2.5)
        ax.set_title(title)
        _epochs(ax)
        if name == "det":
            ax.set_yscale("log", base=2)
            ax.set_yticks([0.25, 0.5, 0.75, 1, 1.5, 2, 4, 8])
            ax.yaxis.set_major_formatter("{x:g}")
            ax.axhline(1, color=INK, linewidth=0.8)
    axes[0].set_ylim(low, high)
    return figure


@styled
def forest(chosen: study.Study, title: str) -> Figure:
    """A study's contrasts as effects: each difference with its 95 % t-interval, a line at none.

    Filled where it is significant after Holm, over all contrasts of the plan but a primary one.
    Grouped by world, unless rows of unlike worlds are compared.
    """
    names, labels, group = chosen.names, [], ""
    found = [c for c in study.contrasts(chosen) if c.half == c.half]  # nan: too few pairs
    grouped = all(chosen.rows[c.ours].world == chosen.rows[c.theirs].world for c in found)
    figure = Figure(figsize=(WIDTH, 0.8 + 0.32 * len(found)))
    ax = figure.subplots()
    for c in found:
        one = chosen.rows[c.ours]
        if grouped and group != (group := f"{one.dataset}, {one.world}"):
            labels.append(group)
        dot = ax.errorbar(
            c.mean, len(labels), xerr=c.half, fmt="o", color=WINDOW, markersize=7, capsize=3
        )
        dot[0].set_markerfacecolor(WINDOW if c.p < 0.05 else PAPER)
        labels.append(f"{names.get(c.ours, c.ours)} − {names.get(c.theirs, c.theirs)}")
    ax.axvline(0, color=INK, linewidth=1)
    ax.set_yticks(range(len(labels)), labels)
    for label in ax.get_yticklabels():
        label.set_fontweight("normal" if " − " in label.get_text() else "bold")
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    holm = "the first asked alone, the others after Holm" if chosen.primary else "after Holm"
    ax.set_xlabel(f"difference, points of test top-1; filled: significant ({holm})", loc="right")
    ax.set_title(title)
    return figure


@styled
def mean_curves(
    histories: dict[str, list[History]], name: str = "top1", title: str | None = None
) -> Figure:
    """An entry of the histories {label: those of its seeds} over epochs: the mean in its band.

    That is the 95 % t-interval over seeds; of one seed a line. name: an entry of the history;
    `top1` is in percent.
    """
    figure = Figure(figsize=(WIDTH, 3))
    ax = figure.subplots()
    # Two headings, where a replica stands beside others.
    headings = {_entry(found[0], name)[1] for found in histories.values()}
    for label, found in histories.items():
        by_epoch = zip(
            *(_entry(history, name)[0] for history in found)
        )  # while every seed is there
        means, halves = np.array([(mean, half or 0) for mean, half in map(interval, by_epoch)]).T
        epochs = found[0]["epoch"][: len(means)]
        (line,) = ax.plot(epochs, means, "o-", markersize=4, label=label)
        ends = (0, 100) if name == "top1" else (-np.inf, np.inf)
        band = [(means + sign * halves).clip(*ends) for sign in (-1, 1)]
        ax.fill_between(epochs, *band, color=line.get_color(), alpha=0.15, linewidth=0)
    _epochs(ax)
    ax.set(title=title or "", ylabel=" or ".join(sorted(headings)))
    if histories:
        ax.legend(**BESIDE)
    return figure


def mistakes(run: Run, count: int = DIGITS_SHOWN, world: World | None = None) -> Figure:
    """The first test images that a Run gets wrong, before and after its warp.

    Titles: true class → answer. world: the one it was trained on, if it is your own pictures.
    """
    wrong = (~run.right()).nonzero()[:count, 0]
    if not len(wrong):
        raise ValueError(f"{run.title}: all answers are right, there is no mistake to show.")
    split, model = run.test_split() if world is None else world.to("cpu").test, run.model()
    x, y = split.batch(wrong)
    answers, names = run.tested()["predictions"][wrong], run.names
    gap = " " if max(map(len, names)) == 1 else "\n"
    titles = [f"{names[true]} →{gap}{names[answer]}" for true, answer in zip(y, answers)]
    heading = f"{run.title}, {run.experiment.model}: true → answered"
    with torch.no_grad():
        windows, views = model.looks(x), model.warped(x)
    if windows:
        return looks(x, windows[-1], views, titles, heading)
    return images(views, titles, suptitle=heading)


@styled
def confusion(run: Run) -> Figure:
    """The test confusion matrix of a Run: rows true, columns answered.

    Colour shows the mistakes alone.
    """
    counts = run.tested()["confusion"].numpy()
    mistakes = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    figure = Figure(figsize=(WIDTH * 0.5, WIDTH * 0.5))
    ax = figure.subplots()
    ax.imshow(mistakes, cmap="Oranges", vmax=max(1, 1.5 * mistakes.max()))
    ax.set(xlabel="answered", ylabel="true")
    if len(counts) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                ax.text(column, row, count, ha="center", va="center", fontsize=8)
        turn = 45 if max(map(len, run.names)) > 2 else 0
        ax.set_xticks(range(len(counts)), run.names, rotation=turn)
        ax.set_yticks(range(len(counts)), run.names)
    ax.set_title(f"{run.title}: {100 * run.tested()['top1']:.2f} % right")
    ax.grid(False)
    return figure


def save(path: Path | str, figure: Figure) -> None:
    """Write a Figure to a file."""
    with mpl.rc_context(STYLE):
        figure.savefig(path)
