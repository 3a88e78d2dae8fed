"""Run: saved whole or not at all, loaded without running any code."""

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_run
import torch
from tiny_run import full_disk

from stn_utils.experiment import Experiment
from stn_utils.run import Run, provenance
from stn_utils.spec import ImageSpec

SPEC = ImageSpec(1, (28, 28), (28, 28), 10, background=[0.0], mean=[0.1], std=[0.3])


def made_up(epochs=2, test=None):
    return Run(
        Experiment(dataset="glyphs", epochs=epochs),
        title="glyphs, clean28",
        spec=SPEC,
        provenance={"torch": "2", "threads": 1, "commit": None},
        history={"epoch": list(range(1, epochs + 1)), "val_top1": [0.5] * epochs},
        probe={
            "parameters": torch.rand(epochs + 1, 4, 6),
            "images": torch.zeros(4, 1, 28, 28, dtype=torch.uint8),
            "labels": torch.arange(4),
            "warped": torch.zeros(epochs + 1, 4, 1, 28, 28, dtype=torch.uint8),
        },
        weights={"w": torch.full((3, 3), float(epochs)), "n": torch.tensor(7)},
        optimizer={
            "state": {0: {"step": torch.tensor(3.0)}},
            "param_groups": [{"lr": 0.1, "params": [0]}],
        },
        test=test,
        names=list("0123456789"),
    )


def equal(ours, theirs):
    if torch.is_tensor(ours):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[k], theirs[k]) for k in ours)
    return type(ours) is type(theirs) and ours == theirs


@pytest.mark.parametrize(
    "test",
    [
        None,
        {
            "top1": 0.5,
            "loss": 1.0,
            **dict.fromkeys(("predictions", "labels", "confusion"), torch.arange(9)),
        },
    ],
)
def test_what_is_saved_comes_back_field_by_field(tmp_path, test):
    run = made_up(test=test)
    run.save(tmp_path / "runs" / "one")
    again = Run.load(tmp_path / "runs" / "one")
    assert equal(vars(run), vars(again))
    assert again.epochs == 2


def test_loading_runs_no_code_from_the_file(tmp_path):
    class Touch:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "touched"),)

    torch.save({"experiment": Touch()}, Run.file(tmp_path))
    with pytest.raises(RuntimeError, match="no Run can be read"):
        Run.load(tmp_path)
    assert not (tmp_path / "touched").exists()


DAMAGES = {
    "cut in half": lambda content: content[: len(content) // 2],
    "its end cut off": lambda content: content[:-1],
    "zeroed": lambda content: bytes(len(content)),
    "empty": lambda content: b"",
    "something else": lambda content: b"<html>",
}


@pytest.fixture
def saved_twice(tmp_path):
    for epochs in (1, 2):
        made_up(epochs).save(tmp_path)
    return tmp_path


def damage(path, how):
    path.write_bytes(DAMAGES[how](path.read_bytes()))


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_run_is_an_error_that_names_its_file(saved_twice, how):
    damage(Run.file(saved_twice), how)
    with pytest.raises(RuntimeError, match=r"run\.pt is damaged .*: no Run can be read here"):
        Run.load(saved_twice)


@pytest.mark.parametrize(
    "leftover", [(), ("run.pt.7.part", "run.pt.8.part")], ids=["empty", "only .part files"]
)
def test_a_folder_without_a_run_says_so(tmp_path, leftover):
    for name in leftover:
        (tmp_path / name).write_bytes(b"half a Run")
    with pytest.raises(FileNotFoundError, match="run.pt"):
        Run.load(tmp_path)


def test_a_disk_that_is_full_is_said_costs_no_saved_run_and_leaves_no_rest(saved_twice):
    with (
        full_disk(),
        pytest.raises(
            OSError, match=rf"^{re.escape(str(saved_twice))}: the Run could not be saved: "
        ),
    ):
        made_up(3).save(saved_twice)
    assert Run.load(saved_twice).epochs == 2
    assert sorted(path.name for path in saved_twice.iterdir()) == ["run.pt"]


def test_provenance_tells_the_commit_and_whether_the_module_was_changed_since(monkeypatch):
    said = {"rev-parse": "abc1234\n", "status": " M stn_utils/warp.py\n"}

    def git(command, **_):
        return subprocess.CompletedProcess(
            command, 0, next(text for word, text in said.items() if word in command)
        )

    monkeypatch.setattr(subprocess, "run", git)
    told = provenance(torch.device("cpu"), "glyphs, drawn here")
    assert (told["commit"], told["changed"], told["data"], told["device"]) == (
        "abc1234",
        True,
        "glyphs, drawn here",
        "cpu",
    )
    said["status"] = ""
    assert provenance(torch.device("cpu"), "")["changed"] is False


@pytest.mark.parametrize(
    "fault",
    [FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)],
    ids=["absent", "slow"],
)
def test_provenance_without_git_has_no_commit(monkeypatch, fault):
    def git(*_, **__):
        raise fault

    monkeypatch.setattr(subprocess, "run", git)
    assert provenance(torch.device("cpu"), "")["commit"] is None


