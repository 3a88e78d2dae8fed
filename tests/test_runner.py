"""Runner: one line per finished run, nothing run twice, nothing half counted, whoever works beside it."""

import functools
import signal
import types

import pytest
import torch
from filelock import FileLock
from tiny_study import PAIRS, made_up, pairs, strict, write_plan
from tiny_world import tiny_load

import stn_utils.data
from stn_utils import study as studies
from stn_utils import train
from stn_utils.study import append, run_missing, runner, to_record

# ---- running ----


def test_run_missing_makes_every_record_once(tiny, tiny_data, monkeypatch, capsys):
    run_missing(tiny, device="cpu")
    content = tiny.path.read_bytes()
    assert [
        (record["row"], record["seed"]) for record in map(strict, content.decode().splitlines())
    ] == PAIRS
    monkeypatch.setattr(train, "fit", lambda *_, **__: pytest.fail("fitted again"))
    run_missing(tiny, device="cpu")
    assert tiny.path.read_bytes() == content


def test_stacked_seeds_make_the_same_records_once(tiny, tiny_data, capsys):
    run_missing(tiny, ["cnn"], 1, device="cpu")
    with FileLock(tiny.unfinished / "stn-1001.lock"):  # another runner is at it
        run_missing(tiny, device="cpu", stack=4)
    assert sorted(pairs(tiny)) == sorted(set(PAIRS) - {("stn", 1001)})
    run_missing(tiny, device="cpu", stack=4)
    assert sorted(pairs(tiny)) == sorted(PAIRS)
    stacked = {(r["row"], r["seed"]): r["provenance"].get("stacked") for r in tiny.records()}
    assert stacked == {("cnn", 1000): None, ("cnn", 1001): 1, ("stn", 1000): 1, ("stn", 1001): 1}


def test_a_stack_beside_other_jobs_is_refused_before_anything_runs(tiny, tiny_data):
    with pytest.raises(ValueError, match="stack=4 and jobs=2: a stack is one process"):
        run_missing(tiny, device="cpu", stack=4, jobs=2)
    assert not tiny.path.exists()


def test_stacked_seeds_are_copied_from_a_study_that_has_them(tiny, tiny_data, capsys):
    run_missing(tiny, device="cpu")
    (tiny.folder / "other.yaml").write_text((tiny.folder / "tiny.yaml").read_text())
    other = studies.load("other", tiny.folder)
    run_missing(other, device="cpu", stack=2)
    assert sorted(pairs(other)) == sorted(PAIRS)
    assert capsys.readouterr().out.count("of the study tiny") == 4


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
    with pytest.raises(KeyboardInterrupt):
        run_missing(tiny, device="cpu")
    assert tiny.records() == []


def test_glyphs_that_stand_in_for_the_data_make_no_record(tmp_path, monkeypatch):
    plan = studies.load("tiny", write_plan(tmp_path, common={"dataset": "mnist", "epochs": 0}))
    monkeypatch.setattr(stn_utils.data, "load", lambda dataset, *rest: tiny_load("glyphs"))
    with pytest.raises(ValueError, match="glyphs stand in for it"):
        run_missing(plan, device="cpu")
    assert not plan.path.exists()


def test_a_pair_that_another_runner_is_at_is_left_to_it(tiny, tiny_data):
    tiny.unfinished.mkdir(parents=True)
    with FileLock(tiny.unfinished / "cnn-1000.lock"):
        run_missing(tiny, device="cpu")
    assert pairs(tiny) == [pair for pair in PAIRS if pair != ("cnn", 1000)]
    run_missing(tiny, device="cpu")  # the other one has died: its lock is free
    assert sorted(pairs(tiny)) == sorted(PAIRS)


def test_what_is_done_leaves_no_run_behind(tiny, tiny_data):
    run_missing(tiny, device="cpu")
    assert [path for path in tiny.unfinished.iterdir() if path.is_dir()] == []


def other_study(tmp_path, **rows):
    """A second study beside the tiny one, made with `write_plan`'s common part."""
    (tmp_path / "other").mkdir()
    (write_plan(tmp_path / "other", rows=rows, contrasts=[]) / "tiny.yaml").rename(
        tmp_path / "other.yaml"
    )
    return studies.load("other", tmp_path)


