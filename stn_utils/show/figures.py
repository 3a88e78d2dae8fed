"""Figures: panels in the order input, grid on input, warped."""

import matplotlib.pyplot as plt
import numpy as np
import torch

from ..diagnose import collapse_epoch
from ..metrics import interval
from ..warp import corners, make_grid
from .style import BESIDE, DIGITS_SHOWN, FAINT, INK, WIDTH, WINDOW, plane, shown


def _picture(ax, image, title=None, low=None, high=None, show_range=False):
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


def images(batch, titles=None, low=0, high=1, suptitle=None):
    """A row of images (N, C, H, W) or a list of (H, W), the value range under each."""
    count = len(batch)
    side = WIDTH / max(count, 5)
    figure, axes = plt.subplots(1, count, figsize=(side * count, side + 0.45), squeeze=False)
    for i, ax in enumerate(axes[0]):
        _picture(ax, batch[i], titles[i] if titles is not None else None, low, high, show_range=True)
    if suptitle:
        figure.suptitle(suptitle)
    plt.show()


def _draw_window(ax, theta, shape):
    """Window theta (1, 2, 3) on an image of shape (..., H, W), its top left corner dotted, and 6x6 of its sampling points."""
    size = torch.tensor([shape[-1], shape[-2]])
    box, points = (((part.detach().cpu() + 1) * size - 1) / 2 for part in (corners(theta), make_grid(theta, (6, 6))))
    ax.plot(*points.reshape(-1, 2).T, ".", color=WINDOW, markersize=2)  # the full grid of 28x28 would hide the image
    ax.plot(*box[0, [0, 1, 2, 3, 0]].T, color=WINDOW, linewidth=1.6)
    ax.plot(*box[0, 0], "o", color=WINDOW, markersize=4)


def looks(x, theta, x_warped, titles=None, suptitle=None):
    """Three rows: inputs (N, C, H, W), the sampling grid and window of theta (N, 2, 3) on them, warped pictures."""
    count = len(x)
    side = WIDTH / max(count, 5)
    height, width = x.shape[-2:]
    reach = corners(theta).nan_to_num(0, 9, -9).abs().max().item()
    rim = max(height, width) * min(max((reach - 1) / 2 + 0.03, 0.05), 0.5)  # a window may reach beyond the image
    figure, axes = plt.subplots(3, count, figsize=(side * count, 3 * side + 0.3), squeeze=False)
    for i in range(count):
        _picture(axes[0, i], x[i], titles[i] if titles is not None else None, 0, 1)
        _picture(axes[1, i], x[i], None, 0, 1)
        _draw_window(axes[1, i], theta[[i]], x.shape)
        axes[1, i].set(xlim=(-rim - 0.5, width + rim - 0.5), ylim=(height + rim - 0.5, -rim - 0.5), facecolor=FAINT)
        _picture(axes[2, i], x_warped[i], None, 0, 1)
    for ax, name in zip(axes[:, 0], ("input", "grid\non input", "warped")):
        ax.set_ylabel(name)
    if suptitle:
        figure.suptitle(suptitle)
    plt.show()


def before_after(run, count=DIGITS_SHOWN, epoch=-1):
    """The probe images of a Run before and after its warp, at an epoch (0 is before training)."""
    probe, chosen = shown(run, count)
    epoch = range(run.epochs + 1)[epoch]
    looks(probe["images"][chosen] / 255, probe["thetas"][epoch][chosen], probe["warped"][epoch][chosen] / 255,
          suptitle=f"{run.title}, {run.experiment.model}, epoch {epoch}")  # fmt: skip


def _entry(history, name):
    """An entry of a history as an array, and its axis label; `top1` and `loss` are the followed part's."""
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


def curves(runs, name="top1"):
    """History of several Runs {label: Run}: `top1`, `loss`, or any other entry, over epochs."""
    ends = [f" (collapsed in epoch {run.collapse_epoch})" if run.collapse_epoch else "" for run in runs.values()]
    histories = {label + end: [run.history] for (label, run), end in zip(runs.items(), ends)}
    _draw_means(histories, name, title=next(iter(runs.values())).title)


