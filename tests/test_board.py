"""The board: what TensorBoard reads back is what the Run holds, once, whatever was interrupted or diverged."""

import functools
import io
import types

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

import stn_utils.data
from stn_utils import train
from stn_utils.board import Board
from stn_utils.data.glyphs import glyphs
from stn_utils.data.worlds import make_world
from stn_utils.experiment import Experiment
from stn_utils.run import Run

THETA = ("a11", "a12", "t_x", "a21", "a22", "t_y")


@functools.cache
def tiny_world(dataset, world, replica, device):
    return make_world(dataset, world, glyphs(240, 60), "made up", replica, device)


@pytest.fixture
def tiny(monkeypatch):
    """A small Experiment; event files of one second are read in the order of a counter, which 10 before 9 would upset."""
    monkeypatch.setattr(
        stn_utils.data,
        "load",
        lambda *names: tiny_world(*map(str, names[:2]), names[2], str(names[3])),
    )
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    return Experiment(dataset="glyphs", epochs=2, n_train=64)


train_and_go = functools.partial(train.fit, device="cpu", quiet=True)


def read(folder):
    """What TensorBoard sees in a folder of event files."""
    everything = {"scalars": 0, "histograms": 0, "images": 0}
    return EventAccumulator(str(folder), size_guidance=everything).Reload()


def steps(board):
    """{tag: the steps at which it has a value}"""
    tags = board.Tags()
    found = {tag: [event.step for event in board.Scalars(tag)] for tag in tags["scalars"]}
    found |= {tag: [event.step for event in board.Histograms(tag)] for tag in tags["histograms"]}
    return found | {tag: [event.step for event in board.Images(tag)] for tag in tags["images"]}


def test_the_history_is_there_as_curves_an_entry_an_epoch(tiny, tmp_path):
    run = train_and_go(tiny, tensorboard=tmp_path)
    board = read(tmp_path)
    assert set(board.Tags()["scalars"]) == {
        f"history/{name}" for name in run.history if name != "epoch"
    }
    for name in run.history.keys() - {"epoch"}:
        events = board.Scalars(f"history/{name}")
        assert [event.step for event in events] == run.history["epoch"] == [1, 2]
        assert [event.value for event in events] == pytest.approx(run.history[name])


def test_every_number_of_theta_is_there_as_a_histogram_of_the_probe_images(tiny, tmp_path):
    run = train_and_go(tiny, tensorboard=tmp_path)
    board = read(tmp_path)
    assert set(board.Tags()["histograms"]) == {f"theta/{name}" for name in THETA}
    for epoch in (1, 2):
        for name, values in zip(THETA, run.looks[epoch].flatten(1).T.double()):
            found = board.Histograms(f"theta/{name}")[epoch - 1]
            values = values.numpy()
            assert (found.step, found.histogram_value.num) == (epoch, len(values))
            wanted = [values.min(), values.max(), values.sum()]
            assert [
                getattr(found.histogram_value, key) for key in ("min", "max", "sum")
            ] == pytest.approx(wanted, abs=1e-5)


def first_tile(event):
    """The first of the pictures in an image of the board; they stand in rows, edge to edge."""
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))[:28, :28, 0]


def test_the_probe_images_are_there_and_their_warp_of_every_epoch(tiny, tmp_path):
    run = train_and_go(tiny, tensorboard=tmp_path)
    board = read(tmp_path)
    (picture,) = board.Images("probe/input")
    assert (first_tile(picture) == run.probe["images"][0, 0].numpy()).all()
    for epoch, picture in zip((1, 2), board.Images("probe/warped"), strict=True):
        assert picture.step == epoch
        assert (first_tile(picture) == run.probe["warped"][epoch, 0, 0].numpy()).all()


def test_of_a_pair_of_pictures_one_stands_below_the_other(tiny, tmp_path):
    run = train_and_go(tiny.replace(world="addition42", n_train=32, epochs=1), tensorboard=tmp_path)
    (picture,) = read(tmp_path).Images("probe/input")
    pair = np.asarray(Image.open(io.BytesIO(picture.encoded_image_string)))[:84, :42, 0]
    assert (pair == run.probe["images"][0].flatten(0, 1).numpy()).all()


