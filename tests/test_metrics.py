"""metrics: numbers that can be counted by hand, intervals against scipy.stats."""

import numpy as np
import pytest
import torch
from scipy import stats

from stn_utils.metrics import compare, confusion, differences, holm, interval, paired_p, top1, wilson

LABELS = torch.tensor([0, 0, 0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize("answer, share", [(0, 4 / 8), (1, 2 / 8), (2, 2 / 8), (3, 0.0)])
def test_a_constant_classifier_gets_its_class_share(answer, share):
    assert top1(torch.full_like(LABELS, answer), LABELS) == share


def test_top1_of_all_right_is_one():
    assert top1(LABELS.clone(), LABELS) == 1.0


@pytest.mark.parametrize("predictions, labels", [(0, 0), (3, 2), (0, 2), (2, 0)])
def test_top1_refuses_empty_or_mismatched_and_says_the_lengths(predictions, labels):
    with pytest.raises(ValueError, match=rf"got shapes \({predictions},\) and \({labels},\)"):
        top1(torch.zeros(predictions), torch.zeros(labels))


def test_top1_does_not_broadcast():
    with pytest.raises(ValueError, match=r"\(2, 1\) and \(2,\)"):
        top1(torch.tensor([[0], [1]]), torch.tensor([0, 1]))


def test_confusion_has_true_classes_in_rows_and_answers_in_columns():
    predictions = torch.tensor([0, 2, 2, 1, 2, 0, 1, 0])
    expected = [[2, 0, 2], [0, 2, 0], [1, 0, 1]]
    assert confusion(predictions, LABELS, classes=3).tolist() == expected


def test_confusion_sums_to_n_and_its_trace_counts_the_right_answers():
    random = torch.Generator().manual_seed(0)
    predictions, labels = torch.randint(10, (2, 500), generator=random)
    counts = confusion(predictions, labels)
    assert counts.shape == (10, 10)
    assert counts.sum() == 500
    assert counts.trace() == (predictions == labels).sum()
    assert counts.sum(dim=1).tolist() == np.bincount(labels, minlength=10).tolist()


def test_confusion_counts_uint8_labels_without_overflow():
    nines = torch.full((300,), 9, dtype=torch.uint8)
    assert confusion(nines, nines)[9, 9] == 300


def test_metrics_leave_their_inputs_alone():
    predictions, labels = torch.tensor([1, 2, 0]), torch.tensor([1, 0, 0])
    before = predictions.clone(), labels.clone()
    top1(predictions, labels), confusion(predictions, labels)
    assert torch.equal(predictions, before[0]) and torch.equal(labels, before[1])


@pytest.mark.parametrize("values", [[0.9, 0.95], [0.1, 0.4, 0.35], [0.98, 0.981, 0.979, 0.97, 0.99]])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_interval_agrees_with_scipy(values, level):
    mean, half = interval(values, level)
    low, high = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high), abs=1e-12)


def test_interval_of_one_value_has_no_width_and_of_equal_values_width_zero():
    assert interval([0.5]) == (0.5, None)
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.0)


def test_compare_agrees_with_scipys_paired_test_whatever_the_order_of_seeds():
    ours, theirs = {3: 0.91, 1: 0.95, 2: 0.90}, {1: 0.93, 2: 0.91, 3: 0.85}
    mean, half = compare(ours, theirs)
    paired = stats.ttest_rel([ours[s] for s in (1, 2, 3)], [theirs[s] for s in (1, 2, 3)]).confidence_interval(0.95)
    assert (mean - half, mean + half) == pytest.approx((paired.low, paired.high), abs=1e-12)


def test_compare_refuses_lonely_seeds_of_either_side_and_names_them():
    with pytest.raises(ValueError, match=r"seeds \[1, 4\]"):
        compare({1: 0.9, 2: 0.9}, {2: 0.8, 4: 0.8})


def test_differences_are_ours_minus_theirs_in_the_order_of_seeds():
    assert differences({3: 0.5, 1: 0.75}, {1: 0.25, 3: 1.0}) == [0.5, -0.5]


def test_paired_p_agrees_with_scipys_paired_test_whatever_the_order_of_seeds():
    ours, theirs = {3: 0.91, 1: 0.95, 2: 0.90}, {1: 0.93, 2: 0.91, 3: 0.85}
    wanted = stats.ttest_rel([ours[s] for s in (1, 2, 3)], [theirs[s] for s in (1, 2, 3)]).pvalue
    assert paired_p(ours, theirs) == pytest.approx(wanted, rel=1e-9)
    assert paired_p(theirs, ours) == pytest.approx(wanted, rel=1e-9)


def test_paired_p_of_differences_all_alike_is_1_if_they_are_0_and_else_0(recwarn):
    rates = {1: 100.0, 2: 0.0, 3: 100.0}
    assert paired_p(rates, dict(rates)) == 1
    assert paired_p({1: 100.0, 2: 100.0}, {1: 0.0, 2: 0.0}) == 0
    assert not recwarn  # scipy would warn, and answer nan


def test_paired_p_refuses_lonely_seeds_and_names_them():
    with pytest.raises(ValueError, match=r"seeds \[1, 4\]"):
        paired_p({1: 0.9, 2: 0.9}, {2: 0.8, 4: 0.8})


@pytest.mark.parametrize("successes, count", [(0, 1), (0, 20), (1, 20), (10, 20), (20, 20), (59, 60), (300, 1000)])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_wilson_solves_wilsons_equation(successes, count, level):
    """At both ends p of the interval, the observed rate lies z standard errors, those at p, away."""
    z, rate = stats.norm.ppf((1 + level) / 2), successes / count
    low, high = wilson(successes, count, level)
    assert 0 <= low <= rate <= high <= 1
    for p in (low, high):
        assert (rate - p) ** 2 == pytest.approx(z**2 * p * (1 - p) / count, abs=1e-12)
    assert low == 0 or low < rate
    assert high == 1 or high > rate


def test_wilson_of_nothing_counted_is_anything():
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_of_a_rate_and_of_its_opposite_are_mirror_images():
    low, high = wilson(3, 20)
    assert wilson(17, 20) == pytest.approx((1 - high, 1 - low))


@pytest.mark.parametrize("call, nothing", [(interval, [[]]), (compare, [{}, {}])], ids=["interval", "compare"])
def test_no_seeds_at_all_raise_value_error(call, nothing):
    with pytest.raises(ValueError):
        call(*nothing)


def test_holm_agrees_with_the_textbook_example_and_keeps_the_order_given():
    # Four p values by hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1 raised to the one before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.5]) == [1.0, 1.0] and holm([]) == []


def test_holm_counts_a_p_value_that_is_nan_as_1_and_keeps_the_others_in_order():
    nan = float("nan")
    for given in ([0.01, nan, 0.001], [nan, 0.001, 0.01], [0.001, 0.01, nan]):
        wanted = [{0.01: 0.02, 0.001: 0.003}.get(p, 1.0) for p in given]
        assert holm(given) == pytest.approx(wanted)