# A parent, started once, forks a saver for each moment of a save; the saver kills itself there. Run.load must then find,
# without a warning, a whole Run: the one before, or the new one once it has its name.
KILLER = """
import os, signal, sys, warnings
import torch
from stn_utils.experiment import Experiment
from stn_utils.run import Run
from stn_utils.spec import ImageSpec

folder, spec = sys.argv[1], ImageSpec(1, (28, 28), (28, 28), 10, [0.0], [0.1], [0.3])
torch.set_num_threads(1)
warnings.simplefilter("error")

def numbered(number):
    images = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    probe = {"images": images, "labels": torch.zeros(1), "warped": images[None]}
    weights = {"w": torch.full((200_000,), float(number))}
    return Run(Experiment(), "t", spec, {"n": number}, probe=probe, weights=weights, names=list("0123456789"))

def killed_at(moment):
    calls = iter(range(moment + 1))
    def watched(call):
        def counted(*arguments):
            if next(calls) == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)
        return counted
    os.fsync, os.replace = watched(os.fsync), watched(os.replace)
    numbered(3).save(folder)
    os.kill(os.getpid(), signal.SIGKILL)

for moment, name in enumerate(("written", "on the disk", "done")):
    for number in (1, 2):
        numbered(number).save(folder)
    saver = os.fork()
    if not saver:
        killed_at(moment)
    assert os.waitstatus_to_exitcode(os.waitpid(saver, 0)[1]) == -signal.SIGKILL
    run = Run.load(folder)
    number = run.provenance["n"]
    assert (run.weights["w"] == number).all(), "a mixture of two Runs"
    print(name, number, any(file.endswith(f".{saver}.part") for file in os.listdir(folder)))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
def test_killed_at_any_moment_of_a_save_a_whole_run_is_found(tmp_path):
    root = Path(__file__).parents[1]
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(root)]))
    done = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "written 2 True",
        "on the disk 2 True",
        "done 3 False",
    ]


BROKEN = {
    "weights an int": dict(weights=3),
    "no spec": dict(spec={}),
    "another Experiment": dict(experiment={"modle": "stnet"}),
    "test a number": dict(test=3),
    "test without an answer": dict(test={"top1": 0.5}),
    "probe empty": dict(probe={}),
    "history of texts": dict(history={"epoch": ["one", "two"], "val_top1": [0.5, 0.5]}),
    "history of unlike lengths": dict(history={"epoch": [1, 2], "val_top1": [0.5]}),
    "pictures of another size": dict(spec=(1, (30, 30), (28, 28), 10, [0.0], [0.1], [0.3])),
    "an epoch too many": dict(history={"epoch": [1, 2, 3], "val_top1": [0.5] * 3}),
    "names of fewer classes": dict(names=["a"]),
    "nothing": None,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_run_with_wrong_insides_is_one_line_and_never_a_run(tmp_path, how):
    made_up().save(tmp_path)
    path = Run.file(tmp_path)
    content = torch.load(path, weights_only=True)
    torch.save({**content, **BROKEN[how]} if BROKEN[how] else 3, path)
    with pytest.raises(RuntimeError, match=r"run\.pt is damaged .*no Run can be read") as fault:
        Run.load(tmp_path)
    assert len(str(fault.value).splitlines()) == 1 and len(str(fault.value)) < 500


def test_a_single_flipped_byte_is_found(tmp_path):
    made_up().save(tmp_path)
    path = Run.file(tmp_path)
    content = bytearray(path.read_bytes())
    at = content.index(torch.full((3, 3), 2.0).numpy().tobytes())
    content[at + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(RuntimeError, match="wrong checksum"):
        Run.load(tmp_path)


def test_weights_that_are_not_finite_are_said():
    run = tiny_run.fitted()
    name = next(iter(run.weights))
    lost = dataclasses.replace(run, weights={**run.weights, name: run.weights[name] * float("nan")})
    with pytest.warns(UserWarning, match="its weights hold nan or infinity, it has diverged"):
        lost.model()
