"""Runner: one line per finished run, nothing run twice, nothing half counted, whoever is killed or works beside it."""

import functools
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from tiny_study import PLAN, made_up, strict, write_plan
from tiny_world import tiny_load

import stn_utils.data
from stn_utils import study as studies
from stn_utils import train
from stn_utils.data.glyphs import glyphs
from stn_utils.data.worlds import make_world
from stn_utils.study import append, pack, run_missing, runner, to_record, unpack

PAIRS = [("stn", 1000), ("cnn", 1000), ("stn", 1001), ("cnn", 1001)]


@pytest.fixture
def tiny_data(monkeypatch):
    monkeypatch.setattr(train, "load", tiny_load)
    monkeypatch.setattr(stn_utils.data, "load", tiny_load)


def pairs(study):
    return [(record["row"], record["seed"]) for record in study.records()]


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
        record = to_record(tiny, "stn", run, tiny_load().test.labels)
        result = record["result"]
        assert (result["collapsed"], result["collapse_epoch"]) == (epoch is not None, epoch)
        assert studies.collapse(strict(json.dumps(record))) == epoch


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
    experiment = tiny.rows["stn"].but(seed=1000)
    study = tiny.model_copy(update={"rows": {"stn": tiny.rows["stn"].but(epochs=3)}})
    train.fit(experiment.but(epochs=2), "cpu", study.unfinished / "stn-1000", quiet=True)
    run_missing(study, seeds=1, device="cpu")
    assert len(counted) == len(set(counted)) == 3
    (record,) = study.records()
    whole = to_record(study, "stn", train.fit(experiment.but(epochs=3), "cpu", quiet=True), tiny_load().test.labels)
    assert record["history"] == whole["history"] and record["result"]["correct"] == whole["result"]["correct"]


@pytest.mark.parametrize("left", ["of another plan", "too long", "damaged"])
def test_an_unfinished_run_that_is_of_no_use_is_begun_anew(tiny, tiny_data, counted, left):
    folder = tiny.unfinished / "stn-1000"
    changes = {"of another plan": {"lr": 0.5}, "too long": {"epochs": 2}, "damaged": {}}[left]
    train.fit(tiny.rows["stn"].but(seed=1000, **changes), "cpu", folder, quiet=True)
    if left == "damaged":
        for path in folder.iterdir():
            path.write_bytes(b"no Run")
    counted.clear()
    run_missing(tiny, ["stn"], seeds=1, device="cpu")
    assert len(counted) == 1
    assert [record["experiment"]["lr"] for record in tiny.records()] == [tiny.rows["stn"].lr]


def test_a_run_that_collapsed_is_recorded_as_such_and_the_study_goes_on(tmp_path, tiny_data, capsys):
    rows = {"thrown": {"optimizer": "sgd", "lr": 0.1, "loc_lr_ratio": 1000.0, "give_up": 1, "epochs": 3}, "stn": {}}
    study = studies.load("tiny", write_plan(tmp_path, rows=rows, seeds=1, contrasts=[]))
    run_missing(study, device="cpu")
    thrown, stn = study.records()
    assert (thrown["result"]["collapsed"], thrown["result"]["collapse_epoch"], thrown["history"]["epoch"]) == (True, 1, [1])
    assert (stn["result"]["collapsed"], stn["result"]["collapse_epoch"]) == (False, None)
    assert "collapsed in epoch 1" in capsys.readouterr().out


# ---- several runners ----


@pytest.fixture
def in_this_process(monkeypatch):
    """Let runners that are to be processes of their own run here, one after the other; the threads each was given."""
    threads = []

    class Process:
        exitcode = None

        def __init__(self, target, args):
            self.work = functools.partial(target, *args)

        def start(self):
            try:
                self.work()
                self.exitcode = 0
            except Exception:
                self.exitcode = 1

        def is_alive(self):
            return self.exitcode is None

        def join(self, timeout=None):
            pass

    monkeypatch.setattr(runner.multiprocessing, "get_context", lambda kind: types.SimpleNamespace(Process=Process))
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    return threads


