"""The calibration error: by hand, against a loop over the intervals, and what is refused."""

import math

import numpy as np
import pytest
import torch

from stn_utils.metrics import calibration_error


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
    assert calibration_error(FOUR, FOUR_LABELS, bins=1) == pytest.approx(
        abs((0.4 + 0.45 + 0.9 + 0.8) / 4 - 3 / 4)
    )


def test_doubt_in_one_interval_does_not_make_up_for_pride_in_another():
    logits, labels = logits_of([[0.5, 0.5], [0.75, 0.25]]), torch.tensor([0, 1])
    labels[0] = logits[
        0
    ].argmax()  # right with 0.5, wrong with 0.75; the first interval holds its right edge
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
