"""A study's table: every column and contrast as scipy has it, every collapsed run by its seed."""

import math
import re

import numpy as np
import pytest
from scipy import stats
from tiny_study import made_up, write_plan, write_records

from stn_utils import study as studies
from stn_utils.study import append, pack, table
from stn_utils.study.table import p_text
from stn_utils.train.measure import ORACLE_IMAGES

SCORES = {"stn": {1000: 0.98, 1001: 0.97, 1002: 0.99}, "cnn": {1000: 0.96, 1001: 0.965, 1002: 0.95}}


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_row_shows_mean_and_t_interval_as_scipy_has_them(tiny):
    write_records(tiny, SCORES)
    for row, by_seed in SCORES.items():
        scores = [100 * score for score in by_seed.values()]
        low, high = stats.t.interval(0.95, len(scores) - 1, np.mean(scores), stats.sem(scores))
        wanted = (
            f"{row}  3  {np.mean(scores):.2f} ± {(high - low) / 2:.2f}  {min(scores):.2f}  21,840"
        )
        assert line_of(table(tiny), row).split() == wanted.split()


def test_a_contrast_is_paired_over_the_seeds_both_rows_have(tiny):
    write_records(tiny, {"stn": {**SCORES["stn"], 1003: 0.1}, "cnn": SCORES["cnn"]})
    pair = [[100 * score for score in SCORES[row].values()] for row in ("stn", "cnn")]
    low, high = stats.ttest_rel(*pair).confidence_interval(0.95)
    wanted = (
        f"stn minus cnn: {(low + high) / 2:+.2f} ± {(high - low) / 2:.2f} points, 3 paired seeds, "
    )
    wanted += f"p {stats.ttest_rel(*pair).pvalue:.4f}"
    assert line_of(table(tiny), "stn minus") == wanted


def test_the_p_values_of_several_contrasts_are_corrected_after_holm(tmp_path):
    rows = {name: {"seed": 0} for name in ("a", "b", "c")}
    plan = studies.load("tiny", write_plan(tmp_path, rows=rows, contrasts=[["a", "b"], ["a", "c"]]))
    scores = {"a": [0.98, 0.97, 0.99], "b": [0.96, 0.965, 0.95], "c": [0.97, 0.96, 0.981]}
    write_records(
        plan, {row: dict(zip((1000, 1001, 1002), values)) for row, values in scores.items()}
    )
    raw = {row: stats.ttest_rel(scores["a"], scores[row]).pvalue for row in "bc"}
    assert raw["c"] < raw["b"]
    wanted = {"c": 2 * raw["c"], "b": max(2 * raw["c"], raw["b"])}
    for row, p in wanted.items():
        assert line_of(table(plan), f"a minus {row}").endswith(f", p {p:.4f}")


def test_one_seed_has_no_interval_and_an_empty_row_says_so(tiny):
    write_records(tiny, {"stn": {1000: 0.98}})
    text = table(tiny)
    assert line_of(text, "stn").split() == ["stn", "1", "98.00", "98.00", "21,840"]
    assert "no run yet" in line_of(text, "cnn")
    assert "minus" not in text


COLUMNS = [
    "collapsed",
    "ever_thrown",
    "top1",
    "alive_top1",
    "det",
    "outside",
    "overlap",
    "zoomed_out",
    "lowest",
    "parameters",
]


def looks(outside, det, val_top1=0.9):
    """A history of looks; outside and det are lists, val_top1 that of the last epoch."""
    return {"epoch": [1, 2], "outside": outside, "det": det, "val_top1": [0.5, val_top1]}


RUNS = {  # seed: top1 of the test, history
    1000: (0.98, looks([0.1, 0.2], [1.0, 1.2])),
    1001: (0.96, looks([1.0, 0.4], [2.0, 1.6])),  # thrown, and back
    1002: (0.10, looks([0.1, 1.0], [1.0, 50.0], 0.1)),  # collapsed
    1003: (0.94, looks([0.1, 0.3], [1.0, 0.8])),
}


@pytest.fixture
def looked(tmp_path):
    """A study with every column, and RUNS as the records of its row `stn`."""
    plan = studies.load("tiny", write_plan(tmp_path, columns=COLUMNS))
    for seed, (top1, history) in RUNS.items():
        record = made_up("stn", seed, top1, **history)
        record["result"]["overlap"] = top1 / 2
        append(plan.path, record)
    return plan


def wilson(count, of):
    """Wilson's 95 % interval in whole percent, by his formula."""
    z, rate = stats.norm.ppf(0.975), count / of
    middle, half = (
        rate + z**2 / (2 * of),
        z * math.sqrt(rate * (1 - rate) / of + z**2 / (4 * of**2)),
    )
    return "({:.0f}-{:.0f} %)".format(
        *(100 * (middle + sign * half) / (1 + z**2 / of) for sign in (-1, 1))
    )