def test_a_net_without_looks_has_curves_and_pictures_but_no_histograms(tiny, tmp_path):
    train_and_go(tiny.replace(model="convnet"), tensorboard=tmp_path)
    tags = read(tmp_path).Tags()
    assert tags["histograms"] == [] and "history/val_top1" in tags["scalars"]
    assert set(tags["images"]) == {"probe/input", "probe/warped"}


def assert_epochs_stand_once(folder, epochs):
    found = steps(read(folder))
    inputs = found.pop("probe/input")  # one each time the run was begun or resumed
    assert len(set(inputs)) == len(inputs)
    assert found and all(at == epochs for at in found.values()), found


def test_a_resumed_run_goes_on_with_its_curves(tiny, tmp_path):
    for epochs in (1, 3):
        train_and_go(
            tiny.replace(epochs=epochs), folder=tmp_path / "run", tensorboard=tmp_path / "board"
        )
    assert_epochs_stand_once(tmp_path / "board", [1, 2, 3])


def test_epochs_that_are_trained_again_stand_on_the_board_once(tiny, tmp_path):
    train_and_go(tiny, folder=tmp_path / "run", tensorboard=tmp_path / "board")
    Run.file(tmp_path / "run").unlink()
    train_and_go(tiny, folder=tmp_path / "run", tensorboard=tmp_path / "board")
    assert_epochs_stand_once(tmp_path / "board", [1, 2])


def test_a_run_begun_anew_takes_the_place_of_the_old_one(tiny, tmp_path):
    train_and_go(tiny.replace(epochs=3), tensorboard=tmp_path)
    run = train_and_go(tiny.replace(seed=1), tensorboard=tmp_path)
    assert_epochs_stand_once(tmp_path, [1, 2])
    losses = [event.value for event in read(tmp_path).Scalars("history/train_loss")]
    assert losses == pytest.approx(run.history["train_loss"])


def test_a_finished_run_adds_no_epoch(tiny, tmp_path):
    for _ in range(2):
        train_and_go(tiny, folder=tmp_path / "run", tensorboard=tmp_path / "board")
    assert_epochs_stand_once(tmp_path / "board", [1, 2])


def test_the_board_changes_nothing_in_the_run(tiny, tmp_path):
    plain, boarded = train_and_go(tiny), train_and_go(tiny, tensorboard=tmp_path)
    assert all(torch.equal(plain.weights[name], boarded.weights[name]) for name in plain.weights)


def test_a_run_that_diverges_is_boarded_to_its_end(tiny, tmp_path):
    run = train_and_go(tiny.replace(optimizer="sgd", lr=1e30), tensorboard=tmp_path)
    assert not run.looks[-1].isfinite().any()
    board = read(tmp_path)
    assert np.isnan(board.Scalars("history/train_loss")[-1].value)
    assert board.Images("probe/warped")[-1].step == 2
    assert board.Tags()["histograms"] == []  # there is nothing to count


def test_a_histogram_counts_the_finite_thetas_alone(tiny, tmp_path):
    thetas = torch.eye(2, 3).repeat(2, 4, 1, 1)
    thetas[1, 0, 0, 0], thetas[1, 1, 0, 0] = float("nan"), float("inf")
    pictures = torch.zeros(2, 4, 1, 28, 28, dtype=torch.uint8)
    probe = dict(images=pictures[0], warped=pictures)
    run = types.SimpleNamespace(epochs=0, history={}, probe=probe, looks=thetas)
    board = Board(tmp_path, run)
    run.epochs = 1
    board.add_epoch(run)
    counted = {
        name: read(tmp_path).Histograms(f"theta/{name}")[0].histogram_value.num for name in THETA
    }
    assert counted == dict.fromkeys(THETA, 4) | {"a11": 2}
