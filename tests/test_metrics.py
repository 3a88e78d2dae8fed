"""metrics: numbers that can be counted by hand, intervals against scipy.stats, averages against scikit-learn."""

import math

import numpy as np
import pytest
import sklearn.metrics
import torch
from scipy import stats

from stn_utils.metrics import (
    calibration_error,
    compare,
    confusion,
    differences,
    holm,
    interval,
    mcnemar,
    paired_p,
    per_class,
    report,
    top1,
    wilson,
)

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


def drawn(count=500, classes=10, seed=0):
    """Random answers and labels, about a third of them alike."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=count)
    predictions = np.where(random.random(count) < 0.3, labels, random.integers(classes, size=count))
    return torch.from_numpy(predictions), torch.from_numpy(labels)


@pytest.mark.parametrize("classes", [3, 10])
def test_confusion_agrees_with_scikit_learn(classes):
    predictions, labels = drawn(classes=classes)
    wanted = sklearn.metrics.confusion_matrix(labels.numpy(), predictions.numpy(), labels=range(classes))
    assert confusion(predictions, labels, classes).tolist() == wanted.tolist()


COUNTING = [confusion, per_class, report]  # all that take (predictions, labels, classes)


@pytest.mark.parametrize("measure", COUNTING)
@pytest.mark.parametrize(
    "predictions, labels, named",
    [
        ([0, 3, 1], [0, 2, 1], "predictions: expected classes 0 to 2, got 0 to 3."),
        ([0, 2, 1], [0, 3, 1], "labels: expected classes 0 to 2, got 0 to 3."),
        ([0, -1, 1], [0, 2, 1], "predictions: expected classes 0 to 2, got -1 to 1."),
        ([0, 2, 1], [-5, 2, 7], "labels: expected classes 0 to 2, got -5 to 7."),
    ],
)
def test_a_class_out_of_range_raises_and_names_the_argument_and_the_range(measure, predictions, labels, named):
    with pytest.raises(ValueError) as error:
        measure(torch.tensor(predictions), torch.tensor(labels), classes=3)
    assert str(error.value) == named


@pytest.mark.parametrize("measure", COUNTING)
@pytest.mark.parametrize("predictions, labels", [((0,), (0,)), ((3,), (2,)), ((0,), (2,)), ((2, 1), (2,))])
def test_counting_refuses_empty_or_mismatched_and_says_the_shapes(measure, predictions, labels):
    with pytest.raises(ValueError) as error:
        measure(torch.zeros(predictions, dtype=torch.int64), torch.zeros(labels, dtype=torch.int64))
    assert f"got shapes {predictions} and {labels}" in str(error.value)


def test_metrics_leave_their_inputs_alone():
    predictions, labels = torch.tensor([1, 2, 0]), torch.tensor([1, 0, 0])
    logits, right = torch.randn(3, 10), predictions == labels
    given = predictions, labels, logits, right
    before = [values.clone() for values in given]
    for measure in (top1, *COUNTING):
        measure(predictions, labels)
    calibration_error(logits, labels), mcnemar(right, ~right)
    assert all(torch.equal(values, copy) for values, copy in zip(given, before, strict=True))


# ---- one class against the rest ----

ANSWERS = torch.tensor([0, 2, 2, 1, 2, 0, 1, 0])  # to LABELS; the counts stand in the test of confusion above
BY_HAND = {  # class 0: 2 of 4 found in 3 answers; class 1: 2 of 2 in 2; class 2: 1 of 2 in 3
    "precision": [2 / 3, 1, 1 / 3],
    "recall": [2 / 4, 1, 1 / 2],
    "specificity": [3 / 4, 1, 4 / 6],
    "f1": [4 / 7, 1, 2 / 5],
    "one_vs_rest": [5 / 8, 1, 5 / 8],
}


def test_per_class_of_eight_images_is_what_fingers_count():
    found = per_class(ANSWERS, LABELS, classes=3)
    assert list(found) == list(BY_HAND)
    for name, values in BY_HAND.items():
        assert found[name] == pytest.approx(values), name
        assert all(type(value) is float for value in found[name])


def test_report_has_top1_and_the_means_over_classes():
    found = report(ANSWERS, LABELS, classes=3)
    wanted = {"top1": 5 / 8, **{name: sum(values) / 3 for name, values in BY_HAND.items()}}
    assert found == pytest.approx(wanted)
    assert list(found) == list(wanted)
    assert found["one_vs_rest"] == pytest.approx(0.75)  # looks better than 5 of 8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_answers_and_labels_may_be_integers_of_different_types(dtype):
    assert per_class(ANSWERS.to(dtype), LABELS, classes=3) == per_class(ANSWERS, LABELS, classes=3)
    assert per_class(ANSWERS, LABELS.to(dtype), classes=3) == per_class(ANSWERS, LABELS, classes=3)


@pytest.mark.parametrize("classes, seed", [(2, 1), (3, 2), (10, 3)])
def test_per_class_agrees_with_what_scikit_learn_says_of_is_it_c_alone(classes, seed):
    predictions, labels = drawn(400, classes, seed)
    found = per_class(predictions, labels, classes)
    for c in range(classes):
        answered, true = (predictions == c).numpy(), (labels == c).numpy()
        assert found["one_vs_rest"][c] == pytest.approx(sklearn.metrics.accuracy_score(true, answered))
        assert found["recall"][c] == pytest.approx(sklearn.metrics.recall_score(true, answered))
        assert found["specificity"][c] == pytest.approx(sklearn.metrics.recall_score(~true, ~answered))
        assert found["precision"][c] == pytest.approx(sklearn.metrics.precision_score(true, answered))
        both = found["precision"][c] + found["recall"][c]
        assert found["f1"][c] == pytest.approx(2 * found["precision"][c] * found["recall"][c] / both)


@pytest.mark.parametrize("seed", range(3))
def test_report_agrees_with_scikit_learns_balanced_accuracy_and_macro_averages(seed):
    predictions, labels = drawn(seed=seed)
    found, ours = report(predictions, labels), (labels.numpy(), predictions.numpy())
    assert found["top1"] == pytest.approx(sklearn.metrics.accuracy_score(*ours))
    assert found["recall"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(*ours))
    assert found["precision"] == pytest.approx(sklearn.metrics.precision_score(*ours, average="macro"))
    assert found["f1"] == pytest.approx(sklearn.metrics.f1_score(*ours, average="macro"))


@pytest.mark.parametrize("classes, seed", [(2, 0), (3, 1), (10, 2), (10, 3)])
def test_the_mean_of_one_vs_rest_is_1_less_two_mistakes_shared_by_all_classes(classes, seed):
    found = report(*drawn(300, classes, seed), classes)
    assert found["one_vs_rest"] == pytest.approx(1 - 2 * (1 - found["top1"]) / classes)


SHARES = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # how many of each digit MNIST's test set has


def test_a_network_that_always_says_one_looks_like_82_percent_to_one_vs_rest_and_to_nothing_else(recwarn):
    labels = torch.arange(10).repeat_interleave(torch.tensor(SHARES))
    ones = torch.ones_like(labels)
    found, classes = report(ones, labels), per_class(ones, labels)
    assert found["top1"] == pytest.approx(0.1135)
    assert found["one_vs_rest"] == pytest.approx(0.8227)
    assert found["recall"] == pytest.approx(0.1)
    assert found["specificity"] == pytest.approx(0.9)
    assert classes["precision"] == [0, pytest.approx(0.1135), *[0] * 8]  # no answer, no precision: not 1
    assert found["precision"] == pytest.approx(0.01135)
    assert classes["f1"] == [0, pytest.approx(2 * 0.1135 / 1.1135), *[0] * 8]
    assert not recwarn  # scikit-learn would warn of the classes without an answer


def test_a_class_that_is_nowhere_scores_0_and_takes_no_part_from_the_others(recwarn):
    predictions, labels = torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 0, 0])
    found = per_class(predictions, labels, classes=3)
    assert found["precision"] == [1, 0, 0] and found["recall"] == [0.75, 0, 0]
    assert found["specificity"] == [0, 0.75, 1]  # there is nothing that is not a 0
    assert found["f1"] == [pytest.approx(6 / 7), 0, 0] and found["one_vs_rest"] == [0.75, 0.75, 1]
    assert not recwarn


def test_all_right_is_1_everywhere():
    labels = torch.arange(10).repeat(3)
    assert set(report(labels.clone(), labels).values()) == {1.0}


def test_another_order_of_the_images_changes_no_metric():
    predictions, labels = drawn()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    assert per_class(predictions[order], labels[order]) == per_class(predictions, labels)


# ---- calibration ----


def sure(answers, classes=10):
    """Logits of a network that has no doubt."""
    return 1000.0 * torch.nn.functional.one_hot(torch.as_tensor(answers), classes)


def logits_of(rows):
    """Logits whose softmax is these probabilities."""
    return torch.tensor(rows, dtype=torch.float64).log()


def test_to_be_sure_and_right_is_an_error_of_0_and_sure_and_wrong_of_1():
    labels = torch.tensor([0, 3, 9, 9])
    assert calibration_error(sure(labels), labels) == 0
    assert calibration_error(sure((labels + 1) % 10), labels) == 1
    assert calibration_error(sure([0, 3, 0, 0]), labels) == pytest.approx(0.5)


FOUR = logits_of([[0.4, 0.3, 0.3], [0.275, 0.275, 0.45], [0.05, 0.9, 0.05], [0.8, 0.1, 0.1]])
FOUR_LABELS = torch.tensor([0, 1, 1, 0])  # the second one is wrong


def test_calibration_of_four_images_in_two_bins_by_hand():
    # Confidence 0.4 and 0.45, one of two right: a gap of 0.075. Confidence 0.9 and 0.8, both right: a gap of 0.15.
    assert calibration_error(FOUR, FOUR_LABELS, bins=2) == pytest.approx((0.075 + 0.15) / 2)


def test_with_one_bin_the_error_is_mean_confidence_less_top1():
    assert calibration_error(FOUR, FOUR_LABELS, bins=1) == pytest.approx(abs((0.4 + 0.45 + 0.9 + 0.8) / 4 - 3 / 4))


def test_doubt_in_one_interval_does_not_make_up_for_pride_in_another():
    logits, labels = logits_of([[0.5, 0.5], [0.75, 0.25]]), torch.tensor([0, 1])
    labels[0] = logits[0].argmax()  # right with 0.5, wrong with 0.75; the first interval holds its right edge
    assert calibration_error(logits, labels, bins=2) == pytest.approx((0.5 + 0.75) / 2)
    assert calibration_error(logits, labels, bins=1) == pytest.approx(abs(0.625 - 0.5))


def looped(logits, labels, bins):
    """Guo et al. 2017, equation 3, interval by interval."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    error = 0.0
    for m in range(bins):
        inside = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("bins", [1, 2, 10, 15, 100])
