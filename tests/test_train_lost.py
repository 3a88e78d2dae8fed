"""fit where the transformer is lost: collapses said once, runs given up, losses that become nan."""

import pytest
import torch
from tiny_training import assert_same_bits, train_and_go

from stn_utils import train
from stn_utils.run import Run
from stn_utils.train import fit, follow

pytestmark = pytest.mark.usefixtures("one_thread")

THROWN = dict(
    optimizer="sgd", lr=0.1, loc_lr_ratio=100.0
)  # the first steps throw the grid off the image
DIVERGED = dict(optimizer="sgd", lr=1e30)


def looks_off_the_image_in(monkeypatch, *epochs):
    """Let training report that, in these epochs, the grid is off the image; else, that it is on it."""
    calls = []

    def reported(model, split):
        calls.append(1)
        logits, looks = follow(model, split)
        return logits, {**looks, "outside": float(len(calls) in epochs), "contrast": 1.0}

    monkeypatch.setattr(train, "follow", reported)
    monkeypatch.setattr(train.metrics, "top1", lambda *_: 0.1)


@pytest.mark.parametrize("quiet", [True, False])
def test_a_collapse_is_said_once_quiet_or_not_and_the_run_goes_on(small, capsys, quiet):
    run = fit(small.replace(**THROWN), "cpu", quiet=quiet)
    (line,) = [
        line for line in capsys.readouterr().out.splitlines() if not line.startswith("epoch")
    ]
    assert line.startswith("COLLAPSED in epoch 1: 100 % of the grid lies off the image")
    assert (run.collapse_epoch, run.epochs) == (1, 3) and run.test["top1"] < 0.2


def test_a_run_that_does_not_collapse_says_nothing_of_it(small, capsys):
    assert train_and_go(small).collapse_epoch is None
    assert capsys.readouterr().out == ""


def test_a_resumed_run_does_not_say_its_collapse_again(small, tmp_path, capsys):
    for epochs in (1, 3):
        train_and_go(small.replace(**THROWN, epochs=epochs), folder=tmp_path)
    assert capsys.readouterr().out.count("COLLAPSED") == 1


def test_a_run_that_comes_back_and_is_off_image_again_has_collapsed_the_last_time(
    small, monkeypatch, capsys
):
    looks_off_the_image_in(monkeypatch, 2, 4, 5)
    run = train_and_go(small.replace(epochs=5))
    assert run.collapse_epoch == 4
    assert capsys.readouterr().out.count("COLLAPSED") == 1


def test_patience_ends_a_run_after_so_many_epochs_in_a_row_off_the_image(small, monkeypatch):
    looks_off_the_image_in(monkeypatch, 1, 3, 4, 5, 6)
    run = train_and_go(small.replace(epochs=8, patience=3))
    assert run.epochs == 5 and run.finished and run.test is not None
    assert len(run.probe["warped"]) == 6


def test_a_run_that_gave_up_is_not_trained_further(small, tmp_path, monkeypatch):
    experiment = small.replace(**THROWN, epochs=6, patience=2)
    run = train_and_go(experiment, folder=tmp_path)
    assert run.epochs == 2
    monkeypatch.setattr(train, "train_epoch", lambda *_: pytest.fail("trained further"))
    monkeypatch.setattr(train, "evaluate", lambda *_: pytest.fail("read the test set again"))
    assert_same_bits(train_and_go(experiment, folder=tmp_path), run)
    assert_same_bits(Run.load(tmp_path), run)


@pytest.mark.parametrize(
    "change",
    [{}, dict(model="convnet", patience=1), dict(patience=1)],
    ids=["bears all", "cnn", "on it"],
)
def test_without_a_grid_off_the_image_or_a_limit_every_epoch_is_trained(small, change):
    thrown = {} if change else THROWN
    assert train_and_go(small.replace(**thrown, **change)).epochs == 3


@pytest.mark.parametrize(
    "options", [{}, {"grad_clip": 1.0}, {"patience": 1}], ids=["plain", "clipped", "given up"]
)
def test_a_loss_that_becomes_nan_ends_with_a_run_that_is_flagged(small, tmp_path, options):
    run = train_and_go(small.replace(**DIVERGED, **options), folder=tmp_path)
    assert not all(torch.tensor(run.history["train_loss"]).isfinite())
    assert run.collapse_epoch == 1 and run.test["top1"] < 0.2
    assert Run.load(tmp_path).collapse_epoch == 1


def test_a_net_without_looks_may_diverge_too(small):
    run = train_and_go(small.replace(**DIVERGED, model="convnet"))
    assert run.epochs == 3 and run.collapse_epoch is None  # it has no grid to lose
