"""Study: a plan, one line per finished run, one table; nothing is run twice, nothing half is counted."""

import functools
import json

import numpy as np
import pytest
import yaml
from scipy import stats

import stn_utils.data
from stn_utils import study as studies
from stn_utils import train
from stn_utils.data.glyphs import glyphs
from stn_utils.data.worlds import make_world
from stn_utils.experiment import Experiment
from stn_utils.study import append, pack, run_missing, table, to_record, unpack

PLAN = {
    "question": "does it run?",
    "cost": "nothing",
    "seeds": 2,
    "contrasts": [["stn", "cnn"]],
    "common": {"dataset": "glyphs", "epochs": 1, "n_train": 64},
    "rows": {"stn": {"model": "stnet"}, "cnn": {"model": "convnet"}},
}


def write_plan(folder, **changes):
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
    return folder


@pytest.fixture
def tiny(tmp_path):
    return studies.load("tiny", write_plan(tmp_path))


@functools.cache
def tiny_world(dataset, world, replica, device):
    return make_world(dataset, world, glyphs(1200, 60), "made up", replica, device)


def tiny_load(dataset="glyphs", world="clean28", replica=False, device="cpu"):
    return tiny_world(dataset, world, replica, str(device))


@pytest.fixture
def tiny_data(monkeypatch):
    monkeypatch.setattr(train, "load", tiny_load)
    monkeypatch.setattr(stn_utils.data, "load", tiny_load)


def made_up(row, seed, top1=0.5):
    model = {"stn": "stnet", "cnn": "convnet"}.get(row, "stnet")
    experiment = {**PLAN["common"], "model": model, "seed": seed}
    result = {"test_top1": top1, "parameters": 21840}
    return {"study": "tiny", "row": row, "seed": seed, "experiment": experiment, "history": {"epoch": [1]}, "result": result}


def write_records(study, scores):
    for row, by_seed in scores.items():
        for seed, top1 in by_seed.items():
            append(study.path, made_up(row, seed, top1))


