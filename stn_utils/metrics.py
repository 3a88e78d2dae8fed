"""Numbers from predictions and labels, and intervals over seeds. top1 is a fraction in [0, 1]."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

BySeed = dict[int, float]  # one number a seed


def _checked(predictions, labels, classes=None):
    """Both, after a look: the same length above 0, and classes 0 to classes - 1."""
    if predictions.shape != labels.shape or not len(labels):
        what = "predictions and labels: expected the same length above 0"
        raise ValueError(
            f"{what}, got shapes {tuple(predictions.shape)} and {tuple(labels.shape)}."
        )
    for name, values in (("predictions", predictions), ("labels", labels)) if classes else ():
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= classes:
            raise ValueError(f"{name}: expected classes 0 to {classes - 1}, got {low} to {high}.")
    return predictions, labels


def top1(predictions: Tensor, labels: Tensor) -> float:
    """Share of right answers; both (N,). Raises ValueError if they are empty or of two shapes."""
    predictions, labels = _checked(predictions, labels)
    return (predictions == labels).float().mean().item()


def confusion(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Count matrix (classes, classes): row = true class, column = answer; both arguments (N,).

    Its sum is N, its trace the right answers. Raises ValueError as `top1`, and for a class out of
    range.
    """
    predictions, labels = _checked(predictions, labels, classes)
    cells = labels.long() * classes + predictions.long()
    return torch.bincount(cells, minlength=classes**2).view(classes, classes)


def per_class(counts: Tensor) -> dict[str, list[float]]:
    """What one class against the rest scores: lists of one number a class, from a `confusion`.

    precision (of the answers "c", how many are c), recall (of all c, how many were found; also:
    sensitivity, or a class's accuracy), specificity (of all others, how many were not called c), f1
    (harmonic mean of precision and recall), one_vs_rest (right answers to "is it c?", the others'
    included). Where nothing was answered or nothing is there, 0.
    """
    counts = counts.double()
    total, found = counts.sum(), counts.diag()
    there, answered = counts.sum(dim=1), counts.sum(dim=0)
    rejected, others = total - there - answered + found, total - there
    shares = {
        "precision": (found, answered),
        "recall": (found, there),
        "specificity": (rejected, others),
        "f1": (2 * found, there + answered),
        "one_vs_rest": (found + rejected, total),
    }
    return {n: (part / whole.clamp(min=1)).tolist() for n, (part, whole) in shares.items()}


def report(counts: Tensor) -> dict[str, float]:
    """top1, and the means over classes (macro averages) of what `per_class` returns."""
    means = {name: sum(values) / len(values) for name, values in per_class(counts).items()}
    return {"top1": (counts.trace() / counts.sum()).item(), **means}


def calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error, in [0, 1]: how far confidence is from being right.

    logits (N, classes), labels (N,). Images are sorted by the probability of their answer into
    `bins` equal intervals; the gaps between mean probability and share right are averaged, weighted
    by images. Raises ValueError as `confusion`. Source: Guo et al. 2017.
    """
    confidence, predictions = logits.cpu().double().softmax(dim=1).max(dim=1)
    predictions, labels = _checked(predictions, labels.cpu(), logits.shape[1])
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1  # intervals are open on the left
    gap = torch.zeros(bins, dtype=torch.float64)
    gap.index_add_(0, place, confidence - (predictions == labels).double())
    return gap.abs().sum().item() / len(labels)


def mcnemar(ours: Tensor | np.ndarray, theirs: Tensor | np.ndarray) -> tuple[int, int, float]:
    """Images that only one of two networks gets right: only ours, only theirs, McNemar's exact p.

    ours, theirs: booleans (N,), right or not, for the same images in the same order. Raises
    ValueError for other lengths.
    """
    from scipy import stats

    if len(ours) != len(theirs) or not len(ours):
        got = f"{len(ours)} and {len(theirs)}"
        raise ValueError(f"ours and theirs: expected the same images, above 0, got {got}.")
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    differ = only_ours + only_theirs
    p = float(stats.binomtest(only_ours, differ).pvalue) if differ else 1.0
    return only_ours, only_theirs, p


def interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half-width of the t-interval over values, one per seed.

    The half-width of a single value is None. Raises ValueError if there are none.
    """
    from scipy import stats

    if not len(values):
        raise ValueError("values: expected at least one, got none.")
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def differences(ours: BySeed, theirs: BySeed) -> list[float]:
    """The differences ours - theirs over paired seeds, each a dict {seed: value}.

    Raises ValueError, naming them, for seeds that only one side has.
    """
    lonely = sorted(set(ours) ^ set(theirs))
    if lonely:
        raise ValueError(f"paired comparison: seeds {lonely} are on one side only.")
    return [ours[seed] - theirs[seed] for seed in sorted(ours)]


def compare(ours: BySeed, theirs: BySeed) -> tuple[float, float | None]:
    """Mean and half-width of the t-interval of `differences`."""
    return interval(differences(ours, theirs))


def paired_p(ours: BySeed, theirs: BySeed) -> float:
    """p value of the t-test on `differences`; nan for less than two.

    Where they are all alike, it is 1 if they are 0, else 0.
    """
    from scipy import stats

    found = differences(ours, theirs)
    if len(found) < 2:
        return math.nan
    if len(set(found)) == 1:
        return float(found[0] == 0)
    return float(stats.ttest_1samp(found, 0).pvalue)


def wilson(successes: int, count: int) -> tuple[float, float]:
    """Wilson's interval (low, high) for a rate; (0, 1) where nothing was counted."""
    from scipy import stats

    if not count:
        return 0.0, 1.0
    interval = stats.binomtest(successes, count).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def holm(p_values: Sequence[float], asked: int | None = None) -> list[float]:
    """Holm's adjusted p values, in the order given.

    Below 0.05, a contrast stands among all that were asked. asked: how many these are; default as
    many as there are p values.
    """
    asked = asked or len(p_values)
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(
        sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))
    ):
        largest = max(largest, min(1.0, (asked - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
