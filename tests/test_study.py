"""Study: a plan whose faults are named before anything runs, the records that are its own, one table."""

import json
import math
import re

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_study import made_up, strict, write_plan

from stn_utils import study as studies
from stn_utils.diagnose import streak
from stn_utils.experiment import Experiment
from stn_utils.models import build
from stn_utils.run import Run
from stn_utils.study import append, pack, table, to_record, unpack


@pytest.fixture
def tiny(tmp_path):
    return studies.load("tiny", write_plan(tmp_path))


def write_records(study, scores):
    for row, by_seed in scores.items():
        for seed, top1 in by_seed.items():
            append(study.path, made_up(row, seed, top1))


# ---- plans ----


TEXT = """\
question: does it run?
cost: nothing
seeds: 2
contrasts:
  - [stn, cnn]
common:
  dataset: glyphs
  epochs: 1
rows:
  stn: &base
    model: stnet
  cnn:
    model: convnet
"""

FAULTS = {  # what to change in TEXT, the line to be named, and what must be said
    "unknown field": ("cost: nothing", "costs: nothing", 2, "unknown field 'costs'. Did you mean 'cost'?"),
    "field of an Experiment, on top": ("seeds: 2", "epochs: 2", 3, "unknown field 'epochs'"),
    "a field that is not the file's": ("seeds: 2", "seeds: 2\nfolder: /", 4, "unknown field 'folder'"),
    "unknown field in a row": ("model: convnet", "modle: convnet", 13, "unknown field 'modle'. Did you mean 'model'?"),
    "unknown field in common": ("epochs: 1", "epoch: 1", 8, "unknown field 'epoch'. Did you mean 'epochs'?"),
    "unknown value in a row": ("model: convnet", "model: covnet", 13, "unknown model 'covnet'. Did you mean 'convnet'?"),
    "unknown value in common": ("dataset: glyphs", "dataset: glyph", 7, "unknown dataset 'glyph'. Did you mean 'glyphs'?"),
    "unknown column": ("seeds: 2", "seeds: 2\ncolumns: [top1,\n  colapsed]", 5, "'collapsed'"),
    "unknown measure": ("seeds: 2", "seeds: 2\nmeasure: top1", 4, "'test_top1'"),
    "unknown row in a contrast": ("[stn, cnn]", "[snt, cnn]", 5, "unknown row in a contrast 'snt'. Did you mean 'stn'?"),
    "another contrast's row": ("[stn, cnn]", "[stn, cnn]\n  - [stn, cnm]", 6, "'cnm'. Did you mean 'cnn'?"),
    "three rows in a contrast": ("[stn, cnn]", "[stn, cnn, stn]", 5, "contrasts.0"),
    "contrasts that are no pairs": ("  - [stn, cnn]", "  stn", 4, "contrasts: Input should be a valid list"),
    "wrong type in common": ("epochs: 1", "epochs: five", 8, "epochs: Input should be a valid integer"),
    "wrong type in a row": ("model: convnet", "model: convnet\n    lr: fast", 14, "lr: Input should be a valid number"),
    "wrong type of seeds": ("seeds: 2", "seeds: many", 3, "seeds: Input should be a valid integer"),
    "out of range": ("model: convnet", "model: convnet\n    lr: -1", 14, "lr: Input should be greater than 0"),
    "no seeds": ("seeds: 2", "seeds: 0", 3, "seeds: Input should be greater than or equal to 1"),
    "a row's seeds": ("model: convnet", "model: convnet\n    seeds: many", 14, "cnn: Input should be a valid integer"),
    "no seeds for a row": ("model: convnet", "model: convnet\n    seeds: 0", 14, "cnn: Input should be greater than or equal"),
    "seeds below 0": ("seeds: 2", "seeds: 2\nfirst_seed: -1", 4, "first_seed: Input should be greater than or equal to 0"),
    "fields that do not fit": ("model: convnet", "model: convnet\n    momentum: 0.9", 12, "belongs to optimizer='sgd'"),
    "a row twice": ("  cnn:", "  stn:\n    model: stnet\n  cnn:", 12, "'stn' stands twice, first in line 10"),
    "a field twice": ("cost: nothing", "cost: nothing\ncost: much", 3, "'cost' stands twice, first in line 2"),
    "a row's field twice": ("model: convnet", "model: convnet\n    model: stnet", 14, "'model' stands twice, first in line 13"),
    "a field of common twice": ("epochs: 1", "epochs: 1\n  epochs: 2", 9, "'epochs' stands twice, first in line 8"),
    "a value from a merge": ("model: stnet", "model: stnet\n    world: s4\n  new: {<<: *base}", 12, "unknown world 's4'"),
    "a number from a merge": ("    model: convnet", "    <<: &odd\n      lr: -1\n    model: convnet", 14, "lr: Input"),
    "a row's own over a merge": ("model: convnet", "model: covnet\n    <<: *base", 13, "unknown model 'covnet'"),
    "two merges at once": ("  cnn:", "  new: {<<: [*base, {lr: -1}]}\n  cnn:", 12, "lr: Input should be greater than 0"),
    "a row from nowhere": ("  cnn:", "  cnn: *bass\n  cnn2:", 12, "found undefined alias 'bass'"),
    "a row without fields": ("    model: convnet", "", 12, "one a line, got None"),
    "a row that is a word": ("  cnn:\n    model: convnet", "  cnn: convnet", 12, "one a line, got 'convnet'"),
    "a row named by a number": ("  cnn:", "  2:", 9, "Input should be a valid string Got 2"),
    "a row named by a list": ("  cnn:", "  ? [c, n]\n  :", 12, "found unhashable key"),
    "common that is a list": ("  dataset: glyphs\n  epochs: 1", "  - dataset", 6, "one a line, got ['dataset']"),
    "broken brackets": ("[stn, cnn]", "[stn, cnn", 6, "expected ',' or ']'"),
    "broken indentation": ("  epochs: 1", "   epochs: 1", 8, "mapping values are not allowed here"),
    "a tab": ("  epochs: 1", "\tepochs: 1", 8, "found character '\\t' that cannot start any token"),
    "a character that is none": ("cost: nothing", "cost: no\x01thing", 2, "character 0x1 is not allowed"),
}  # fmt: skip


