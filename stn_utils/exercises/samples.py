"""Samples of recorded runs: what an interval means. Chapter 01 alone uses it."""

import json
from collections.abc import Sequence

import numpy as np
from scipy import stats

from .. import show
from ..metrics import interval
from ..player import fill
from ..show.style import FAINT, INK, OTHER, WIDTH, WINDOW, Figure, styled


@styled
def sampled(values: Sequence[float], count: int = 5, samples: int = 20) -> Figure:
    """Samples of `count` runs each, drawn from recorded ones: mean and 95 % interval of each."""
    random, everything = np.random.default_rng(0), np.array(values)
    figure = Figure(figsize=(WIDTH * 0.7, 3))
    ax = figure.subplots()
    for row in range(samples):
        sample = random.choice(everything, count)
        mean, half = interval(sample.tolist())
        hit = abs(mean - everything.mean()) <= (half or 0)
        ax.plot(sample, [row] * count, ".", color=FAINT)
        ax.errorbar(mean, row, xerr=half, fmt="o", color=OTHER if hit else WINDOW, markersize=4)
    ax.axvline(everything.mean(), color=INK, linewidth=1)
    ax.set(yticks=[], xlabel="top-1, %", title=f"{samples} samples of {count} runs")
    return figure


def resample_html(values: list[float]) -> str:
    """Samples of recorded runs, each with its mean and its 95 % interval, as a page with a slider.

    values: a number a run, in percent. A line marks the mean of all of them; an interval that
    misses it is orange.
    """
    figure = sampled(values)
    uri = show.data_uri(figure._repr_mimebundle_()[0]["image/png"], "png")
    quantiles = [round(float(stats.t.ppf(0.975, count - 1)), 4) for count in range(2, 21)]
    numbers = [round(value, 3) for value in values]
    return fill("resample.html", VALUES=json.dumps(numbers), T=json.dumps(quantiles), STILL=uri)