def cells(text, row):
    """What stands in the row of that name, a cell a column, after its name and its number of seeds."""
    return re.split(r"  +", line_of(text, row))[2:]


def test_every_column_shows_what_its_heading_says(looked):
    half = {name: (np.mean(values), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) for name, values in {
        "top1": [98, 96, 10, 94], "alive": [98, 96, 94], "det": [1.2, 1.6, 0.8], "outside": [0.2, 0.4, 0.3],
        "overlap": [0.49, 0.48, 0.47],
    }.items()}  # fmt: skip
    assert line_of(table(looked), "stn").split()[:2] == ["stn", "4"]
    assert cells(table(looked), "stn") == [
        f"1/4 {wilson(1, 4)}", f"2/4 {wilson(2, 4)}", "{:.2f} ± {:.2f}".format(*half["top1"]),
        "{:.1f} ± {:.1f}".format(*half["alive"]), "{:.2f} ± {:.2f}".format(*half["det"]),
        "{:.2f} ± {:.2f}".format(*half["outside"]), "{:.2f} ± {:.2f}".format(*half["overlap"]),
        f"3/4 {wilson(3, 4)}", "10.00", "21,840",
    ]  # fmt: skip


def with_oracle(row, seed, top1, oracle):
    record = made_up(row, seed, top1)
    return {**record, "result": {**record["result"], "oracle_top1": oracle}}


def test_the_oracles_column_is_mean_and_interval_and_a_dash_for_rows_without_one(tmp_path):
    plan = studies.load("tiny", write_plan(tmp_path, columns=["top1", "oracle", "lowest"]))
    for seed, oracle in ((1000, 0.99), (1001, 0.96), (1002, 0.975)):
        append(plan.path, with_oracle("stn", seed, 0.5, oracle))
        append(plan.path, made_up("cnn", seed, 0.5))
    half = stats.t.ppf(0.975, 2) * stats.sem([99, 96, 97.5])
    assert "oracle, %" in table(plan).splitlines()[0]
    assert cells(table(plan), "stn") == ["50.00 ± 0.00", f"97.50 ± {half:.2f}", "50.00"]
    assert cells(table(plan), "cnn") == ["50.00 ± 0.00", "-", "50.00"]


def test_beside_the_oracle_stands_the_row_on_the_oracles_own_images(tmp_path):
    plan = studies.load(
        "tiny", write_plan(tmp_path, columns=["beside_oracle", "oracle"], contrasts=[])
    )
    record = with_oracle("stn", 1000, 0.5, 0.875)
    right = np.arange(10_000) % 4 > 0  # three quarters of the first 2,000
    right[ORACLE_IMAGES:] = False
    append(plan.path, {**record, "result": {**record["result"], "correct": pack(right)}})
    append(plan.path, made_up("cnn", 1000))
    assert line_of(table(plan), "stn").split() == ["stn", "1", "75.00", "87.50"]
    assert line_of(table(plan), "cnn").split() == ["cnn", "1", "-", "-"]


def test_the_oracles_column_of_one_seed_has_no_interval_and_its_heading_stands_above_it(tmp_path):
    plan = studies.load("tiny", write_plan(tmp_path, columns=["oracle", "top1"], contrasts=[]))
    append(plan.path, with_oracle("stn", 1000, 0.5, 0.875))
    heading, line, *_ = table(plan).splitlines()
    assert cells(table(plan), "stn") == ["87.50", "50.00"]
    for name, number in (("oracle, %", "87.50"), ("test top-1, %", "50.00")):
        assert abs(heading.index(name) - line.index(number)) <= 2


def test_columns_stand_in_the_order_of_the_plan(tmp_path):
    headings = {}
    for columns in (["outside", "top1"], ["top1", "outside"]):
        plan = studies.load("tiny", write_plan(tmp_path, columns=columns))
        headings[columns[0]] = table(plan).splitlines()[0]
    assert headings["outside"].index("outside") < headings["outside"].index("test top-1")
    assert headings["top1"].index("outside") > headings["top1"].index("test top-1")


def test_every_collapsed_run_is_listed_by_its_seed_and_epoch(looked):
    append(looked.path, made_up("cnn", 1001, 0.1, **looks([1.0, 1.0], [9.0, 9.0], 0.1)))
    lines = [line for line in table(looked).splitlines() if line.startswith("collapsed, seed")]
    assert lines == [
        "collapsed, seed (epoch): stn: 1002 (2)",
        "collapsed, seed (epoch): cnn: 1001 (1)",
    ]


def test_without_a_collapse_none_is_listed(tiny):
    write_records(tiny, SCORES)
    assert "collapsed" not in table(tiny)