@pytest.mark.parametrize("old, new, line, named", FAULTS.values(), ids=FAULTS)
def test_a_fault_in_a_plan_is_named_with_file_line_and_what_would_be_right(tmp_path, old, new, line, named):
    assert TEXT.count(old) == 1
    path = tmp_path / "tiny.yaml"
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ValueError) as error:
        studies.load("tiny", tmp_path)
    assert str(error.value).startswith(f"{path}, line {line}: ")
    assert named in str(error.value)


WHOLE = {
    "nothing": ("", "expected a plan, fields and values, got None"),
    "a list": ("- stn\n- cnn\n", "expected a plan, fields and values, got ['stn', 'cnn']"),
    "no question": (TEXT.partition("\n")[2], "question: Field required"),
    "no rows": (TEXT.partition("rows:")[0], "rows: "),
    "rows that are a list": (TEXT.partition("rows:")[0] + "rows:\n  - stn\n", "line 9: expected fields and values, one a line"),
    "rows that are empty": (TEXT.partition("rows:")[0] + "rows:\n", "line 9: expected fields and values, one a line"),
}


@pytest.mark.parametrize("text, named", WHOLE.values(), ids=WHOLE)
def test_a_file_that_is_no_whole_plan_is_named_in_a_line(tmp_path, text, named):
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        studies.load("tiny", tmp_path)
    assert str(error.value).startswith(f"{path}, line ") and named in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 150


def test_the_text_that_the_faults_are_put_into_is_a_plan(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TEXT)
    plan = studies.load("tiny", tmp_path)
    usual = Experiment(dataset="glyphs", epochs=1)
    assert plan.rows == {"stn": usual, "cnn": usual.but(model="convnet")}
    assert plan.contrasts == [("stn", "cnn")]


def test_an_unknown_study_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="'tinny'. Did you mean 'tiny'"):
        studies.load("tinny", write_plan(tmp_path))


def test_a_rows_own_fields_win_over_the_common_ones(tmp_path):
    plan = studies.load("tiny", write_plan(tmp_path, rows={"a": {"epochs": 7}}, contrasts=[]))
    assert (plan.rows["a"].epochs, plan.rows["a"].n_train) == (7, 64)


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_the_shares_of_all_ranks_are_the_study_and_do_not_move_when_records_come(tiny, ranks):
    shares = [tiny.missing(share=(rank, ranks)) for rank in range(ranks)]
    assert sorted(pair for share in shares for pair in share) == sorted(tiny.missing())
    append(tiny.path, made_up("stn", 1000))
    for rank, share in enumerate(shares):
        assert tiny.missing(share=(rank, ranks)) == [pair for pair in share if pair != ("stn", 1000)]