@pytest.mark.parametrize("cores, jobs, threads", [(8, 2, [4] * 2), (2, 3, [1] * 3), (1, 2, [1] * 2), (16, 9, [4] * 4)])
def test_runners_share_the_cores_and_are_no_more_than_the_runs(
    tiny, tiny_data, in_this_process, monkeypatch, cores, jobs, threads
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)  # what this process may use, not what the machine has
    run_missing(tiny, device="cpu", jobs=jobs)
    assert in_this_process == threads
    assert pairs(tiny) == PAIRS


def test_a_single_run_or_a_single_runner_needs_no_other_process(tiny, tiny_data, in_this_process):
    run_missing(tiny, rows=["stn"], seeds=1, device="cpu", jobs=4)
    run_missing(tiny, device="cpu")
    assert not in_this_process and sorted(pairs(tiny)) == sorted(PAIRS)


def test_runners_that_fail_are_named_and_what_was_finished_is_kept(tiny, tiny_data, in_this_process, monkeypatch):
    def fit(experiment, *arguments, original=train.fit, **options):
        if experiment.model == "convnet":
            raise ValueError("no convnet today")
        return original(experiment, *arguments, **options)

    monkeypatch.setattr(train, "fit", fit)
    with pytest.raises(RuntimeError, match=r"2 of 2 runners failed \(exit code 1\); what they finished is kept"):
        run_missing(tiny, device="cpu", jobs=2)
    assert pairs(tiny) == [("stn", 1000)]


# ---- processes of their own ----

SETUP = """
import os, signal, sys, types
import torch
torch.set_num_threads(1)
import stn_utils.data
from stn_utils import study as studies, train
from stn_utils.data.glyphs import glyphs
from stn_utils.data.worlds import make_world
from stn_utils.study import append, records, run_missing, runner

world = make_world("glyphs", "clean28", glyphs(240, 60), "made up", False, "cpu")
train.load = stn_utils.data.load = lambda *_: world
tiny = studies.load("tiny", sys.argv[1])
log = os.open(sys.argv[1] + "/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def begin(work, *arguments):
    torch.optim.Adam([torch.zeros(1)])  # the first one imports much, which the children then need not
    child = os.fork()
    if not child:
        try:
            work(*arguments)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child

def end(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run_script(text, folder):
    """Run a Python script, whose argument is the folder, with the package at hand; returns what it printed."""
    script, root = folder / "script.py", Path(__file__).parents[1]
    script.write_text(text)
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(root)]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

# Each runner kills itself at one moment: after it has trained an epoch and before that is saved; in the middle of
# writing a line; or between the line and the tidying up. The sixth lives.
KILLED = (
    SETUP
    + """
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def die_after_epoch(number):
    calls = []
    def train_epoch(*arguments, original=train.train_epoch):
        loss = original(*arguments)
        os.write(log, b".")
        calls.append(1)
        if len(calls) == number:
            die()
        return loss
    train.train_epoch = train_epoch

