"""metrics: numbers that can be counted by hand, averages against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
import torch

from stn_utils.metrics import (
    calibration_error,
    confusion,
    mcnemar,
    per_class,
    report,
    top1,
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
    counts = confusion(predictions, labels, 10)
    assert counts.shape == (10, 10)
    assert counts.sum() == 500
    assert counts.trace() == (predictions == labels).sum()
    assert counts.sum(dim=1).tolist() == np.bincount(labels, minlength=10).tolist()


def test_confusion_counts_uint8_labels_without_overflow():
    nines = torch.full((300,), 9, dtype=torch.uint8)
    assert confusion(nines, nines, 10)[9, 9] == 300


def drawn(count=500, classes=10, seed=0):
    """Random answers and labels, about a third of them alike."""
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=count)
    predictions = np.where(random.random(count) < 0.3, labels, random.integers(classes, size=count))
    return torch.from_numpy(predictions), torch.from_numpy(labels)


@pytest.mark.parametrize("classes", [3, 10])
def test_confusion_agrees_with_scikit_learn(classes):
    predictions, labels = drawn(classes=classes)
    wanted = sklearn.metrics.confusion_matrix(
        labels.numpy(), predictions.numpy(), labels=range(classes)
    )
    assert confusion(predictions, labels, classes).tolist() == wanted.tolist()


@pytest.mark.parametrize(
    "predictions, labels, named",
    [
        ([0, 3, 1], [0, 2, 1], "predictions: expected classes 0 to 2, got 0 to 3."),
        ([0, 2, 1], [0, 3, 1], "labels: expected classes 0 to 2, got 0 to 3."),
        ([0, -1, 1], [0, 2, 1], "predictions: expected classes 0 to 2, got -1 to 1."),
        ([0, 2, 1], [-5, 2, 7], "labels: expected classes 0 to 2, got -5 to 7."),
    ],
)
def test_a_class_out_of_range_raises_and_names_the_argument_and_the_range(
    predictions, labels, named
):
    with pytest.raises(ValueError) as error:
        confusion(torch.tensor(predictions), torch.tensor(labels), classes=3)
    assert str(error.value) == named


@pytest.mark.parametrize(
    "predictions, labels", [((0,), (0,)), ((3,), (2,)), ((0,), (2,)), ((2, 1), (2,))]
)
def test_counting_refuses_empty_or_mismatched_and_says_the_shapes(predictions, labels):
    answers, true = (torch.zeros(shape, dtype=torch.int64) for shape in (predictions, labels))
    with pytest.raises(ValueError) as error:
        confusion(answers, true, 10)
    assert f"got shapes {predictions} and {labels}" in str(error.value)


def test_metrics_leave_their_inputs_alone():
    predictions, labels = torch.tensor([1, 2, 0]), torch.tensor([1, 0, 0])
    logits, right, counts = torch.randn(3, 10), predictions == labels, torch.eye(3).long()
    given = predictions, labels, logits, right, counts
    before = [values.clone() for values in given]
    top1(predictions, labels), confusion(predictions, labels, 10), per_class(counts), report(counts)
    calibration_error(logits, labels), mcnemar(right, ~right)
    assert all(torch.equal(values, copy) for values, copy in zip(given, before, strict=True))


# ---- one class against the rest ----

ANSWERS = torch.tensor(
    [0, 2, 2, 1, 2, 0, 1, 0]
)  # to LABELS; the counts stand in the test of confusion above
BY_HAND = {  # class 0: 2 of 4 found in 3 answers; class 1: 2 of 2 in 2; class 2: 1 of 2 in 3
    "precision": [2 / 3, 1, 1 / 3],
    "recall": [2 / 4, 1, 1 / 2],
    "specificity": [3 / 4, 1, 4 / 6],
    "f1": [4 / 7, 1, 2 / 5],
    "one_vs_rest": [5 / 8, 1, 5 / 8],
}


def test_per_class_of_eight_images_is_what_fingers_count():
    found = per_class(confusion(ANSWERS, LABELS, 3))
    assert list(found) == list(BY_HAND)
    for name, values in BY_HAND.items():
        assert found[name] == pytest.approx(values), name
        assert all(type(value) is float for value in found[name])


def test_report_has_top1_and_the_means_over_classes():
    found = report(confusion(ANSWERS, LABELS, 3))
    wanted = {"top1": 5 / 8, **{name: sum(values) / 3 for name, values in BY_HAND.items()}}
    assert found == pytest.approx(wanted)
    assert list(found) == list(wanted)
    assert found["one_vs_rest"] == pytest.approx(0.75)  # looks better than 5 of 8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_answers_and_labels_may_be_integers_of_different_types(dtype):
    counts = confusion(ANSWERS, LABELS, 3)
    assert torch.equal(confusion(ANSWERS.to(dtype), LABELS, 3), counts)
    assert torch.equal(confusion(ANSWERS, LABELS.to(dtype), 3), counts)


@pytest.mark.parametrize("classes, seed", [(2, 1), (3, 2), (10, 3)])
def test_per_class_agrees_with_what_scikit_learn_says_of_is_it_c_alone(classes, seed):
    predictions, labels = drawn(400, classes, seed)
    found = per_class(confusion(predictions, labels, classes))
    for c in range(classes):
        answered, true = (predictions == c).numpy(), (labels == c).numpy()
        assert found["one_vs_rest"][c] == pytest.approx(
            sklearn.metrics.accuracy_score(true, answered)
        )
        assert found["recall"][c] == pytest.approx(sklearn.metrics.recall_score(true, answered))
        assert found["specificity"][c] == pytest.approx(
            sklearn.metrics.recall_score(~true, ~answered)
        )
        assert found["precision"][c] == pytest.approx(
            sklearn.metrics.precision_score(true, answered)
        )
        both = found["precision"][c] + found["recall"][c]
        assert found["f1"][c] == pytest.approx(
            2 * found["precision"][c] * found["recall"][c] / both
        )


@pytest.mark.parametrize("seed", range(3))
def test_report_agrees_with_scikit_learns_balanced_accuracy_and_macro_averages(seed):
    predictions, labels = drawn(seed=seed)
    found, ours = report(confusion(predictions, labels, 10)), (labels.numpy(), predictions.numpy())
    assert found["top1"] == pytest.approx(sklearn.metrics.accuracy_score(*ours))
    assert found["recall"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(*ours))
    assert found["precision"] == pytest.approx(
        sklearn.metrics.precision_score(*ours, average="macro")
    )
    assert found["f1"] == pytest.approx(sklearn.metrics.f1_score(*ours, average="macro"))


@pytest.mark.parametrize("classes, seed", [(2, 0), (3, 1), (10, 2), (10, 3)])
def test_the_mean_of_one_vs_rest_is_1_less_two_mistakes_shared_by_all_classes(classes, seed):
    found = report(confusion(*drawn(300, classes, seed), classes))
    assert found["one_vs_rest"] == pytest.approx(1 - 2 * (1 - found["top1"]) / classes)


SHARES = [
    980,
    1135,
    1032,
    1010,
    982,
    892,
    958,
    1028,
    974,
    1009,
]  # how many of each digit MNIST's test set has


def test_a_network_that_always_says_one_looks_like_82_percent_to_one_vs_rest_and_to_nothing_else(
    recwarn,
):
    labels = torch.arange(10).repeat_interleave(torch.tensor(SHARES))
    ones = torch.ones_like(labels)
    counts = confusion(ones, labels, 10)
    found, classes = report(counts), per_class(counts)
    assert found["top1"] == pytest.approx(0.1135)
    assert found["one_vs_rest"] == pytest.approx(0.8227)
    assert found["recall"] == pytest.approx(0.1)
    assert found["specificity"] == pytest.approx(0.9)
    assert classes["precision"] == [
        0,
        pytest.approx(0.1135),
        *[0] * 8,
    ]  # no answer, no precision: not 1
    assert found["precision"] == pytest.approx(0.01135)
    assert classes["f1"] == [0, pytest.approx(2 * 0.1135 / 1.1135), *[0] * 8]
    assert not recwarn  # scikit-learn would warn of the classes without an answer


def test_a_class_that_is_nowhere_scores_0_and_takes_no_part_from_the_others(recwarn):
    predictions, labels = torch.tensor([0, 0, 1, 0]), torch.tensor([0, 0, 0, 0])
    found = per_class(confusion(predictions, labels, 3))
    assert found["precision"] == [1, 0, 0] and found["recall"] == [0.75, 0, 0]
    assert found["specificity"] == [0, 0.75, 1]  # there is nothing that is not a 0
    assert found["f1"] == [pytest.approx(6 / 7), 0, 0] and found["one_vs_rest"] == [0.75, 0.75, 1]
    assert not recwarn


def test_all_right_is_1_everywhere():
    labels = torch.arange(10).repeat(3)
    assert set(report(confusion(labels.clone(), labels, 10)).values()) == {1.0}


def test_another_order_of_the_images_changes_no_metric():
    predictions, labels = drawn()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    shuffled = confusion(predictions[order], labels[order], 10)
    assert torch.equal(shuffled, confusion(predictions, labels, 10))
