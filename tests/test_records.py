"""A study's records: what a line holds, and that the shipped ones are those of their plans."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from tiny_study import PLAN, made_up, pairs, strict, write_plan
from tiny_world import tiny_load

from stn_utils import study as studies
from stn_utils import train
from stn_utils.diagnose import epochs_off_image
from stn_utils.experiment import Experiment
from stn_utils.models import build
from stn_utils.run import Run
from stn_utils.spec import ImageSpec
from stn_utils.study import append, pack, right, run_missing, to_record, unpack

SPEC = ImageSpec(1, (28, 28), (28, 28), 10, [0.0], [0.1], [0.3])
TEST_LABELS = torch.tensor([0, 1, 2, 2])


def finished(seconds, calibration_error=0.0625):
    """A Run as if it had been trained and tested on four images, the last of them wrong."""
    experiment, test_confusion = (
        Experiment(dataset="glyphs"),
        torch.zeros(10, 10, dtype=torch.int64),
    )
    test_confusion[0, 0] = test_confusion[1, 1] = test_confusion[2, 2] = test_confusion[2, 7] = 1
    predictions = torch.tensor([0, 1, 2, 7], dtype=torch.uint8)
    test = {
        "top1": 0.75,
        "loss": 0.5,
        "calibration_error": calibration_error,
        "predictions": predictions,
    }
    epochs = list(range(1, len(seconds) + 1))
    history = (
        {"epoch": epochs, "val_top1": [0.5] * len(seconds), "seconds": seconds} if seconds else {}
    )
    weights = build(experiment, SPEC).state_dict()
    test["confusion"] = test_confusion
    return Run(experiment, "glyphs, clean28", SPEC, {}, history, weights=weights, test=test)


def result_of(tiny, run):
    return strict(json.dumps(to_record(tiny.name, "stn", run, TEST_LABELS)))["result"]


def test_a_record_holds_the_calibration_error_and_every_count_of_the_confusion_matrix(tiny):
    result = result_of(tiny, finished([1.0]))
    assert result["calibration_error"] == 0.0625
    counts = np.array(result["confusion"])
    assert counts.shape == (10, 10) and counts.sum() == len(TEST_LABELS)
    assert counts.trace() / counts.sum() == result["test_top1"] == right({"result": result}).mean()
    assert {(true, answer): n for (true, answer), n in np.ndenumerate(counts) if n} == {
        (0, 0): 1,
        (1, 1): 1,
        (2, 2): 1,
        (2, 7): 1,
    }


def test_a_record_of_many_classes_has_no_matrix_and_is_read_all_the_same(tiny):
    run = finished([1.0])
    run.spec = SPEC._replace(classes=200)
    run.model = lambda: torch.nn.Linear(1, 1)
    result = result_of(tiny, run)
    assert result["confusion"] is None and result["classes"] == 200
    assert right({"result": result}).tolist() == [True, True, True, False]


def test_the_calibration_error_of_a_run_that_diverged_is_null(tiny):
    assert result_of(tiny, finished([1.0], float("nan")))["calibration_error"] is None


def test_a_record_holds_the_top_1_of_an_oracle_where_the_test_has_one_and_nothing_of_it_elsewhere(
    tiny,
):
    run = finished([1.0])
    assert "oracle_top1" not in result_of(tiny, run)
    run.test["oracle_top1"] = 1 / 3
    assert result_of(tiny, run)["oracle_top1"] == 0.333333


def test_a_record_holds_what_a_policy_preferred_epoch_by_epoch(tiny):
    run = finished([1.0, 2.0])
    run.history |= {"entropy": [2.1972245773, 1.5], "move_0": [1.0, 0.25], "move_1": [0.0, 0.75]}
    history = strict(json.dumps(to_record(tiny.name, "stn", run, TEST_LABELS)))["history"]
    assert {name: history[name] for name in ("entropy", "move_0", "move_1")} == {
        "entropy": [2.197225, 1.5], "move_0": [1.0, 0.25], "move_1": [0.0, 0.75],
    }  # fmt: skip


@pytest.mark.parametrize(
    "seconds, usual, total",
    [
        ([2.0], 2.0, 2.0),
        ([3.0, 1.0, 1000.0], 3.0, 1004.0),
        ([1.0, 2.0], 1.5, 3.0),
        ([0.1234567], 0.123, 0.1),
        ([], None, 0),
    ],
)
def test_seconds_per_epoch_is_the_middle_epochs_so_a_pause_does_not_move_it(
    tiny, seconds, usual, total
):
    result = result_of(tiny, finished(seconds))
    assert (result["seconds_per_epoch"], result["seconds"]) == (usual, total)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 80, 83, 10_000])
def test_unpack_without_a_count_gives_every_image_and_at_most_seven_false_ones_behind_them(count):
    flags = np.random.default_rng(count).random(count) < 0.7
    flags[-1] = True
    found = unpack(pack(flags), None)
    assert found.dtype == bool and len(found) == 8 * math.ceil(count / 8)
    assert (found[:count] == flags).all() and not found[count:].any()
    assert (unpack(pack(flags), count) == flags).all()


# ---- the lines ----


def test_a_broken_line_in_the_middle_is_named(tiny):
    append(tiny.path, made_up("stn", 1000))
    with open(tiny.path, "a") as file:
        file.write(
            '{"row": "stn", "se' + "{}\n"
        )  # as `cat` leaves it behind a file that was cut short
    with pytest.raises(ValueError, match=r"tiny\.jsonl, line 2: not a record"):
        tiny.records()


def test_a_last_line_cut_short_is_passed_over_and_removed_by_the_next_writer(tiny, capsys):
    append(tiny.path, made_up("stn", 1000))
    whole = tiny.path.read_bytes()
    cut = whole + json.dumps(made_up("cnn", 1000))[:40].encode()
    tiny.path.write_bytes(cut)
    assert tiny.records() == [made_up("stn", 1000)]
    assert ("cnn", 1000) in tiny.missing()
    append(tiny.path, made_up("stn", 1001))
    assert "cut short" in capsys.readouterr().out
    assert [record["seed"] for record in tiny.records()] == [1000, 1001]
    assert tiny.path.read_bytes().startswith(whole)


def test_a_run_that_stands_in_two_files_put_together_counts_once(tiny):
    for record in (made_up("stn", 1000), made_up("cnn", 1000), made_up("stn", 1000)):
        append(tiny.path, record)
    assert pairs(tiny) == [("stn", 1000), ("cnn", 1000)]


def test_a_record_is_one_line_of_strict_json_even_of_a_run_that_diverged(tiny, tiny_data):
    run = train.fit(tiny.rows["stn"], "cpu", quiet=True)
    run.history["val_loss"], run.test["loss"] = [float("nan")], float("inf")
    append(tiny.path, to_record(tiny.name, "stn", run, tiny_load().test.labels))
    lines = tiny.path.read_text().splitlines()
    record = strict(lines[0])
    assert len(lines) == 1
    assert record["history"]["val_loss"] == [None] and record["result"]["test_loss"] is None


@pytest.mark.parametrize("cut", [1, 40, -1], ids=["a byte", "some", "all but the end"])
def test_a_line_cut_short_anywhere_costs_no_other_line(tiny, cut):
    whole = [made_up("stn", 1000), made_up("cnn", 1000)]
    for record in whole:
        append(tiny.path, record)
    line = (json.dumps(made_up("stn", 1001)) + "\n").encode()
    tiny.path.write_bytes(tiny.path.read_bytes() + line[:cut])
    assert tiny.records() == whole
    append(tiny.path, made_up("stn", 1001))
    assert tiny.records() == [*whole, made_up("stn", 1001)]
    assert tiny.path.read_bytes().endswith(line) and tiny.missing() == [("cnn", 1001)]


def test_a_file_that_holds_but_half_a_line_is_begun_anew(tiny):
    tiny.path.write_text('{"study": "ti')
    assert tiny.records() == [] and len(tiny.missing()) == 4
    append(tiny.path, made_up("stn", 1000))
    assert tiny.records() == [made_up("stn", 1000)]


def test_a_run_without_an_epoch_makes_a_record_and_a_table_too(tmp_path, tiny_data):
    study = studies.load("tiny", write_plan(tmp_path, common={**PLAN["common"], "epochs": 0}))
    run_missing(study, device="cpu")
    assert [record["history"] for record in study.records()] == [{}] * 4
    assert "no run yet" not in studies.table(study)


def test_a_record_says_whether_and_when_its_run_collapsed(tiny, tiny_data, capsys):
    run = train.fit(tiny.rows["stn"], "cpu", quiet=True)
    for outside, epoch in ((0.2, None), (1.0, 1), (float("nan"), 1)):
        run.history["outside"], run.history["val_top1"] = [outside], [0.1]
        record = to_record(tiny.name, "stn", run, tiny_load().test.labels)
        result = record["result"]
        assert (result["collapsed"], result["collapse_epoch"]) == (epoch is not None, epoch)
        assert studies.collapse(strict(json.dumps(record))) == epoch


def test_a_record_tells_what_the_run_holds(tiny, tiny_data):
    run = train.fit(tiny.rows["stn"].replace(seed=7), "cpu", quiet=True)
    labels = tiny_load().test.labels
    record = to_record(tiny.name, "stn", run, labels)
    correct = (run.test["predictions"] == labels).numpy()
    assert (unpack(record["result"]["correct"], len(labels)) == correct).all()
    assert record["result"]["test_top1"] == pytest.approx(correct.mean(), abs=1e-6)
    assert record["result"]["parameters"] == sum(p.numel() for p in run.model().parameters())
    assert (record["row"], record["seed"], record["experiment"]) == (
        "stn",
        7,
        run.experiment.model_dump(by_alias=True),
    )
    assert (record["result"]["images"], record["result"]["classes"]) == (len(labels), 10)
    assert {"view", "clip", "give_up", "fresh"} <= record["experiment"].keys()  # as ever


@pytest.mark.parametrize("count", [60, 64, 10_000])
def test_every_image_of_a_record_counts_and_no_more(count):
    """Eight bits a byte: up to seven more would count as wrong."""
    flags = np.random.default_rng(count).random(count) < 0.9
    result = {"correct": pack(flags)}
    for known in ({"images": count}, {"confusion": [[count - 3, 1], [2, 0]]}):
        assert (right({"result": {**result, **known}}) == flags).all()
    if count % 8 == 0:  # the oldest say no count
        assert (right({"result": result}) == flags).all()


def test_a_record_of_many_classes_keeps_its_own_collapse(tiny):
    """15 % of 200 classes is far from chance, of ten it would be collapsed."""
    run = finished([1.0])
    spec = run.spec._replace(classes=200)
    history = {"epoch": [1], "outside": [1.0], "contrast": [1.0], "val_top1": [0.15]}
    weights = build(run.experiment, spec).state_dict()
    run = dataclasses.replace(run, spec=spec, history=history, weights=weights)
    record = strict(json.dumps(to_record(tiny.name, "stn", run, TEST_LABELS)))
    assert run.collapse_epoch is None and studies.collapse(record) is None
    old = {**record, "result": {}}
    assert studies.collapse(old) == 1  # records that do not say are of ten classes


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_unpack_undoes_pack(count):
    flags = np.random.default_rng(count).random(count) < 0.5
    assert (unpack(pack(flags), count) == flags).all()
    assert len(pack(flags)) <= 4 * (count // 24 + 1)  # a bit an image, in base64


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
    pairs = [(record["row"], record["seed"]) for record in plan.lines()]
    assert len(pairs) == len(set(pairs)), "a run stands there twice"
    assert plan.mismatched() == []
    for record in records:
        assert (
            FIELDS <= record.keys()
            and HISTORY <= record["history"].keys()
            and RESULT <= record["result"].keys()
        )
        assert record["study"] == name and record["seed"] >= plan.first_seed
        assert Experiment(**record["experiment"]) == plan.rows[record["row"]].replace(
            seed=record["seed"]
        )
        (epochs,) = {len(values) for values in record["history"].values()}
        gave_up = epochs_off_image(record["history"]) == record["experiment"].get("give_up")
        assert epochs == record["experiment"]["epochs"] or gave_up
        if "collapse_epoch" in record["result"]:
            assert record["result"]["collapse_epoch"] == studies.collapse(record)
        correct = unpack(record["result"]["correct"], record["result"].get("images", 10_000))
        assert record["result"]["test_top1"] == pytest.approx(correct.mean(), abs=1e-6)


@pytest.mark.parametrize("path", sorted(studies.FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_shipped_lines_are_strict_json_and_have_a_plan(path):
    assert path.stem in (*studies.plans(), "squares")  # that one is made by tools/squares.py
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # a study that runs just now may be writing the last one
            strict(line)
