"""Runners in processes of their own: killed at any moment, or side by side, they run nothing twice and lose no line."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_study import PAIRS, PLAN, pairs, write_plan

import stn_utils.data
from stn_utils import study as studies
from stn_utils import train
from stn_utils.data.glyphs import glyphs
from stn_utils.data.worlds import make_world
from stn_utils.study import to_record

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


def run_script(text, folder, *launcher, errors=None):
    """Run a Python script, whose argument is the folder, with the package at hand; returns what it printed.

    launcher: options of Python that run the script. errors: what it must print as errors.
    """
    script, root = folder / "script.py", Path(__file__).parents[1]
    script.write_text(text)
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(root)]))
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, *launcher, script, folder]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and errors in (None, done.stderr), done.stderr
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
def test_a_runner_killed_five_times_makes_every_record_once_and_as_if_never_killed(
    tmp_path, tiny_data, monkeypatch
):
    study = studies.load("tiny", write_plan(tmp_path, common={**PLAN["common"], "epochs": 2}))
    printed = run_script(KILLED, tmp_path)
    assert printed.splitlines()[-1] == str([-9] * 5 + [0]), printed
    assert printed.count("cut short") == 1  # the half line was there, and was removed
    assert sorted(pairs(study)) == sorted(PAIRS)
    assert len(study.path.read_text().splitlines()) == 4
    # Each of 4 runs has 2 epochs; three were killed before they were saved, and only those were trained again.
    assert (tmp_path / "log").read_text() == "." * (8 + 3)
    world = make_world("glyphs", "clean28", glyphs(240, 60), "made up", False, "cpu")
    monkeypatch.setattr(stn_utils.data, "load", lambda *_: world)
    for record in study.records():
        run = train.fit(study.rows[record["row"]].replace(seed=record["seed"]), "cpu", quiet=True)
        whole = to_record(study, record["row"], run, world.test.labels)
        assert (
            whole["history"] == record["history"]
            and whole["result"]["correct"] == record["result"]["correct"]
        )


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
    assert sorted((line["writer"], line["line"]) for line in lines) == [
        (w, i) for w in range(4) for i in range(50)
    ]


# Every runner of its own process imports the script again, and so gets the small data too.
JOBS = (
    SETUP
    + """
if __name__ == "__main__":
    torch.set_num_threads(4)
    run_missing(tiny, device="cpu", jobs=2)
    print(len(tiny.records()))
"""
)


# As on two machines: every rank has its own process, and the two meet in one file here.
RANKS = (
    SETUP
    + """
from stn_utils.cli import main
studies.load = lambda name: tiny
sys.exit(main(["study", "tiny", "--device", "cpu"]))
"""
)


@needs_fork
def test_two_ranks_of_torchrun_share_the_runs_and_one_prints_the_table(tmp_path):
    study = studies.load("tiny", write_plan(tmp_path, common={**PLAN["common"], "epochs": 0}))
    printed = run_script(
        RANKS, tmp_path, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"
    )
    assert sorted(pairs(study)) == sorted(PAIRS) and len(study.path.read_text().splitlines()) == 4
    assert printed.count("test top-1 ") == 4 and printed.count("seeds  test top-1, %") == 1


# The runners are told apart from their parent by their name; each finds other data than the plan asks for.
ABSENT = (
    SETUP
    + """
import dataclasses
stn_utils.data.load = lambda *_: dataclasses.replace(world, dataset="mnist")
if __name__ == "__main__":
    try:
        run_missing(tiny, device="cpu", jobs=2)
    except RuntimeError as error:
        print(error)
"""
)


def test_a_runner_that_cannot_go_on_says_why_in_a_line(tmp_path):
    # One row, two seeds: whichever run a runner takes first, its error reads the same.
    plan = write_plan(
        tmp_path,
        common={**PLAN["common"], "epochs": 0},
        rows={"stn": {"model": "stnet"}},
        contrasts=[],
    )
    study = studies.load("tiny", plan)
    printed = run_script(
        ABSENT,
        tmp_path,
        errors="error: stn asks for glyphs, mnist stand in for it: no record is made.\n" * 2,
    )
    assert (
        printed.splitlines()[-1]
        == "2 of 2 runners failed (exit code 1); what they finished is kept."
    )
    assert not study.path.exists()


def test_two_jobs_are_two_processes_that_share_the_runs(tmp_path):
    study = studies.load("tiny", write_plan(tmp_path, common={**PLAN["common"], "epochs": 0}))
    printed = run_script(JOBS, tmp_path)
    assert printed.splitlines()[-1] == "4"
    assert sorted(pairs(study)) == sorted(PAIRS) and len(study.path.read_text().splitlines()) == 4
    assert len(re.findall("test top-1", printed)) == 4
    assert {record["provenance"]["threads"] for record in study.records()} == {
        2
    }  # of four, each took its share