def strict(text):
    """Parse JSON as other languages do: NaN and Infinity are no JSON."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


# ---- plans ----


@pytest.mark.parametrize(
    "rows, named",
    [
        ({"a": {"modle": "stnet"}}, "'modle'. Did you mean 'model'?"),
        ({"a": {"world": "clean29"}}, "'clean29'. Did you mean 'clean28'?"),
        ({"a": {"epochs": -1}}, "epochs"),
    ],
    ids=["field", "value", "range"],
)
def test_a_row_that_is_no_experiment_is_named_with_the_nearest(tmp_path, rows, named):
    with pytest.raises(ValueError) as error:
        studies.load("tiny", write_plan(tmp_path, rows=rows, contrasts=[]))
    assert named in str(error.value)


def test_an_unknown_study_is_named_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="'tinny'. Did you mean 'tiny'"):
        studies.load("tinny", write_plan(tmp_path))


def test_a_misspelt_row_in_a_contrast_is_named_before_anything_runs(tmp_path):
    with pytest.raises(ValueError, match="row in a contrast 'snt'. Did you mean 'stn'"):
        studies.load("tiny", write_plan(tmp_path, contrasts=[["snt", "cnn"]]))


def test_a_rows_own_fields_win_over_the_common_ones(tmp_path):
    plan = studies.load("tiny", write_plan(tmp_path, rows={"a": {"epochs": 7}}, contrasts=[]))
    assert (plan.rows["a"].epochs, plan.rows["a"].n_train) == (7, 64)


def test_missing_goes_seed_by_seed_from_1000_and_leaves_out_what_is_done(tiny):
    append(tiny.path, made_up("cnn", 1000))
    assert tiny.missing() == [("stn", 1000), ("stn", 1001), ("cnn", 1001)]
    assert tiny.missing(rows=["cnn"], seeds=3) == [("cnn", 1001), ("cnn", 1002)]
    with pytest.raises(ValueError, match="'snt'. Did you mean 'stn'"):
        tiny.missing(rows=["snt"])


# ---- the lines ----


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


def test_a_record_is_one_line_of_strict_json_even_of_a_run_that_diverged(tiny, tiny_data):
    run = train.fit(tiny.rows["stn"], "cpu", quiet=True)
    run.history["val_loss"], run.test["loss"] = [float("nan")], float("inf")
    append(tiny.path, to_record(tiny, "stn", run, tiny_load().test.labels))
    lines = tiny.path.read_text().splitlines()
    record = strict(lines[0])
    assert len(lines) == 1
    assert record["history"]["val_loss"] == [None] and record["result"]["test_loss"] is None


def test_a_record_tells_what_the_run_holds(tiny, tiny_data):
    run = train.fit(tiny.rows["stn"].but(seed=7), "cpu", quiet=True)
    labels = tiny_load().test.labels
    record = to_record(tiny, "stn", run, labels)
    right = (run.test["predictions"] == labels).numpy()
    assert (unpack(record["result"]["correct"], len(labels)) == right).all()
    assert record["result"]["test_top1"] == pytest.approx(right.mean(), abs=1e-6)
    assert record["result"]["parameters"] == sum(p.numel() for p in run.model().parameters())
    assert (record["row"], record["seed"], record["experiment"]) == ("stn", 7, run.experiment.model_dump())


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_unpack_undoes_pack(count):
    flags = np.random.default_rng(count).random(count) < 0.5
    assert (unpack(pack(flags), count) == flags).all()
    assert len(pack(flags)) <= 4 * (count // 24 + 1)  # a bit an image, in base64


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


# ---- running ----


def test_run_missing_makes_every_record_once(tiny, tiny_data, monkeypatch, capsys):
    run_missing(tiny, device="cpu")
    content = tiny.path.read_bytes()
    assert [(record["row"], record["seed"]) for record in map(strict, content.decode().splitlines())] == [
        ("stn", 1000), ("cnn", 1000), ("stn", 1001), ("cnn", 1001),
    ]  # fmt: skip
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("fitted again"))
    run_missing(tiny, device="cpu")
    assert tiny.path.read_bytes() == content


def test_what_another_process_finished_meanwhile_is_not_run_again(tiny, tiny_data, monkeypatch):
    fitted = []

    def fit(experiment, *arguments, original=train.fit, **options):
        fitted.append((experiment.model, experiment.seed))
        if len(fitted) == 1:
            append(tiny.path, made_up("cnn", 1000))
        return original(experiment, *arguments, **options)

    monkeypatch.setattr(train, "fit", fit)
    run_missing(tiny, device="cpu")
    assert fitted == [("stnet", 1000), ("stnet", 1001), ("convnet", 1001)]
    assert len(tiny.records()) == 4


def test_an_interrupted_run_leaves_no_record_and_ends_the_study(tiny, tiny_data, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train_epoch", interrupted)
    run_missing(tiny, device="cpu")
    assert tiny.records() == []


def test_glyphs_that_stand_in_for_the_data_make_no_record(tmp_path, monkeypatch):
    plan = studies.load("tiny", write_plan(tmp_path, common={"dataset": "mnist", "epochs": 0}))
    for room in (train, stn_utils.data):
        monkeypatch.setattr(room, "load", lambda dataset, *rest: tiny_load("glyphs"))
    with pytest.raises(ValueError, match="glyphs stand in for it"):
        run_missing(plan, device="cpu")
    assert not plan.path.exists()


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
    for record in records:
        assert FIELDS <= record.keys() and HISTORY <= record["history"].keys() and RESULT <= record["result"].keys()
        assert record["study"] == name and record["seed"] >= plan.first_seed
        assert Experiment(**record["experiment"]) == plan.rows[record["row"]].but(seed=record["seed"])
        assert {len(values) for values in record["history"].values()} == {record["experiment"]["epochs"]}
        correct = unpack(record["result"]["correct"], 10_000)
        assert record["result"]["test_top1"] == pytest.approx(correct.mean(), abs=1e-6)


@pytest.mark.parametrize("path", sorted(studies.FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_shipped_lines_are_strict_json_and_have_a_plan(path):
    assert path.stem in studies.plans()
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n"):  # a study that runs just now may be writing the last one
            strict(line)