def seeds(records, rows, name="det", low=None, high=None):
    """A study's history entry over epochs, a panel per row, a line per seed; a dotted line is a run that collapsed.

    records: those of the study. rows: {row name: title}. name: an entry of the history; `top1` is in percent.
    """
    figure, axes = plt.subplots(1, len(rows), figsize=(WIDTH, 2.6), sharex=True, sharey=True, squeeze=False)
    for ax, (row, title) in zip(axes[0], rows.items()):
        for record in (record for record in records if record["row"] == row):
            values, heading = _entry(record["history"], name)
            lost = collapse_epoch(record["history"])
            ax.plot(record["history"]["epoch"], values, ":" if lost else "-", color=INK if lost else WINDOW, linewidth=1)
            axes[0, 0].set_ylabel(heading)
        ax.set_title(title)
        _epochs(ax)
    axes[0, 0].set_ylim(low, high)
    plt.show()


def bands(records, rows, name="top1", low=None, high=None, title=None):
    """A study's history entry over epochs: per row the mean over seeds, in its 95 % t-interval; arguments as in `seeds`."""
    found = {label: [record["history"] for record in records if record["row"] == row] for row, label in rows.items()}
    _draw_means({f"{label} (seeds: {len(h)})": h for label, h in found.items() if h}, name, low, high, title)


def _draw_means(histories, name, low=None, high=None, title=None):
    """Draw {label: histories}: the mean of an entry over epochs, and its band; of one history a line."""
    _, ax = plt.subplots(figsize=(WIDTH, 3))
    headings = {_entry(found[0], name)[1] for found in histories.values()}  # two, where a replica stands beside others
    for label, found in histories.items():
        by_epoch = zip(*(_entry(history, name)[0] for history in found))  # as long as every seed is there
        means, halves = np.array([(mean, half or 0) for mean, half in map(interval, by_epoch)]).T
        epochs = found[0]["epoch"][: len(means)]
        (line,) = ax.plot(epochs, means, "o-", markersize=4, label=label)
        ends = (0, 100) if name == "top1" else (-np.inf, np.inf)
        band = [(means + sign * halves).clip(*ends) for sign in (-1, 1)]
        ax.fill_between(epochs, *band, color=line.get_color(), alpha=0.15, linewidth=0)
    _epochs(ax)
    ax.set(ylim=(low, high), title=title or "", ylabel=" or ".join(sorted(headings)))
    if histories:
        ax.legend(**BESIDE)
    plt.show()


def mistakes(run, count=DIGITS_SHOWN, names=None):
    """The first test images that a Run gets wrong, before and after its warp; titles: true class → answer.

    names: of the classes; default their numbers.
    """
    predictions, part, model = run.tested()["predictions"], run.test_part(), run.model()
    wrong = (predictions != part.labels).nonzero()[:count, 0]
    if not len(wrong):
        raise ValueError(f"{run.title}: all answers are right, there is no mistake to show.")
    x, y = part.batch(wrong)
    pairs = zip(y.tolist(), predictions[wrong].tolist())
    titles = [f"{names[true]} →\n{names[answer]}" if names else f"{true} → {answer}" for true, answer in pairs]
    heading = f"{run.title}, {run.experiment.model}: true → answered"
    with torch.no_grad():
        thetas, views = model.looks(x), model.picture(x)
    if thetas:
        looks(x, thetas[-1], views, titles, heading)
    else:
        images(views, titles, suptitle=heading)


def confusion(run):
    """The test confusion matrix of a Run: rows true, columns answered; colour shows the mistakes alone."""
    counts = run.tested()["confusion"].numpy()
    mistakes = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    _, ax = plt.subplots(figsize=(WIDTH * 0.5, WIDTH * 0.5))
    ax.imshow(mistakes, cmap="Oranges", vmax=max(1, 1.5 * mistakes.max()))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ax.text(column, row, count, ha="center", va="center", fontsize=8)
    ticks = range(len(counts))
    ax.set(xlabel="answered", ylabel="true", xticks=ticks, yticks=ticks)
    ax.set_title(f"{run.title}: {100 * run.test['top1']:.2f} % right")
    ax.grid(False)
    plt.show()


def save(path, draw, *arguments):
    """Write what a figure function draws to a file, instead of showing it."""
    shown, plt.show = plt.show, lambda: None
    try:
        draw(*arguments)
        plt.gcf().savefig(path)
    finally:
        plt.show = shown
        plt.close()