def test_missing_goes_seed_by_seed_from_1000_and_leaves_out_what_is_done(tiny):
    append(tiny.path, made_up("cnn", 1000))
    assert tiny.missing() == [("stn", 1000), ("stn", 1001), ("cnn", 1001)]
    assert tiny.missing(rows=["cnn"], seeds=3) == [("cnn", 1001), ("cnn", 1002)]
    with pytest.raises(ValueError, match="'snt'. Did you mean 'stn'"):
        tiny.missing(rows=["snt"])


def test_a_row_may_have_seeds_of_its_own_more_or_fewer_than_the_plans(tmp_path):
    rows = {"few": {"seeds": 1}, "usual": {}, "many": {"seeds": 4}}
    plan = studies.load("tiny", write_plan(tmp_path, rows=rows, contrasts=[]))
    assert plan.missing() == [
        ("few", 1000), ("usual", 1000), ("many", 1000), ("usual", 1001), ("many", 1001), ("many", 1002), ("many", 1003),
    ]  # fmt: skip
    assert plan.missing(rows=["few"], seeds=2) == [("few", 1000), ("few", 1001)]
    assert plan.rows["few"] == plan.rows["usual"]


def test_a_merge_brings_fields_and_seeds_along_and_a_rows_own_win(tmp_path):
    text = TEXT.replace("model: stnet", "model: stnet\n    seeds: 5").replace("  cnn:", "  cnn:\n    <<: *base\n    lr: 0.1")
    (tmp_path / "tiny.yaml").write_text(text)
    plan = studies.load("tiny", tmp_path)
    assert (plan.rows["cnn"].model, plan.rows["cnn"].lr, plan.own_seeds) == ("convnet", 0.1, {"stn": 5, "cnn": 5})


# ---- records that are not the plan's ----

STRANGERS = {
    "a changed field": ({"lr": 0.5}, "lr: 0.5 in the record, 0.001 in the plan"),
    "two of them": ({"epochs": 2, "lr": 0.5}, "lr: 0.5 in the record, 0.001 in the plan; epochs: 2 in"),
    "a field of another version": ({"zoom": 2}, "unknown field 'zoom'"),
    "a value of another version": ({"world": "tiny9"}, "unknown world 'tiny9'"),
}  # fmt: skip


@pytest.mark.parametrize("change, named", STRANGERS.values(), ids=STRANGERS)
def test_a_record_whose_experiment_is_not_the_plans_is_named_and_left_out(tiny, change, named):
    write_records(tiny, {"stn": {1000: 0.98}, "cnn": SCORES["cnn"]})
    without = table(tiny)
    record = made_up("stn", 1001, 0.1)
    append(tiny.path, {**record, "experiment": {**record["experiment"], **change}})
    assert tiny.missing() == [("stn", 1001)] and len(tiny.records()) == 4
    (line,) = table(tiny).removeprefix(without).splitlines()[1:]
    assert line.startswith(f"not counted: stn, seed 1001: {named}")


def test_a_record_of_a_row_that_left_the_plan_is_named_and_left_out(tiny):
    append(tiny.path, made_up("gone", 1000))
    assert tiny.records() == [] and tiny.strangers() == ["gone, seed 1000: no such row in the plan"]
    assert table(tiny).endswith("not counted: gone, seed 1000: no such row in the plan")


def test_a_record_from_before_a_field_was_known_is_the_plans(tiny):
    record = made_up("stn", 1000)
    assert "clip" not in record["experiment"] and "clip" in Experiment.model_fields
    append(tiny.path, record)
    assert tiny.records() == [record] and tiny.strangers() == []


def test_a_record_from_before_coordconv_was_known_is_the_plans_and_one_with_another_is_not(tiny):
    old = made_up("stn", 1000)
    assert not {"coordconv", "activation", "width"} & old["experiment"].keys()
    append(tiny.path, old)
    other = made_up("stn", 1001)
    append(tiny.path, {**other, "experiment": {**other["experiment"], "coordconv": "both", "width": 2.0}})
    assert tiny.records() == [old]
    (text,) = tiny.strangers()
    assert "coordconv: 'both' in the record, 'none' in the plan" in text
    assert "width: 2.0 in the record, 1.0 in the plan" in text


