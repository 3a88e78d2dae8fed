"""Paired comparison of two rows: the interval and McNemar's test as scipy and fingers have them; what is no pair is refused."""

import ast
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from tiny_study import made_up, write_plan

from stn_utils import study as studies
from stn_utils.study import append, pack


def from_cell(chapter, cell, name):
    """A function that a chapter's cell defines, and that uses `study` alone."""
    (path,) = (Path(__file__).parents[1] / "notebooks").glob(f"{chapter}_*.ipynb")
    (found,) = [c for c in json.loads(path.read_text())["cells"] if c["id"] == cell]
    (node,) = [
        n for n in ast.parse("".join(found["source"])).body if getattr(n, "name", "") == name
    ]
    names = {"study": studies}
    exec(ast.unparse(node), names)
    return names[name]


paired = from_cell("04", "c04-pairs", "paired")

TABLES = {  # seed: images that both get right, only ours, only theirs, none; 80 test images
    1000: (60, 12, 3, 5),
    1001: (55, 4, 9, 12),
    1002: (70, 8, 1, 1),
}


def add(study, row, seed, right, **changes):
    """Append a record of that row; right: booleans, an entry per test image."""
    record = made_up(row, seed, float(np.mean(right)))
    record["result"]["correct"] = pack(right)
    append(study.path, {**record, "experiment": {**record["experiment"], **changes}})


def answers(both, only_ours, only_theirs, none):
    """Which images either row gets right, in an order of no meaning."""
    counts = (both, only_ours, only_theirs, none)
    order = np.random.default_rng(sum(counts) + both).permutation(sum(counts))
    flags = ([True, True, False, False], [True, False, True, False])
    return [np.repeat(side, counts)[order] for side in flags]


def fill(study, tables, ours="stn", theirs="cnn"):
    for seed, counts in tables.items():
        for row, right in zip((ours, theirs), answers(*counts)):
            add(study, row, seed, right)


@pytest.fixture
def filled(tiny):
    fill(tiny, TABLES)
    return tiny


def exact_p(only_ours, only_theirs):
    """McNemar's p: so few heads or so few tails of a fair coin, enumerated."""
    count = only_ours + only_theirs
    at_most = sum(math.comb(count, k) for k in range(min(only_ours, only_theirs) + 1))
    return min(1.0, 2 * at_most / 2**count)


def test_the_first_line_is_the_difference_in_points_with_the_t_interval_of_scipy(filled):
    ours = [100 * (both + only_ours) / 80 for both, only_ours, _, _ in TABLES.values()]
    theirs = [100 * (both + only_theirs) / 80 for both, _, only_theirs, _ in TABLES.values()]
    low, high = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    wanted = (
        f"stn minus cnn: {(low + high) / 2:+.2f} ± {(high - low) / 2:.2f} points, 3 paired seeds"
    )
    assert paired(filled, "stn", "cnn").splitlines()[0] == wanted


def test_then_a_line_a_seed_has_mcnemars_counts_and_exact_p(filled):
    lines = paired(filled, "stn", "cnn").splitlines()[1:]
    assert lines == [
        f"  seed {seed}: only stn right {ours}, only cnn right {theirs}, p {exact_p(ours, theirs):.4f}"
        for seed, (_, ours, theirs, _) in TABLES.items()
    ]


def test_the_whole_text_by_hand(tiny):
    fill(
        tiny, {1000: (6, 3, 0, 1), 1001: (5, 2, 1, 2)}
    )  # 90 and 60 %, then 70 and 60 %: 30 and 10 points
    half = (
        12.706 * math.sqrt(200) / math.sqrt(2)
    )  # Student's t with 1 degree of freedom; a spread of root 200
    assert half == pytest.approx(127.06)
    assert paired(tiny, "stn", "cnn").splitlines() == [
        "stn minus cnn: +20.00 ± 127.06 points, 2 paired seeds",
        "  seed 1000: only stn right 3, only cnn right 0, p 0.2500",
        "  seed 1001: only stn right 2, only cnn right 1, p 1.0000",
    ]


def test_the_other_way_round_signs_and_counts_change_sides_and_p_does_not(filled):
    there, back = (paired(filled, *rows).splitlines() for rows in (("stn", "cnn"), ("cnn", "stn")))
    number = re.compile(r"([-+]\d+\.\d+) ± (\d+\.\d+)")
    mean, half = number.search(there[0]).groups()
    assert mean.startswith("+") and number.search(back[0]).groups() == (
        mean.replace("+", "-"),
        half,
    )
    swap = r"only cnn right \2, only stn right \1, p"
    assert back[1:] == [
        re.sub(r"only stn right (\d+), only cnn right (\d+), p", swap, line) for line in there[1:]
    ]


def test_seeds_are_paired_and_listed_in_order_whatever_the_order_of_the_lines(tiny, filled):
    usual = paired(filled, "stn", "cnn")
    lines = tiny.path.read_text().splitlines(keepends=True)
    for order in (lines[::-1], lines[1::2] + lines[-2::-2]):
        assert sorted(order) == sorted(lines)
        tiny.path.write_text("".join(order))
        assert paired(tiny, "stn", "cnn") == usual


