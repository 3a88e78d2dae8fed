"""Numbers from predictions and labels, and intervals over seeds. top1 is a fraction in [0, 1]."""

import math

import torch


def top1(predictions, labels):
    """Share of right answers; both (N,). Raises ValueError if they are empty or of different shapes."""
    if predictions.shape != labels.shape or not len(labels):
        shapes = f"{tuple(predictions.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"predictions and labels: expected the same length above 0, got shapes {shapes}.")
    return (predictions == labels).float().mean().item()


def confusion(predictions, labels, classes=10):
    """Count matrix (classes, classes): row = true class, column = answer. Its sum is N, its trace the right answers."""
    return torch.bincount(labels.long() * classes + predictions.long(), minlength=classes**2).view(classes, classes)


def interval(values, level=0.95):
    """Mean and half-width of the t-interval over values, one per seed; half-width None for a single value.

    Raises ValueError if there are none.
    """
    from scipy import stats

    if not len(values):
        raise ValueError("values: expected at least one, got none.")
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    return mean, float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * spread / math.sqrt(len(values))


def differences(ours, theirs):
    """The differences ours - theirs over paired seeds, each a dict {seed: value}.

    Raises ValueError, naming them, for seeds that only one side has.
    """
    lonely = sorted(set(ours) ^ set(theirs))
    if lonely:
        raise ValueError(f"paired comparison: seeds {lonely} are on one side only.")
    return [ours[seed] - theirs[seed] for seed in sorted(ours)]


def compare(ours, theirs, level=0.95):
    """Mean and half-width of the t-interval of `differences`."""
    return interval(differences(ours, theirs), level)


def paired_p(ours, theirs):
    """p value of the t-test on `differences`; where they are all alike, 1 if they are 0, else 0."""
    from scipy import stats

    found = differences(ours, theirs)
    if len(set(found)) == 1:
        return float(found[0] == 0)
    return float(stats.ttest_1samp(found, 0).pvalue)


def wilson(successes, count, level=0.95):
    """Wilson's interval (low, high) for a rate; (0, 1) where nothing was counted."""
    from scipy import stats

    if not count:
        return 0.0, 1.0
    interval = stats.binomtest(successes, count).proportion_ci(level, "wilson")
    return float(interval.low), float(interval.high)


def holm(p_values):
    """Holm's adjusted p values, in the order given: below 0.05, a contrast stands among all that were asked."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