def test_a_long_list_of_collapsed_runs_is_wrapped_and_whole(tiny):
    for seed in range(1000, 1040):
        append(tiny.path, made_up("stn", seed, 0.1, **looks([0.1, 1.0], [1.0, 9.0], 0.1)))
    lines = table(tiny).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("collapsed, seed"))
    assert max(map(len, lines[start:])) <= 110
    assert re.findall(r"(\d{4}) +\(2\)", " ".join(lines[start:])) == [
        str(seed) for seed in range(1000, 1040)
    ]


def test_runs_that_all_collapsed_leave_nothing_alive_to_average(looked):
    for seed in (1000, 1001):
        append(looked.path, made_up("cnn", seed, 0.1, **looks([1.0, 1.0], [9.0, 9.0], 0.1)))
    assert cells(table(looked), "cnn")[:7] == [
        f"2/2 {wilson(2, 2)}", f"2/2 {wilson(2, 2)}", "10.00 ± 0.00", "-", "-", "-", "-",
    ]  # fmt: skip


def test_a_row_without_looks_has_no_cell_of_looks(looked):
    for seed in (1000, 1001):
        append(looked.path, made_up("cnn", seed, 0.9, val_top1=[0.9]))
    assert cells(table(looked), "cnn")[:7] == [
        "-",
        "-",
        "90.00 ± 0.00",
        "90.0 ± 0.0",
        "-",
        "-",
        "-",
    ]


def test_a_run_that_diverged_has_nulls_and_does_not_end_the_table(looked):
    append(looked.path, made_up("stn", 1004, 0.1, **looks([0.2, 1.0], [1.0, None], 0.1)))
    found = cells(table(looked), "stn")
    assert found[0] == f"2/5 {wilson(2, 5)}" and found[7] == f"3/5 {wilson(3, 5)}"
    assert "1004 (2)" in table(looked)


CONTRASTED = {  # measure: a value per seed and row, as the contrast should take it
    "test_top1": ({1000: 98.0, 1001: 96.0, 1002: 10.0}, {1000: 90.0, 1001: 91.0, 1002: 95.0}, "{:+.2f} ± {:.2f} points"),
    "collapsed": ({1000: 0.0, 1001: 0.0, 1002: 100.0}, {1000: 100.0, 1001: 0.0, 1002: 0.0}, "{:+.1f} ± {:.1f} points"),
    "det": ({1000: 1.2, 1001: 1.6, 1002: 50.0}, {1000: 9.0, 1001: 1.0, 1002: 1.5}, "{:+.2f} ± {:.2f}"),
}  # fmt: skip


@pytest.mark.parametrize("measure", CONTRASTED)
def test_a_contrast_compares_what_the_plan_measures(tmp_path, measure):
    plan = studies.load("tiny", write_plan(tmp_path, measure=measure))
    others = {
        1000: (0.90, looks([1.0, 1.0], [1.0, 9.0], 0.1)),
        1001: (0.91, looks([0.1, 0.1], [1.0, 1.0])),
        1002: (0.95, looks([0.1, 0.2], [1.0, 1.5])),
        1009: (0.50, looks([0.1, 0.2], [1.0, 1.5])),  # no partner
    }
    for row, runs in (("stn", RUNS), ("cnn", others)):
        for seed, (top1, history) in runs.items():
            append(plan.path, made_up(row, seed, top1, **history))
    ours, theirs, text = CONTRASTED[measure]
    test = stats.ttest_rel(list(ours.values()), list(theirs.values()))
    low, high = test.confidence_interval(0.95)
    wanted = f"stn minus cnn: {text.format((low + high) / 2, (high - low) / 2)}, 3 paired seeds, p {test.pvalue:.4f}"
    assert line_of(table(plan), "stn minus") == wanted


def test_a_contrast_of_rates_all_alike_has_p_1(tmp_path):
    plan = studies.load("tiny", write_plan(tmp_path, measure="collapsed"))
    for row in ("stn", "cnn"):
        for seed in (1000, 1001):
            append(plan.path, made_up(row, seed, 0.9, **looks([0.1, 0.1], [1.0, 1.0])))
    assert (
        line_of(table(plan), "stn minus")
        == "stn minus cnn: +0.0 ± 0.0 points, 2 paired seeds, p 1.0000"
    )


def test_no_two_columns_touch(tmp_path):
    plan = studies.load(
        "tiny",
        write_plan(tmp_path, columns=["lowest", "collapsed", "parameters", "top1"], contrasts=[]),
    )
    append(plan.path, made_up("stn", 1000, 0.5, **looks([0.1], [1.0])))
    heading, line, *_ = table(plan).splitlines()
    assert re.search(r"lowest {2,}collapsed {2,}parameters {2,}test top-1", heading)
    assert re.search(r"50\.00 {2,}0/1 .*%\) {2,}[\d,]+ {2,}50\.00", line)


