"""One palette, one width, one style of figures, and which images of a Run are shown."""

import functools
import html
import io
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import torch
from cycler import cycler
from torch import Tensor

from ..run import Run

INK, PAPER, FAINT = "#1f2933", "#ffffff", "#c5cdd5"
# The transformer's window and curve; the baseline's; the rest's.
WINDOW, OTHER, THIRD = "#e8590c", "#1c7ed6", "#2b8a3e"
WIDTH = 9  # inches, every figure
DIGITS_SHOWN = 10
# A legend's place: never on the curves.
BESIDE: dict[str, Any] = dict(loc="center left", bbox_to_anchor=(1, 0.5))
Picture = Tensor | np.ndarray
Pictures = Tensor | np.ndarray | Sequence[Picture]

STYLE: Any = {
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "figure.dpi": 90, "figure.titlesize": 11,
    "figure.constrained_layout.use": True, "figure.constrained_layout.h_pad": 0.07,
    "axes.prop_cycle": cycler(color=[WINDOW, OTHER, THIRD, INK, "#9c36b5", "#868e96"]),
    "axes.edgecolor": INK, "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": "#e9ecef",
    "text.color": INK, "xtick.color": INK, "ytick.color": INK,
    "axes.titlesize": 10, "font.size": 10,
    "legend.frameon": False, "image.cmap": "gray", "lines.linewidth": 2,
}  # fmt: skip


class Figure(mpl.figure.Figure):
    """A Figure that pyplot does not know; a notebook shows it, with a text that says what it is."""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, bytes], dict[str, dict[str, str]]]:
        content = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.savefig(content, format="png", bbox_inches="tight")
        texts = [self.get_suptitle()]
        for ax in self.axes:
            texts += [ax.get_title(), ax.get_ylabel(), ax.get_xlabel()]
        alt = "; ".join(dict.fromkeys(text.replace("\n", " ") for text in texts if text))
        return {"image/png": content.getvalue()}, {"image/png": {"alt": f"Figure: {alt}"}}


class fold:
    """A long text behind a line that opens it; where nothing opens, the text."""

    def __init__(self, text: str, summary: str = "The table") -> None:
        self.text, self.summary = text, summary

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        summary, text = html.escape(self.summary), html.escape(self.text)
        page = f"<details><summary>{summary}</summary><pre>{text}</pre></details>"
        return {"text/html": page, "text/plain": self.text}


def use_style() -> None:
    """Draw the reader's own plots, too, in the course's style."""
    mpl.rcParams.update(STYLE)


def styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Let a function draw its Figure in the course's style, whatever the reader's own."""

    @functools.wraps(draw)
    def drawn(*arguments, **options):
        with mpl.rc_context(STYLE):
            figure = draw(*arguments, **options)
            figure.draw_without_rendering()  # ticks take their colour when first drawn
        return figure

    return drawn


def plane(image: Picture) -> np.ndarray:
    """An image (C, H, W) or (H, W) as (H, W) or (H, W, 3); two channels become red and blue."""
    image = torch.as_tensor(image).detach().cpu()
    if image.ndim == 3 and len(image) == 2:
        image = torch.stack([image[0], torch.zeros_like(image[0]), image[1]])
    if image.ndim == 3:
        image = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return image.numpy()


def shown(run: Run, count: int) -> tuple[dict[str, Any], Tensor, Tensor]:
    """The probe of a Run, its looks, and the indices to show.

    These are one image of each class first, then the second ones. Raises ValueError for a network
    without looks.
    """
    if run.looks is None:
        raise ValueError(f"{run.experiment.model} has no looks: there is no warp to show.")
    labels = run.probe["labels"].tolist()
    order = sorted(range(len(labels)), key=lambda i: labels[:i].count(labels[i]))
    return run.probe, run.looks, torch.tensor(order[:count])