# ---- what a record holds ----

SPEC = dict(channels=1, canvas=28, view=28, classes=10, background=[0.0], mean=[0.1], std=[0.3])
TEST_LABELS = torch.tensor([0, 1, 2, 2])


def finished(seconds, calibration_error=0.0625):
    """A Run as if it had been trained and tested on four images, the last of them wrong."""
    experiment, test_confusion = Experiment(dataset="glyphs"), torch.zeros(10, 10, dtype=torch.int64)
    test_confusion[0, 0] = test_confusion[1, 1] = test_confusion[2, 2] = test_confusion[2, 7] = 1
    predictions = torch.tensor([0, 1, 2, 7], dtype=torch.uint8)
    test = {"top1": 0.75, "loss": 0.5, "calibration_error": calibration_error, "predictions": predictions}
    epochs = list(range(1, len(seconds) + 1))
    history = {"epoch": epochs, "val_top1": [0.5] * len(seconds), "seconds": seconds} if seconds else {}
    weights = build(experiment, SPEC).state_dict()
    test["confusion"] = test_confusion
    return Run(experiment, "glyphs, clean28", SPEC, {}, history, weights=weights, test=test)


def result_of(tiny, run):
    return strict(json.dumps(to_record(tiny, "stn", run, TEST_LABELS)))["result"]


def test_a_record_holds_the_calibration_error_and_every_count_of_the_confusion_matrix(tiny):
    result = result_of(tiny, finished([1.0]))
    assert result["calibration_error"] == 0.0625
    counts = np.array(result["confusion"])
    assert counts.shape == (10, 10) and counts.sum() == len(TEST_LABELS)
    assert counts.trace() / counts.sum() == result["test_top1"] == unpack(result["correct"])[:4].mean()
    assert {(true, answer): n for (true, answer), n in np.ndenumerate(counts) if n} == {
        (0, 0): 1,
        (1, 1): 1,
        (2, 2): 1,
        (2, 7): 1,
    }


def test_the_calibration_error_of_a_run_that_diverged_is_null(tiny):
    assert result_of(tiny, finished([1.0], float("nan")))["calibration_error"] is None


def test_a_record_holds_the_top_1_of_an_oracle_where_the_test_has_one_and_nothing_of_it_elsewhere(tiny):
    run = finished([1.0])
    assert "oracle_top1" not in result_of(tiny, run)
    run.test["oracle_top1"] = 1 / 3
    assert result_of(tiny, run)["oracle_top1"] == 0.333333


def test_a_record_holds_what_a_policy_preferred_epoch_by_epoch(tiny):
    run = finished([1.0, 2.0])
    run.history |= {"entropy": [2.1972245773, 1.5], "move_0": [1.0, 0.25], "move_1": [0.0, 0.75]}
    history = strict(json.dumps(to_record(tiny, "stn", run, TEST_LABELS)))["history"]
    assert {name: history[name] for name in ("entropy", "move_0", "move_1")} == {
        "entropy": [2.197225, 1.5], "move_0": [1.0, 0.25], "move_1": [0.0, 0.75],
    }  # fmt: skip


@pytest.mark.parametrize(
    "seconds, usual, total",
    [([2.0], 2.0, 2.0), ([3.0, 1.0, 1000.0], 3.0, 1004.0), ([1.0, 2.0], 1.5, 3.0), ([0.1234567], 0.123, 0.1), ([], None, 0)],
)
def test_seconds_per_epoch_is_the_middle_epochs_so_a_pause_does_not_move_it(tiny, seconds, usual, total):
    result = result_of(tiny, finished(seconds))
    assert (result["seconds_per_epoch"], result["seconds"]) == (usual, total)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 80, 83, 10_000])
def test_unpack_without_a_count_gives_every_image_and_at_most_seven_false_ones_behind_them(count):
    flags = np.random.default_rng(count).random(count) < 0.7
    flags[-1] = True
    found = unpack(pack(flags))
    assert found.dtype == bool and len(found) == 8 * math.ceil(count / 8)
    assert (found[:count] == flags).all() and not found[count:].any()
    assert (unpack(pack(flags), count) == flags).all()


# ---- the table ----