def test_contrasts_that_cannot_be_answered_say_why_and_are_counted_in_the_correction(tmp_path):
    rows = {name: {"seed": 0} for name in ("a", "b", "c", "d", "later")}
    contrasts = [["a", "b"], ["a", "c"], ["a", "d"], ["a", "later"]]
    path = write_plan(tmp_path, rows=rows, contrasts=contrasts, measure="det")
    plan = studies.load("tiny", path)
    dets = {"a": [1.1, 1.3, 1.0], "b": [1.6, 1.7, 1.9], "c": [1.4, None, 1.2]}
    dets["d"] = [None, 1.0, None]
    for row, values in dets.items():
        for seed, det in zip((1000, 1001, 1002), values):
            append(plan.path, made_up(row, seed, det=[det], outside=[0.1]))
    p = 4 * stats.ttest_rel(dets["a"], dets["b"]).pvalue  # four were asked
    text = table(plan)
    assert line_of(text, "a minus b").endswith(f", 3 paired seeds, p {p:.4f}")
    assert ", 2 paired seeds (1 left out), p " in line_of(text, "a minus c")
    assert line_of(text, "a minus d") == "a minus d: -, 2 of 3 paired seeds have no det"
    assert "a minus later" not in text


def test_a_pair_with_a_collapsed_run_is_left_out_where_the_plan_says_so(tmp_path):
    """Its share is a question of its own: in a mean it would hide how the others do."""
    path = write_plan(tmp_path, measure="kept_top1", columns=["kept", "collapsed"])
    plan = studies.load("tiny", path)
    lost = dict(outside=[1.0, 1.0], contrast=[0.0, 0.0], det=[9.0, 9.0], val_top1=[0.1, 0.1])
    for seed, (stn, cnn) in enumerate([(0.9, 0.7), (0.11, 0.7), (0.8, 0.7)], start=1000):
        history = lost if stn == 0.11 else looks([0.1, 0.1], [1.0, 1.0])
        append(plan.path, made_up("stn", seed, stn, **{**history, "epoch": [1, 2]}))
        append(plan.path, made_up("cnn", seed, cnn))
    text = table(plan)
    assert "85.00" in line_of(text, "stn  ") and "1/3" in line_of(text, "stn  ")
    (found,) = studies.contrasts(plan)
    assert (found.pairs, found.left_out) == (2, 1) and found.mean == pytest.approx(15)
    low, high = stats.ttest_rel([90, 80], [70, 70]).confidence_interval()
    assert found.half == pytest.approx((high - low) / 2)
    assert found.p == pytest.approx(stats.ttest_rel([90, 80], [70, 70]).pvalue)


def test_a_primary_contrast_is_asked_alone_and_holm_covers_the_others(tmp_path):
    rows = {name: {"seed": 0} for name in ("a", "b", "c", "d")}
    pairs = [["a", "b"], ["a", "c"], ["a", "d"]]
    path = write_plan(tmp_path, rows=rows, contrasts=pairs, primary=True)
    plan = studies.load("tiny", path)
    scores = {
        "a": [0.9, 0.8, 0.85],
        "b": [0.8, 0.75, 0.77],
        "c": [0.7, 0.75, 0.8],
        "d": [0.6, 0.7, 0.5],
    }
    write_records(plan, {row: dict(enumerate(each, 1000)) for row, each in scores.items()})
    raw = [stats.ttest_rel(scores["a"], scores[row]).pvalue for row in "bcd"]
    small, large = sorted(raw[1:])
    wanted = {small: min(1, 2 * small), large: max(min(1, 2 * small), large)}
    assert [c.p for c in studies.contrasts(plan)] == pytest.approx(
        [raw[0], wanted[raw[1]], wanted[raw[2]]]
    )
    assert line_of(table(plan), "a minus b").endswith(f"p {raw[0]:.4f} (primary)")
    assert "(primary)" not in line_of(table(plan), "a minus c")


def test_no_other_contrast_is_called_primary_while_that_one_has_no_records(tmp_path):
    rows = {name: {"seed": 0} for name in ("a", "b", "c")}
    path = write_plan(tmp_path, rows=rows, contrasts=[["a", "b"], ["a", "c"]], primary=True)
    plan = studies.load("tiny", path)
    write_records(plan, {row: {1000: 0.9, 1001: 0.8} for row in "ac"})
    assert line_of(table(plan), "a minus c") and "(primary)" not in table(plan)


def test_a_p_value_that_is_none_is_no_small_one():
    assert p_text(math.nan) == "p -"


def test_the_heading_of_short_rows_keeps_its_words_apart(tmp_path):
    plan = studies.load("tiny", write_plan(tmp_path, rows={"a": {"seed": 0}}, contrasts=[]))
    assert table(plan).splitlines()[0].split()[:2] == ["row", "seeds"]