@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])
def test_calibration_agrees_with_a_loop_over_the_intervals(scale, bins):
    random = np.random.default_rng(5)
    logits, labels = scale * random.normal(size=(700, 10)), random.integers(10, size=700)
    logits[np.arange(300), labels[:300]] += 2 * scale
    found = calibration_error(torch.from_numpy(logits), torch.from_numpy(labels), bins)
    assert found == pytest.approx(looped(logits, labels, bins), abs=1e-12)
    assert 0 < found < 1


def test_calibration_does_not_depend_on_a_constant_added_to_the_logits_nor_on_the_type_of_the_labels():
    logits, labels = torch.randn(50, 10, dtype=torch.float64), torch.arange(50) % 10
    found = calibration_error(logits, labels)
    assert calibration_error(logits + 7, labels) == pytest.approx(found, abs=1e-9)
    assert calibration_error(logits, labels.to(torch.uint8)) == found


def test_fully_calibrated_is_nearly_0_and_the_same_network_ten_times_as_sure_is_not():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 3, generator=random)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=random)[:, 0]
    assert calibration_error(logits, labels) < 0.02
    assert calibration_error(10 * logits, labels) > 0.2


def test_calibration_of_a_network_that_diverged_is_nan_and_no_error():
    logits = torch.full((4, 10), float("nan"))
    assert math.isnan(calibration_error(logits, torch.arange(4)))