def test_what_another_study_has_run_is_copied_and_not_run_again(
    tiny, tiny_data, tmp_path, monkeypatch, capsys
):
    other = other_study(tmp_path, plain={"model": "convnet"}, slow={"model": "stnet", "lr": 1e-4})
    run_missing(other, device="cpu")
    fitted = []

    def fit(experiment, *arguments, original=train.fit, **options):
        fitted.append((experiment.model, experiment.seed))
        return original(experiment, *arguments, **options)

    monkeypatch.setattr(train, "fit", fit)
    run_missing(tiny, device="cpu")
    assert fitted == [("stnet", 1000), ("stnet", 1001)], "another rate is another Experiment"
    theirs = {record["seed"]: record for record in other.records() if record["row"] == "plain"}
    ours = {record["seed"]: record for record in tiny.records() if record["row"] == "cnn"}
    assert (
        ours == {seed: {**record, "study": "tiny", "row": "cnn"} for seed, record in theirs.items()}
        and len(ours) == 2
    )
    assert "cnn  seed 1001  is plain of the study other" in capsys.readouterr().out


def test_what_left_another_study_is_not_copied(tiny, tiny_data, tmp_path):
    append(tmp_path / "other.jsonl", {**made_up("stn", 1000), "row": "gone"})
    other_study(tmp_path, stays={"model": "stnet", "lr": 1e-4})
    run_missing(tiny, ["stn"], seeds=1, device="cpu")
    (record,) = tiny.records()
    assert record["history"] != made_up("stn", 1000)["history"]


@pytest.mark.parametrize("name, text", [
    ("draft.yaml", "question: not yet\nrows: {a: {modle: stnet}}\n"), ("other.jsonl", "{not json}\n"),
])  # fmt: skip
def test_a_broken_study_beside_this_one_is_named_and_stops_nothing(
    tiny, tiny_data, tmp_path, name, text
):
    other_study(tmp_path, plain={"model": "convnet"})
    (tmp_path / name).write_text(text)
    with pytest.warns(UserWarning, match=f"copied from the study {name.split('.')[0]}"):
        run_missing(tiny, ["stn"], seeds=1, device="cpu")
    assert pairs(tiny) == [("stn", 1000)]


@pytest.fixture
def counted(monkeypatch):
    """The epochs trained: a list that grows by the seed of each."""
    epochs = []

    def train_epoch(*arguments, original=train.train_epoch):
        epochs.append(torch.initial_seed())
        return original(*arguments)

    monkeypatch.setattr(train, "train_epoch", train_epoch)
    return epochs


def test_a_run_that_was_stopped_goes_on_after_its_last_whole_epoch(tiny, tiny_data, counted):
    experiment = tiny.rows["stn"].replace(seed=1000)
    study = tiny.model_copy(update={"rows": {"stn": tiny.rows["stn"].replace(epochs=3)}})
    train.fit(experiment.replace(epochs=2), "cpu", study.unfinished / "stn-1000", quiet=True)
    run_missing(study, seeds=1, device="cpu")
    assert len(counted) == len(set(counted)) == 3
    (record,) = study.records()
    whole = to_record(
        study,
        "stn",
        train.fit(experiment.replace(epochs=3), "cpu", quiet=True),
        tiny_load().test.labels,
    )
    assert (
        record["history"] == whole["history"]
        and record["result"]["correct"] == whole["result"]["correct"]
    )


@pytest.mark.parametrize("left", ["of another plan", "too long", "damaged"])
def test_an_unfinished_run_that_is_of_no_use_is_begun_anew(tiny, tiny_data, counted, left):
    folder = tiny.unfinished / "stn-1000"
    changes = {"of another plan": {"lr": 0.5}, "too long": {"epochs": 2}, "damaged": {}}[left]
    train.fit(tiny.rows["stn"].replace(seed=1000, **changes), "cpu", folder, quiet=True)
    if left == "damaged":
        for path in folder.iterdir():
            path.write_bytes(b"no Run")
    counted.clear()
    run_missing(tiny, ["stn"], seeds=1, device="cpu")
    assert len(counted) == 1
    assert [record["experiment"]["lr"] for record in tiny.records()] == [tiny.rows["stn"].lr]