SCORES = {"stn": {1000: 0.98, 1001: 0.97, 1002: 0.99}, "cnn": {1000: 0.96, 1001: 0.965, 1002: 0.95}}


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_row_shows_mean_and_t_interval_as_scipy_has_them(tiny):
    write_records(tiny, SCORES)
    for row, by_seed in SCORES.items():
        scores = [100 * score for score in by_seed.values()]
        low, high = stats.t.interval(0.95, len(scores) - 1, np.mean(scores), stats.sem(scores))
        wanted = f"{row}  3  {np.mean(scores):.2f} ± {(high - low) / 2:.2f}  {min(scores):.2f}  21,840"
        assert line_of(table(tiny), row).split() == wanted.split()


def test_a_contrast_is_paired_over_the_seeds_both_rows_have(tiny):
    write_records(tiny, {"stn": {**SCORES["stn"], 1003: 0.1}, "cnn": SCORES["cnn"]})
    pair = [[100 * score for score in SCORES[row].values()] for row in ("stn", "cnn")]
    low, high = stats.ttest_rel(*pair).confidence_interval(0.95)
    wanted = f"stn minus cnn: {(low + high) / 2:+.2f} ± {(high - low) / 2:.2f} points, 3 paired seeds, "
    wanted += f"p {stats.ttest_rel(*pair).pvalue:.4f}"
    assert line_of(table(tiny), "stn minus") == wanted


def test_the_p_values_of_several_contrasts_are_corrected_after_holm(tmp_path):
    rows = {name: {"seed": 0} for name in ("a", "b", "c")}
    plan = studies.load("tiny", write_plan(tmp_path, rows=rows, contrasts=[["a", "b"], ["a", "c"]]))
    scores = {"a": [0.98, 0.97, 0.99], "b": [0.96, 0.965, 0.95], "c": [0.97, 0.96, 0.981]}
    write_records(plan, {row: dict(zip((1000, 1001, 1002), values)) for row, values in scores.items()})
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


COLUMNS = ["collapsed", "ever_thrown", "top1", "alive_top1", "det", "outside", "zoomed_out", "lowest", "parameters"]


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
        append(plan.path, made_up("stn", seed, top1, **history))
    return plan


def wilson(count, of):
    """Wilson's 95 % interval in whole percent, by his formula."""
    z, rate = stats.norm.ppf(0.975), count / of
    middle, half = rate + z**2 / (2 * of), z * math.sqrt(rate * (1 - rate) / of + z**2 / (4 * of**2))
    return "({:.0f}-{:.0f} %)".format(*(100 * (middle + sign * half) / (1 + z**2 / of) for sign in (-1, 1)))


def cells(text, row):
    """What stands in the row of that name, a cell a column, after its name and its number of seeds."""
    return re.split(r"  +", line_of(text, row))[2:]


def test_every_column_shows_what_its_heading_says(looked):
    half = {name: (np.mean(values), stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)) for name, values in {
        "top1": [98, 96, 10, 94], "alive": [98, 96, 94], "det": [1.2, 1.6, 0.8], "outside": [0.2, 0.4, 0.3],
    }.items()}  # fmt: skip
    assert line_of(table(looked), "stn").split()[:2] == ["stn", "4"]
    assert cells(table(looked), "stn") == [
        f"1/4 {wilson(1, 4)}", f"2/4 {wilson(2, 4)}", "{:.2f} ± {:.2f}".format(*half["top1"]),
        "{:.1f} ± {:.1f}".format(*half["alive"]), "{:.2f} ± {:.2f}".format(*half["det"]),
        "{:.2f} ± {:.2f}".format(*half["outside"]), f"3/4 {wilson(3, 4)}", "10.00", "21,840",
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
    assert lines == ["collapsed, seed (epoch): stn: 1002 (2)", "collapsed, seed (epoch): cnn: 1001 (1)"]


def test_without_a_collapse_none_is_listed(tiny):
    write_records(tiny, SCORES)
    assert "collapsed" not in table(tiny)


def test_a_long_list_of_collapsed_runs_is_wrapped_and_whole(tiny):
    for seed in range(1000, 1040):
        append(tiny.path, made_up("stn", seed, 0.1, **looks([0.1, 1.0], [1.0, 9.0], 0.1)))
    lines = table(tiny).splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("collapsed, seed"))
    assert max(map(len, lines[start:])) <= 110
    assert re.findall(r"(\d{4}) +\(2\)", " ".join(lines[start:])) == [str(seed) for seed in range(1000, 1040)]