@pytest.mark.parametrize(
    "count, labels, named",
    [
        (0, [], r"got shapes \(0,\) and \(0,\)"),
        (3, [0, 1], r"got shapes \(3,\) and \(2,\)"),
        (3, [0, 1, 4], "labels: expected classes 0 to 3, got 0 to 4"),
        (3, [0, 1, -1], "labels: expected classes 0 to 3, got -1 to 1"),
    ],
)
def test_calibration_refuses_labels_that_do_not_belong_to_its_logits(count, labels, named):
    with pytest.raises(ValueError, match=named):
        calibration_error(torch.zeros(count, 4), torch.tensor(labels, dtype=torch.int64))


# ---- two networks on the same images ----


def coins(fewer, count):
    """Exact two-sided p of so few heads, or of so few tails, in that many throws of a fair coin, thrown one by one."""
    at_most = sum(math.comb(count, k) for k in range(fewer + 1))
    return min(1.0, 2 * at_most / 2**count)


def pair(both, only_ours, only_theirs, neither):
    """Two networks' right answers, with so many images of each kind."""
    counts = np.array([both, only_ours, only_theirs, neither])
    ours, theirs = (np.repeat(flags, counts) for flags in ([True, True, False, False], [True, False, True, False]))
    return ours, theirs


@pytest.mark.parametrize("only_ours, only_theirs", [(1, 0), (3, 1), (0, 8), (5, 5), (6, 7), (25, 9), (40, 12)])
def test_mcnemar_is_the_chance_of_a_fair_coin_on_the_images_where_the_networks_differ(only_ours, only_theirs):
    ours, theirs = pair(90, only_ours, only_theirs, 4)
    count = only_ours + only_theirs
    found = mcnemar(ours, theirs)
    assert found[:2] == (only_ours, only_theirs)
    assert found[2] == pytest.approx(coins(min(only_ours, only_theirs), count), rel=1e-9)
    assert found[2] == pytest.approx(min(1, 2 * stats.binom.cdf(min(only_ours, only_theirs), count, 0.5)), rel=1e-9)