class Half(str):
    def __add__(self, end):  # json.dumps(record) + end, under the lock
        with open(tiny.path, "ab") as file:
            file.write(self[: len(self) // 2].encode())
        die()

def die_in_the_middle_of_a_line():
    die_after_epoch(0)
    records.json = types.SimpleNamespace(dumps=lambda record: Half(runner_dumps(record)))

def die_before_tidying_up():
    die_after_epoch(0)
    runner.shutil = types.SimpleNamespace(rmtree=die)

runner_dumps = records.json.dumps
LIVES = [
    (die_after_epoch, 1), (die_after_epoch, 2), (die_in_the_middle_of_a_line,), (die_after_epoch, 2),
    (die_before_tidying_up,), (die_after_epoch, 0),
]

def live(prepare, *arguments):
    prepare(*arguments)
    run_missing(tiny, device="cpu")

print([end(begin(live, *life)) for life in LIVES])
"""
)


@needs_fork
def test_a_runner_killed_five_times_makes_every_record_once_and_as_if_never_killed(tmp_path, tiny_data, monkeypatch):
    study = studies.load("tiny", write_plan(tmp_path, common={**PLAN["common"], "epochs": 2}))
    printed = run_script(KILLED, tmp_path)
    assert printed.splitlines()[-1] == str([-9] * 5 + [0]), printed
    assert printed.count("cut short") == 1  # the half line was there, and was removed
    assert sorted(pairs(study)) == sorted(PAIRS)
    assert len(study.path.read_text().splitlines()) == 4
    # Each of 4 runs has 2 epochs; three were killed before they were saved, and only those were trained again.
    assert (tmp_path / "log").read_text() == "." * (8 + 3)
    world = make_world("glyphs", "clean28", glyphs(240, 60), "made up", False, "cpu")
    monkeypatch.setattr(train, "load", lambda *_: world)
    for record in study.records():
        run = train.fit(study.rows[record["row"]].but(seed=record["seed"]), "cpu", quiet=True)
        whole = to_record(study, record["row"], run, world.test.labels)
        assert whole["history"] == record["history"] and whole["result"]["correct"] == record["result"]["correct"]


# A runner that, in the middle of its first run, waits for a whole second runner; then four that write lines at once.
BESIDE = (
    SETUP
    + """
def fit(experiment, *arguments, original=train.fit, **options):
    os.write(log, f"{os.getpid()} {experiment.model} {experiment.seed}\\n".encode())
    if os.getpid() == parent and not seconds:
        seconds.append(end(begin(run_missing, tiny, None, None, "cpu")))
    return original(experiment, *arguments, **options)

train.fit, parent, seconds = fit, os.getpid(), []
run_missing(tiny, device="cpu")
assert seconds == [0]

def write(number):
    for i in range(50):
        append(tiny.path.with_name("lines.jsonl"), {"writer": number, "line": i, "filler": "x" * 20_000})

writers = [begin(write, number) for number in range(4)]
assert [end(writer) for writer in writers] == [0] * 4
"""
)


@needs_fork
def test_two_runners_on_one_study_run_no_pair_twice_and_lose_no_line(tmp_path):
    study = studies.load("tiny", write_plan(tmp_path, common={**PLAN["common"], "epochs": 0}))
    run_script(BESIDE, tmp_path)
    assert sorted(pairs(study)) == sorted(PAIRS)
    fits = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    first = fits[0][0]
    assert [(model, int(seed)) for pid, model, seed in fits if pid == first] == [("stnet", 1000)]
    assert [(model, int(seed)) for pid, model, seed in fits if pid != first] == [
        ("convnet", 1000), ("stnet", 1001), ("convnet", 1001),
    ]  # fmt: skip
    lines = list(map(json.loads, (tmp_path / "lines.jsonl").read_text().splitlines()))
    assert sorted((line["writer"], line["line"]) for line in lines) == [(w, i) for w in range(4) for i in range(50)]


# Every runner of its own process imports the script again, and so gets the small data too.
JOBS = (
    SETUP
    + """
if __name__ == "__main__":
    run_missing(tiny, device="cpu", jobs=2)
    print(len(tiny.records()))
"""
)


def test_two_jobs_are_two_processes_that_share_the_runs(tmp_path):
    study = studies.load("tiny", write_plan(tmp_path, common={**PLAN["common"], "epochs": 0}))
    printed = run_script(JOBS, tmp_path)
    assert printed.splitlines()[-1] == "4"
    assert sorted(pairs(study)) == sorted(PAIRS) and len(study.path.read_text().splitlines()) == 4
    assert len(re.findall("test top-1", printed)) == 4
    share = max(1, (os.cpu_count() or 1) // 2)
    assert {record["provenance"]["threads"] for record in study.records()} == {share}