def test_a_run_that_collapsed_is_recorded_as_such_and_the_study_goes_on(
    tmp_path, tiny_data, capsys
):
    rows = {
        "thrown": {
            "optimizer": "sgd",
            "lr": 0.1,
            "loc_lr_ratio": 1000.0,
            "patience": 1,
            "epochs": 3,
        },
        "stn": {},
    }
    study = studies.load("tiny", write_plan(tmp_path, rows=rows, seeds=1, contrasts=[]))
    run_missing(study, device="cpu")
    thrown, stn = study.records()
    assert (
        thrown["result"]["collapsed"],
        thrown["result"]["collapse_epoch"],
        thrown["history"]["epoch"],
    ) == (True, 1, [1])
    assert (stn["result"]["collapsed"], stn["result"]["collapse_epoch"]) == (False, None)
    assert "collapsed in epoch 1" in capsys.readouterr().out


# ---- several runners ----


@pytest.fixture
def in_this_process(monkeypatch):
    """Let runners that are to be processes of their own run here, one after the other; the threads each was given."""
    threads = []

    class Process:
        exitcode = None

        def __init__(self, target, args, daemon):
            self.work = functools.partial(target, *args)

        def start(self):
            try:
                self.work()
                self.exitcode = 0
            except (Exception, SystemExit):  # as a process does, which ends with 1
                self.exitcode = 1

        def is_alive(self):
            return self.exitcode is None

        def join(self, timeout=None):
            pass

    monkeypatch.setattr(
        runner.multiprocessing, "get_context", lambda kind: types.SimpleNamespace(Process=Process)
    )
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    return threads


@pytest.mark.parametrize(
    "cores, jobs, threads", [(8, 2, [4] * 2), (2, 3, [1] * 3), (1, 2, [1] * 2), (16, 9, [4] * 4)]
)
def test_runners_share_the_cores_and_are_no_more_than_the_runs(
    tiny, tiny_data, in_this_process, monkeypatch, cores, jobs, threads
):
    monkeypatch.setattr(
        torch, "get_num_threads", lambda: cores
    )  # what this process may use, not what the machine has
    run_missing(tiny, device="cpu", jobs=jobs)
    assert in_this_process == threads
    assert pairs(tiny) == PAIRS


def test_a_single_run_or_a_single_runner_needs_no_other_process(tiny, tiny_data, in_this_process):
    run_missing(tiny, rows=["stn"], seeds=1, device="cpu", jobs=4)
    run_missing(tiny, device="cpu")
    assert not in_this_process and sorted(pairs(tiny)) == sorted(PAIRS)


def test_runners_that_fail_are_named_and_what_was_finished_is_kept(
    tiny, tiny_data, in_this_process, monkeypatch
):
    def fit(experiment, *arguments, original=train.fit, **options):
        if experiment.model == "convnet":
            raise ValueError("no convnet today")
        return original(experiment, *arguments, **options)

    monkeypatch.setattr(train, "fit", fit)
    with pytest.raises(
        RuntimeError, match=r"2 of 2 runners failed \(exit code 1\); what they finished is kept"
    ):
        run_missing(tiny, device="cpu", jobs=2)
    assert pairs(tiny) == [("stn", 1000)]


def test_an_interrupt_ends_the_runners_and_ctrl_c_is_heard_again(tiny, tiny_data, monkeypatch):
    deaf, ended = [], []

    class Process:
        exitcode = None

        def __init__(self, target, args, daemon):
            pass

        def start(self):
            deaf.append(
                signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            )  # what a child would inherit

        def is_alive(self):
            return True

        def terminate(self):
            ended.append(self)

        def join(self, timeout=None):
            if timeout:  # while it watches the runners
                raise KeyboardInterrupt

    monkeypatch.setattr(
        runner.multiprocessing, "get_context", lambda kind: types.SimpleNamespace(Process=Process)
    )
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_missing(tiny, device="cpu", jobs=2)
    assert deaf == [True, True] and len(ended) == 2
    assert signal.getsignal(signal.SIGINT) is before
