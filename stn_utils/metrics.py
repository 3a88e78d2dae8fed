"""Numbers from predictions and labels, and intervals over seeds. top1 is a fraction in [0, 1]."""

import math

import torch


def top1(predictions, labels):
    """Share of right answers; both (N,). Raises ValueError if they are empty or of different lengths."""
    if len(predictions) != len(labels) or not len(labels):
        raise ValueError(f"predictions and labels: expected the same length above 0, got {len(predictions)} and {len(labels)}.")
    return (predictions == labels).float().mean().item()


def confusion(predictions, labels, classes=10):
    """Count matrix (classes, classes): row = true class, column = answer. Its sum is N, its trace the right answers."""
    return torch.bincount(labels.long() * classes + predictions.long(), minlength=classes**2).view(classes, classes)


def interval(values, level=0.95):
    """Mean and half-width of the t-interval over values, one per seed; half-width None for a single value."""
    from scipy import stats

    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * spread / math.sqrt(len(values))


def compare(ours, theirs, level=0.95):
    """Mean and half-width of the difference ours - theirs over paired seeds, each a dict {seed: value}.

    Raises ValueError, naming them, for seeds that only one side has.
    """
    lonely = sorted(set(ours) ^ set(theirs))
    if lonely:
        raise ValueError(f"paired comparison: seeds {lonely} are on one side only.")
    return interval([ours[seed] - theirs[seed] for seed in sorted(ours)], level)