def test_runs_that_all_collapsed_leave_nothing_alive_to_average(looked):
    for seed in (1000, 1001):
        append(looked.path, made_up("cnn", seed, 0.1, **looks([1.0, 1.0], [9.0, 9.0], 0.1)))
    assert cells(table(looked), "cnn")[:7] == [
        f"2/2 {wilson(2, 2)}", f"2/2 {wilson(2, 2)}", "10.00 ± 0.00", "-", "-", "-", f"2/2 {wilson(2, 2)}",
    ]  # fmt: skip


def test_a_row_without_looks_has_no_cell_of_looks(looked):
    for seed in (1000, 1001):
        append(looked.path, made_up("cnn", seed, 0.9, val_top1=[0.9]))
    assert cells(table(looked), "cnn")[:7] == ["-", "-", "90.00 ± 0.00", "90.0 ± 0.0", "-", "-", "-"]


def test_a_run_that_diverged_has_nulls_and_does_not_end_the_table(looked):
    append(looked.path, made_up("stn", 1004, 0.1, **looks([0.2, 1.0], [1.0, None], 0.1)))
    found = cells(table(looked), "stn")
    assert found[0] == f"2/5 {wilson(2, 5)}" and found[6] == f"3/5 {wilson(3, 5)}"
    assert "1004 (2)" in table(looked)


CONTRASTED = {  # measure: a value per seed and row, as the contrast should take it
    "test_top1": ({1000: 98.0, 1001: 96.0, 1002: 10.0}, {1000: 90.0, 1001: 91.0, 1002: 95.0}, "{:+.2f} ± {:.2f} points"),
    "collapsed": ({1000: 0.0, 1001: 0.0, 1002: 100.0}, {1000: 100.0, 1001: 0.0, 1002: 0.0}, "{:+.1f} ± {:.1f} points"),
    "det": ({1000: 1.2, 1001: 1.6, 1002: 50.0}, {1000: 9.0, 1001: 1.0, 1002: 1.5}, "{:+.2f} ± {:.2f}"),
    "outside": ({1000: 0.2, 1001: 0.4, 1002: 1.0}, {1000: 1.0, 1001: 0.1, 1002: 0.2}, "{:+.2f} ± {:.2f}"),
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
    assert line_of(table(plan), "stn minus") == "stn minus cnn: +0.0 ± 0.0 points, 2 paired seeds, p 1.0000"


# ---- what is shipped ----

FIELDS = {"study", "row", "seed", "experiment", "history", "result", "provenance"}
HISTORY = {"epoch", "train_loss"}
RESULT = {"test_top1", "test_loss", "correct", "parameters", "seconds"}


def test_there_are_plans():
    assert studies.plans()


@pytest.mark.parametrize("name", studies.plans())
def test_a_shipped_plan_loads_says_its_question_and_cost_and_contrasts_its_own_rows(name):
    plan = studies.load(name)
    assert plan.question.strip().endswith("?") and plan.cost and plan.seeds > 1
    assert {row for pair in plan.contrasts for row in pair} <= plan.rows.keys()


@pytest.mark.parametrize("name", [name for name in studies.plans() if studies.load(name).records()])
def test_shipped_records_are_those_of_the_plan_and_count_their_right_answers(name):
    plan = studies.load(name)
    records = plan.records()
    pairs = [(record["row"], record["seed"]) for record in records]
    assert len(pairs) == len(set(pairs)), "a run stands there twice"
    assert plan.strangers() == []
    for record in records:
        assert FIELDS <= record.keys() and HISTORY <= record["history"].keys() and RESULT <= record["result"].keys()
        assert record["study"] == name and record["seed"] >= plan.first_seed
        assert Experiment(**record["experiment"]) == plan.rows[record["row"]].but(seed=record["seed"])
        (epochs,) = {len(values) for values in record["history"].values()}
        gave_up = streak(record["history"]) == record["experiment"].get("give_up")
        assert epochs == record["experiment"]["epochs"] or gave_up
        if "collapse_epoch" in record["result"]:
            assert record["result"]["collapse_epoch"] == studies.collapse(record)
        correct = unpack(record["result"]["correct"], 10_000)
        assert record["result"]["test_top1"] == pytest.approx(correct.mean(), abs=1e-6)


@pytest.mark.parametrize("path", sorted(studies.FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_shipped_lines_are_strict_json_and_have_a_plan(path):
    assert path.stem in studies.plans()
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # a study that runs just now may be writing the last one
            strict(line)
