"""One network on two processes: the losses of one with twice the batch, one writer, resumable."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_training import train_and_go
from tiny_world import tiny_load

from stn_utils import ranks
from stn_utils.cli import main, train
from stn_utils.experiment import Experiment
from stn_utils.run import Run

TESTS = Path(__file__).parent
# The MLP has no dropout, which would draw other numbers in each process.
ONE = Experiment(
    dataset="glyphs", classifier="fcn", n_train=200, batch_size=32, epochs=3, grad_clip=0.5
)
PROGRAM = """
import os, sys
sys.path.insert(0, {tests!r})
import torch
from test_ranks import ONE
from tiny_world import tiny_load
from stn_utils import train

torch.set_num_threads(1)
torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
folder, dies_in = sys.argv[1], int(sys.argv[2])
note = train._note_epoch


def note_and_die(run, *rest):
    note(run, *rest)
    if rank == 1 and run.epochs == dies_in:
        os._exit(9)


train._note_epoch = note_and_die
run = train.fit(ONE, "cpu", folder, world=tiny_load())
print(f"rank {{rank}} has {{run.epochs}} epochs, test top-1 {{run.test['top1']:.4f}}")
torch.distributed.destroy_process_group()
"""


def start(tmp_path, dies_in=0):
    """Two processes train ONE; the Run lies in a folder."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.format(tests=str(TESTS)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(program), str(tmp_path / "run"), str(dies_in)]
    return subprocess.run(command, capture_output=True, text=True, cwd=TESTS.parent)


def assert_same_losses(together):
    alone = train_and_go(ONE.replace(batch_size=64), world=tiny_load())
    for name in ("train_loss", "val_loss", "det"):
        ours, theirs = (torch.tensor(run.history[name]) for run in (together, alone))
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    assert together.test["predictions"].equal(alone.test["predictions"])


def test_two_processes_have_the_losses_of_one_with_twice_the_batch(tmp_path, one_thread):
    done = start(tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same_losses(Run.load(tmp_path / "run"))
    assert done.stdout.count("epoch  1/3") == 1  # one of them speaks
    assert "rank 0 has 3 epochs" in done.stdout and "rank 1 has 3 epochs" in done.stdout


def test_a_dead_process_ends_all_and_the_run_goes_on_where_it_was(tmp_path, one_thread):
    done = start(tmp_path, dies_in=2)
    assert done.returncode != 0 and "rank 0 has" not in done.stdout
    assert 1 <= Run.load(tmp_path / "run").epochs <= 2
    assert start(tmp_path).returncode == 0
    assert_same_losses(Run.load(tmp_path / "run"))


def test_every_image_is_some_processs_but_those_that_cannot_be_shared_out(monkeypatch):
    order = torch.randperm(23)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(ranks, "ranks", lambda rank=rank: (rank, 3))
        shares.append(ranks.share(order, 4).tolist())
    assert [len(own) for own in shares] == [7, 7, 7]  # 4 of the first 12, 3 of the 9 that are left
    assert sorted(sum(shares, [])) == sorted(order[:21].tolist())
    assert set(shares[0][:4] + shares[1][:4] + shares[2][:4]) == set(order[:12].tolist())


def test_a_process_alone_takes_all():
    order = torch.randperm(23)
    assert (
        ranks.ranks() == (0, 1) and ranks.share(order, 4).equal(order) and ranks.total(2.5) == 2.5
    )


def test_under_torchrun_the_first_process_alone_writes(tmp_path, monkeypatch, tiny_data, capsys):
    monkeypatch.chdir(tmp_path)
    fitted = []
    monkeypatch.setattr(ranks, "meet", lambda device: 1)
    monkeypatch.setattr(train, "fit", lambda *arguments, **options: fitted.append(arguments))
    assert main(["train", "--dataset", "glyphs", "--name", "a", "--n-train", "50"]) == 0
    ((experiment, _, folder),) = fitted
    assert experiment.n_train == 50 and str(folder) == "runs/a"
    assert not list(tmp_path.iterdir()) and not capsys.readouterr().out


@pytest.mark.parametrize("count, backend", [("1", None), ("3", "gloo")])
def test_processes_meet_where_there_are_several(monkeypatch, count, backend):
    asked = []
    monkeypatch.setattr(ranks.dist, "init_process_group", asked.append)
    monkeypatch.setattr(ranks.atexit, "register", lambda end: None)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", count)
    assert ranks.meet(torch.device("cpu")) == 0
    assert asked == [backend] * bool(backend)
