"""Numbers from predictions and labels, and intervals over seeds. top1 is a fraction in [0, 1]."""

import math

import torch


def _checked(predictions, labels, classes=None):
    """Both, after a look: the same length above 0, and classes 0 to classes - 1."""
    if predictions.shape != labels.shape or not len(labels):
        shapes = f"{tuple(predictions.shape)} and {tuple(labels.shape)}"
        raise ValueError(f"predictions and labels: expected the same length above 0, got shapes {shapes}.")
    for name, values in (("predictions", predictions), ("labels", labels)) if classes else ():
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= classes:
            raise ValueError(f"{name}: expected classes 0 to {classes - 1}, got {low} to {high}.")
    return predictions, labels


def top1(predictions, labels):
    """Share of right answers; both (N,). Raises ValueError if they are empty or of different shapes."""
    predictions, labels = _checked(predictions, labels)
    return (predictions == labels).float().mean().item()


def confusion(predictions, labels, classes=10):
    """Count matrix (classes, classes): row = true class, column = answer. Its sum is N, its trace the right answers.

    Raises ValueError as `top1`, and for a class out of range.
    """
    predictions, labels = _checked(predictions, labels, classes)
    return torch.bincount(labels.long() * classes + predictions.long(), minlength=classes**2).view(classes, classes)


def per_class(predictions, labels, classes=10):
    """What one class against the rest scores: a dict of lists, one number a class; scikit-learn's definitions.

    precision (of the answers "c", how many are c), recall (of all c, how many were found; also: sensitivity, or a
    class's accuracy), specificity (of all others, how many were not called c), f1 (harmonic mean of precision and
    recall), one_vs_rest (right answers to "is it c?", the others' included). Where nothing was answered or nothing is
    there, 0. Raises ValueError as `confusion`.
    """
    from sklearn.metrics import multilabel_confusion_matrix, precision_recall_fscore_support

    predictions, labels = (values.cpu().numpy() for values in _checked(predictions, labels, classes))
    names = range(classes)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, predictions, labels=names, zero_division=0)
    (tn, fp), (fn, tp) = multilabel_confusion_matrix(labels, predictions, labels=names).transpose(1, 2, 0)
    found = {
        "precision": precision, "recall": recall, "specificity": tn / (tn + fp).clip(min=1), "f1": f1,
        "one_vs_rest": (tp + tn) / len(labels),
    }  # fmt: skip
    return {name: values.tolist() for name, values in found.items()}


def report(predictions, labels, classes=10):
    """top1, and the means over classes (macro averages) of what `per_class` returns: a dict of numbers."""
    means = {name: sum(values) / classes for name, values in per_class(predictions, labels, classes).items()}
    return {"top1": top1(predictions, labels), **means}


def from_counts(counts):
    """The answers and the labels, (N,) each, that a confusion matrix has counted, in the order of its cells."""
    labels, predictions = torch.nonzero(counts).T.repeat_interleave(counts[counts > 0], dim=1)
    return predictions, labels


def calibration_error(logits, labels, bins=15):
    """Expected calibration error: how far confidence is from being right, in [0, 1]; logits (N, classes), labels (N,).

    Images are sorted by the probability of their answer into `bins` equal intervals; the gaps between mean probability
    and share right are averaged, weighted by images. Raises ValueError as `confusion`. Source: Guo et al. 2017.
    """
    confidence, predictions = logits.cpu().double().softmax(dim=1).max(dim=1)
    predictions, labels = _checked(predictions, labels.cpu(), logits.shape[1])
    place = (confidence * bins).ceil().long().clamp(1, bins) - 1  # intervals are open on the left
    gap = torch.zeros(bins, dtype=torch.float64)
    gap.index_add_(0, place, confidence - (predictions == labels).double())
    return gap.abs().sum().item() / len(labels)


def mcnemar(ours, theirs):
    """Images that only one of two networks gets right, and McNemar's exact p value: (only ours, only theirs, p).

    ours, theirs: booleans (N,), right or not, for the same images in the same order; raises ValueError for other lengths.
    """
    from scipy import stats

    if len(ours) != len(theirs) or not len(ours):
        raise ValueError(f"ours and theirs: expected the same images, above 0, got {len(ours)} and {len(theirs)}.")
    only_ours, only_theirs = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    differ = only_ours + only_theirs
    return only_ours, only_theirs, float(stats.binomtest(only_ours, differ).pvalue) if differ else 1.0


def interval(values):
    """Mean and half-width of the t-interval over values, one per seed; half-width None for a single value.

    Raises ValueError if there are none.
    """
    from scipy import stats

    if not len(values):
        raise ValueError("values: expected at least one, got none.")
    mean = sum(values) / len(values)
    if len(values) < 2:
        return mean, None
    return mean, float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def differences(ours, theirs):
    """The differences ours - theirs over paired seeds, each a dict {seed: value}.

    Raises ValueError, naming them, for seeds that only one side has.
    """
    lonely = sorted(set(ours) ^ set(theirs))
    if lonely:
        raise ValueError(f"paired comparison: seeds {lonely} are on one side only.")
    return [ours[seed] - theirs[seed] for seed in sorted(ours)]


def compare(ours, theirs):
    """Mean and half-width of the t-interval of `differences`."""
    return interval(differences(ours, theirs))


def paired_p(ours, theirs):
    """p value of the t-test on `differences`; where they are all alike, 1 if they are 0, else 0; nan for less than two."""
    from scipy import stats

    found = differences(ours, theirs)
    if len(found) < 2:
        return math.nan
    if len(set(found)) == 1:
        return float(found[0] == 0)
    return float(stats.ttest_1samp(found, 0).pvalue)


def wilson(successes, count):
    """Wilson's interval (low, high) for a rate; (0, 1) where nothing was counted."""
    from scipy import stats

    if not count:
        return 0.0, 1.0
    interval = stats.binomtest(successes, count).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def holm(p_values):
    """Holm's adjusted p values, in the order given: below 0.05, a contrast stands among all that were asked."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: (math.isnan(p_values[i]), p_values[i]))):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted
