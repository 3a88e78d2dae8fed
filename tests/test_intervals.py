"""Comparisons and intervals against scipy.stats, coins thrown one by one, and Wilson's equation."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from stn_utils.metrics import (
    compare,
    differences,
    holm,
    interval,
    mcnemar,
    paired_p,
    wilson,
)

# ---- two networks on the same images ----


def coins(fewer, count):
    """Exact two-sided p of so few heads, or of so few tails, in that many throws of a fair coin, thrown one by one."""
    at_most = sum(math.comb(count, k) for k in range(fewer + 1))
    return min(1.0, 2 * at_most / 2**count)


def pair(both, only_ours, only_theirs, neither):
    """Two networks' right answers, with so many images of each kind."""
    counts = np.array([both, only_ours, only_theirs, neither])
    ours, theirs = (
        np.repeat(flags, counts)
        for flags in ([True, True, False, False], [True, False, True, False])
    )
    return ours, theirs


@pytest.mark.parametrize(
    "only_ours, only_theirs", [(1, 0), (3, 1), (0, 8), (5, 5), (6, 7), (25, 9), (40, 12)]
)
def test_mcnemar_is_the_chance_of_a_fair_coin_on_the_images_where_the_networks_differ(
    only_ours, only_theirs
):
    ours, theirs = pair(90, only_ours, only_theirs, 4)
    count = only_ours + only_theirs
    found = mcnemar(ours, theirs)
    assert found[:2] == (only_ours, only_theirs)
    assert found[2] == pytest.approx(coins(min(only_ours, only_theirs), count), rel=1e-9)
    assert found[2] == pytest.approx(
        min(1, 2 * stats.binom.cdf(min(only_ours, only_theirs), count, 0.5)), rel=1e-9
    )


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
    with pytest.raises(
        ValueError, match=f"expected the same images, above 0, got {ours} and {theirs}"
    ):
        mcnemar(np.ones(ours, dtype=bool), np.ones(theirs, dtype=bool))


# ---- intervals ----


@pytest.mark.parametrize(
    "values", [[0.9, 0.95], [0.1, 0.4, 0.35], [0.98, 0.981, 0.979, 0.97, 0.99]]
)
def test_interval_agrees_with_scipy(values):
    mean, half = interval(values)
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values)
    )
    assert (mean - half, mean + half) == pytest.approx((low, high), abs=1e-12)


def test_interval_of_one_value_has_no_width_and_of_equal_values_width_zero():
    assert interval([0.5]) == (0.5, None)
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.0)


def test_compare_agrees_with_scipys_paired_test_whatever_the_order_of_seeds():
    ours, theirs = {3: 0.91, 1: 0.95, 2: 0.90}, {1: 0.93, 2: 0.91, 3: 0.85}
    mean, half = compare(ours, theirs)
    paired = stats.ttest_rel(
        [ours[s] for s in (1, 2, 3)], [theirs[s] for s in (1, 2, 3)]
    ).confidence_interval(0.95)
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


def test_paired_p_of_a_single_seed_is_nan():
    assert math.isnan(paired_p({1: 0.9}, {1: 0.8}))


def test_paired_p_refuses_lonely_seeds_and_names_them():
    with pytest.raises(ValueError, match=r"seeds \[1, 4\]"):
        paired_p({1: 0.9, 2: 0.9}, {2: 0.8, 4: 0.8})


@pytest.mark.parametrize(
    "successes, count", [(0, 1), (0, 20), (1, 20), (10, 20), (20, 20), (59, 60), (300, 1000)]
)
def test_wilson_solves_wilsons_equation(successes, count):
    """At both ends p of the interval, the observed rate lies z standard errors, those at p, away."""
    z, rate = stats.norm.ppf(0.975), successes / count
    low, high = wilson(successes, count)
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


@pytest.mark.parametrize(
    "call, nothing", [(interval, [[]]), (compare, [{}, {}])], ids=["interval", "compare"]
)
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