def test_one_seed_has_no_interval_and_yet_its_mcnemar(tiny):
    fill(tiny, {1000: (60, 12, 3, 5)})
    assert paired(tiny, "stn", "cnn").splitlines() == [
        "stn minus cnn: +11.25 points, 1 paired seed",
        f"  seed 1000: only stn right 12, only cnn right 3, p {exact_p(12, 3):.4f}",
    ]


def test_a_p_too_small_to_print_is_said_to_be_below(tiny):
    fill(tiny, {1000: (0, 40, 0, 40)})
    assert exact_p(40, 0) < 1e-4
    assert (
        paired(tiny, "stn", "cnn")
        .splitlines()[1]
        .endswith("only stn right 40, only cnn right 0, p below 0.0001")
    )


def test_a_row_beside_itself_does_not_differ(filled):
    first, *rest = paired(filled, "stn", "stn").splitlines()
    assert first == "stn minus stn: +0.00 ± 0.00 points, 3 paired seeds"
    assert [line.split("only", 1)[1] for line in rest] == [
        " stn right 0, only stn right 0, p 1.0000"
    ] * 3


def test_bits_that_fill_up_the_last_byte_are_nobodys_images(tiny):
    """77 images are 9 bytes and 5 bits: the other three are wrong on both sides, so they decide nothing."""
    fill(tiny, {1000: (60, 9, 3, 5)})
    assert "only stn right 9, only cnn right 3, p" in paired(tiny, "stn", "cnn")


def test_ten_thousand_images_are_all_counted(tiny):
    fill(tiny, {1000: (9700, 120, 90, 90)})
    first, line = paired(tiny, "stn", "cnn").splitlines()
    assert first == "stn minus cnn: +0.30 points, 1 paired seed"
    assert line == f"  seed 1000: only stn right 120, only cnn right 90, p {exact_p(120, 90):.4f}"


# ---- what is no pair ----


def test_rows_with_different_seeds_are_refused_and_the_lonely_seeds_named(filled):
    add(filled, "stn", 1004, [True] * 80)
    add(filled, "cnn", 1003, [True] * 80)
    with pytest.raises(
        ValueError, match=r"paired comparison: seeds \[1003, 1004\] are on one side only"
    ):
        paired(filled, "stn", "cnn")


def test_a_record_that_is_not_the_plans_is_not_counted(filled):
    before = paired(filled, "stn", "cnn")
    for row in ("stn", "cnn"):
        add(filled, row, 1003, [False] * 80, lr=0.5)
    assert paired(filled, "stn", "cnn") == before
    add(filled, "stn", 1003, [True] * 80)  # its partner is a stranger
    with pytest.raises(ValueError, match=r"seeds \[1003\]"):
        paired(filled, "stn", "cnn")


OTHER_IMAGES = {
    "dataset": (
        {"dataset": "glyphs"},
        {"dataset": "mnist"},
        "dataset is 'glyphs' in a, 'mnist' in b.",
    ),
    "world": ({"world": "rts42"}, {}, "world is 'rts42' in a, 'clean28' in b."),
    "replica": ({}, {"replica": True}, "replica is False in a, True in b."),
}


@pytest.mark.parametrize("ours, theirs, named", OTHER_IMAGES.values(), ids=OTHER_IMAGES)
def test_rows_on_different_test_images_are_refused_by_field_and_both_values(
    tmp_path, ours, theirs, named
):
    study = studies.load("tiny", write_plan(tmp_path, rows={"a": ours, "b": theirs}, contrasts=[]))
    with pytest.raises(ValueError) as error:
        paired(study, "a", "b")
    assert str(error.value) == f"paired comparison: {named}"


def test_rows_that_differ_in_all_but_their_images_are_a_pair(tmp_path):
    rows = {
        "a": {"model": "stnet", "lr": 0.1, "coordconv": "both"},
        "b": {"model": "convnet", "view": 20, "epochs": 3, "width": 2.0},
    }
    study = studies.load("tiny", write_plan(tmp_path, rows=rows, contrasts=[]))
    for row, right in zip(rows, answers(60, 12, 3, 5)):
        record = made_up(row, 1000, float(np.mean(right)))
        record["experiment"] = study.rows[row].replace(seed=1000).model_dump()
        record["result"]["correct"] = pack(right)
        append(study.path, record)
    assert paired(study, "a", "b").startswith("a minus b: +11.25 points")


@pytest.mark.parametrize("rows", [("snt", "cnn"), ("cnn", "snt")])
def test_an_unknown_row_is_named(filled, rows):
    with pytest.raises(KeyError, match="snt"):
        paired(filled, *rows)


def test_rows_without_any_record_are_refused(tiny):
    with pytest.raises(ValueError, match="expected at least one"):
        paired(tiny, "stn", "cnn")


def test_a_row_without_records_beside_one_with_some_is_refused_by_its_seeds(tiny):
    add(tiny, "stn", 1000, [True] * 8)
    with pytest.raises(ValueError, match=r"seeds \[1000\] are on one side only"):
        paired(tiny, "stn", "cnn")