def test_mcnemar_does_not_look_at_images_that_both_or_none_get_right():
    assert mcnemar(*pair(0, 7, 2, 0)) == mcnemar(*pair(1000, 7, 2, 500))


def test_mcnemar_of_swapped_sides_or_another_order_of_images_has_the_same_p():
    ours, theirs = pair(20, 9, 2, 5)
    order = np.random.default_rng(0).permutation(len(ours))
    assert mcnemar(theirs, ours) == (2, 9, mcnemar(ours, theirs)[2])
    assert mcnemar(ours[order], theirs[order]) == mcnemar(ours, theirs)


@pytest.mark.parametrize("right", [[True, False, True], [True], [False, False]])
def test_mcnemar_of_a_network_with_itself_is_0_0_and_1(right):
    assert mcnemar(np.array(right), np.array(right)) == (0, 0, 1.0)


def test_mcnemar_takes_tensors_as_it_takes_arrays_and_answers_with_plain_numbers():
    ours, theirs = pair(3, 4, 1, 2)
    found = mcnemar(torch.from_numpy(ours), torch.from_numpy(theirs))
    assert found == mcnemar(ours, theirs)
    assert [type(value) for value in found] == [int, int, float]


@pytest.mark.parametrize("ours, theirs", [(0, 0), (3, 2), (0, 2), (2, 0), (1, 3)])
def test_mcnemar_refuses_other_lengths_and_nothing_at_all(ours, theirs):
    with pytest.raises(ValueError, match=f"expected the same images, above 0, got {ours} and {theirs}"):
        mcnemar(np.ones(ours, dtype=bool), np.ones(theirs, dtype=bool))


# ---- intervals ----


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
