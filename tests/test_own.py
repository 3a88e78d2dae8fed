"""Pictures of one's own: a folder or two tensors become a World that everything serves."""

import hashlib
import re

import numpy as np
import pytest
import torch
from PIL import Image

from stn_utils import data, fit, metrics, show
from stn_utils.cli import main
from stn_utils.data import from_folder, from_tensors
from stn_utils.experiment import Experiment
from stn_utils.run import Run

SHAPES = ("bars", "squares", "dots")
QUICK = dict(epochs=1, loc_lr_ratio=0.1)


def drawn(kind, seed, size=(32, 40), colour=True):
    """One of three shapes at a random place, (H, W, 3) or (H, W), dark on a light ground."""
    random = np.random.default_rng(seed)
    picture = np.full((*size, 3), (235, 225, 190), dtype=np.uint8)
    top, left = random.integers(0, size[0] - 12), random.integers(0, size[1] - 12)
    height, width = {"bars": (12, 4), "squares": (12, 12), "dots": (4, 4)}[kind]
    picture[top : top + height, left : left + width] = (200, 30, 30)
    return picture if colour else picture[..., 0]


@pytest.fixture
def folder(tmp_path):
    """60 pictures in three classes, as torchvision's ImageFolder wants them."""
    root = tmp_path / "shapes"
    for kind in SHAPES:
        (root / kind).mkdir(parents=True)
        for seed in range(20):
            Image.fromarray(drawn(kind, seed)).save(root / kind / f"{seed:02d}.png")
    return root


def labelled(count=30, classes=3, channels=1, size=(28, 28)):
    images = torch.randint(256, (count, channels, *size), dtype=torch.uint8)
    return images, torch.arange(count) % classes


def test_a_folder_of_folders_is_a_world(folder):
    world = from_folder(folder)
    assert world.names == sorted(SHAPES) and world.classes == 3
    assert [len(part) for part in (world.train, world.val, world.test)] == [42, 9, 9]
    for part, count in ((world.train, 14), (world.val, 3), (world.test, 3)):
        assert part.images.dtype == torch.uint8 and part.images.shape[1:] == (3, 32, 40)
        assert torch.bincount(part.labels).tolist() == [count] * 3
        assert part.poses is None
    assert world.spec.size == world.spec.output_size == (32, 40)
    assert [round(255 * value) for value in world.background] == [235, 225, 190]
    pixels = world.train.images.double() / 255
    assert world.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist(), abs=1e-5)
    assert world.std == pytest.approx(pixels.std(dim=(0, 2, 3)).tolist(), abs=1e-5)
    assert re.fullmatch(r"shapes [0-9a-f]{8}, own", world.title) and str(folder) in world.source


def test_every_picture_stands_in_one_part_with_its_own_label(folder):
    world = from_folder(folder)
    seen = {}
    for part in (world.train, world.val, world.test):
        for image, label in zip(part.images, part.labels.tolist()):
            key = hashlib.md5(image.numpy().tobytes()).hexdigest()
            assert key not in seen or seen[key] == label  # two of a kind may look alike
            seen[key] = label
    for name in SHAPES:
        for seed in range(20):
            image = torch.from_numpy(drawn(name, seed)).permute(2, 0, 1).contiguous()
            assert seen[hashlib.md5(image.numpy().tobytes()).hexdigest()] == world.names.index(name)


def test_the_same_folder_gives_the_same_world_and_another_another_title(folder):
    one, again = from_folder(folder), from_folder(folder)
    assert torch.equal(one.test.images, again.test.images) and one.title == again.title
    Image.fromarray(drawn("dots", 99)).save(folder / "dots" / "00.png")
    assert from_folder(folder).title != one.title


def test_pictures_of_unlike_sizes_are_named_or_scaled_with_their_shape_kept(folder):
    Image.fromarray(drawn("dots", 1, size=(64, 64))).save(folder / "dots" / "00.png")
    with pytest.raises(ValueError, match=r"pictures of 2 sizes, 32x40, 64x64\. Say canvas="):
        from_folder(folder)
    world = from_folder(folder, canvas=(24, 48))
    assert world.train.images.shape[1:] == (3, 24, 48)
    picture = data.pictures.on_canvas(Image.new("RGB", (60, 60), (9, 99, 199)), (24, 48), 3)
    assert picture.permute(1, 2, 0).unique(dim=0).unique(dim=1).tolist() == [[[9, 99, 199]]]
    half = np.zeros((10, 20), dtype=np.uint8)
    half[:, 10:] = 255
    grey = data.pictures.on_canvas(Image.fromarray(half), (20, 20), 1)  # 10 rows in the middle
    assert grey[0, 10, :8].max() == 0 and grey[0, 10, 12:].min() == 255


def test_grey_pictures_make_a_grey_world_in_whatever_format(tmp_path):
    for kind in ("bars", "dots"):
        (tmp_path / kind).mkdir()
        for seed, suffix in enumerate(("png", "jpg", "bmp", "tiff")):
            picture = Image.fromarray(drawn(kind, seed, colour=False))
            picture.convert("RGB" if suffix == "bmp" else "L").save(
                tmp_path / kind / f"{seed}.{suffix}"
            )
    assert from_folder(tmp_path).train.images.shape == (4, 1, 32, 40)


def test_what_is_no_picture_is_left_out_with_a_word(folder):
    (folder / "dots" / "notes.txt").write_text("mine")
    (folder / "dots" / ".DS_Store").write_text("x")
    with pytest.warns(UserWarning, match=r"1 files left out\. .*notes\.txt: not a picture"):
        assert len(from_folder(folder).train) == 42


def test_a_folder_without_anything_to_learn_from_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="at least two; found 0"):
        from_folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="at least two; found 1"):
        from_folder(tmp_path)
    for path in (folder / "dots").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"dots: no picture in it"):
        from_folder(folder)
    (folder / "dots" / "a.png").write_bytes(b"not a picture")
    with pytest.raises(ValueError, match=r"dots: no picture in it\. .*a\.png: not a picture"):
        from_folder(folder)
    for name in ("a", "b"):
        Image.fromarray(drawn("dots", 0)).save(folder / "dots" / f"{name}.png")
    with pytest.raises(ValueError, match="at least 3 pictures of every class; dots has 2"):
        from_folder(folder)


def test_two_tensors_are_a_world():
    images, labels = labelled()
    world = from_tensors(images, labels, names=["a", "b", "c"], output_size=(20, 20))
    assert world.spec.output_size == (20, 20) and world.names == ["a", "b", "c"]
    floats = from_tensors(images / 255, labels.to(torch.int32))
    assert torch.equal(floats.train.images, world.train.images)
    flat = from_tensors(images[:, 0], labels)
    assert torch.equal(flat.test.images, world.test.images) and flat.names == ["0", "1", "2"]


IMAGES, LABELS = labelled()


@pytest.mark.parametrize("images, labels, names, text", [
    (IMAGES.numpy(), LABELS, None, "images: expected a tensor, got a ndarray"),
    (IMAGES, LABELS.tolist(), None, "labels: expected a tensor, got a list"),
    (IMAGES, LABELS[:-1], None, r"got \(30, 1, 28, 28\) and \(29,\)"),
    (IMAGES[0, 0], LABELS, None, r"got \(28, 28\) and"),
    (IMAGES[:, :, :0], LABELS, None, r"got \(30, 1, 0, 28\)"),
    (IMAGES.float(), LABELS, None, "floats have to lie from 0 to 1, these lie from 0 to 255"),
    (IMAGES / 255 - 0.5, LABELS, None, "floats have to lie from 0 to 1"),
    (IMAGES.float() * float("nan"), LABELS, None, "floats have to lie from 0 to 1"),
    (IMAGES.int(), LABELS, None, "expected uint8 and whole numbers, got torch.int32"),
    (IMAGES, LABELS.float(), None, "expected uint8 and whole numbers"),
    (IMAGES, LABELS - 1, None, "whole numbers, got torch.uint8 and torch.int64 from -1 on"),
    (IMAGES, LABELS + 10**12, None, r"labels: class 1000000000002 of 30 pictures"),
    (IMAGES, LABELS * 0, None, "expected at least 2 classes and a name for each, got 1 and 1 names"),
    (IMAGES, LABELS, ["a"], "got 3 and 1 names"),
    (IMAGES, LABELS * 2, None, "at least 3 pictures of every class; 1 has 0, 3 has 0"),
])  # fmt: skip
def test_what_is_no_set_of_labelled_pictures_is_named(images, labels, names, text):
    with pytest.raises(ValueError, match=text):
        from_tensors(images, labels, names)


@pytest.mark.parametrize("model", ["stnet", "convnet", "sequential", "reinforced"])
def test_fit_trains_on_them_and_everything_shows_the_run(one_thread, folder, tmp_path, model):
    world = from_folder(folder)
    run = fit(Experiment(model=model, **QUICK), "cpu", tmp_path / "run", quiet=True, world=world)
    assert (run.experiment.dataset, run.experiment.world) == ("own", "own")
    assert run.names == sorted(SHAPES) and len(run.test["predictions"]) == 9
    assert str(folder) in run.provenance["data"] and world.title == run.title
    again = Run.load(tmp_path / "run")
    assert torch.equal(again.right(), run.test["predictions"] == world.test.labels)
    assert metrics.report(again.test["confusion"])["top1"] == pytest.approx(run.test["top1"])
    show.confusion(again)
    if not again.right().all():
        show.mistakes(again, world=world)
        with pytest.raises(ValueError, match="your own; give them: world="):
            show.mistakes(again)
    if run.looks is not None:
        show.encode_gif(show.frames(again))
        show.before_after(again)
    more = fit(
        Experiment(model=model, **{**QUICK, "epochs": 2}), "cpu", tmp_path / "run", world=world
    )
    assert more.epochs == 2


def test_a_run_goes_on_with_its_own_pictures_alone(one_thread, folder, tmp_path):
    fit(Experiment(**QUICK), "cpu", tmp_path / "run", quiet=True, world=from_folder(folder))
    Image.fromarray(drawn("dots", 99)).save(folder / "dots" / "00.png")
    with pytest.raises(ValueError, match=r"data: 'shapes \w+, own' there, 'shapes \w+, own' here"):
        fit(Experiment(**QUICK), "cpu", tmp_path / "run", quiet=True, world=from_folder(folder))


def test_pictures_of_ones_own_are_not_found_by_name():
    for call in (
        lambda: data.load("own"),
        lambda: fit(Experiment(dataset="own", world="own"), "cpu"),
    ):
        with pytest.raises(ValueError, match=r"own: pictures of your own are not found by name"):
            call()
    with pytest.raises(ValueError, match="'own' is both, or neither: got dataset='own' and world="):
        Experiment(dataset="own")


def test_worlds_without_chance_cannot_be_drawn_anew(folder):
    world = from_folder(folder)
    with pytest.raises(ValueError, match="own: nothing in it is random"):
        world.augmented(0)
    with pytest.raises(ValueError, match="augment=True: in world='own' nothing is drawn anew"):
        fit(Experiment(world="rts42", augment=True), "cpu", world=world)


def test_a_world_moves_to_a_device_whole(folder):
    world = from_folder(folder)
    assert world.to("cpu").train.images is world.train.images  # not a copy
    there = world.to("meta")
    for name in ("train", "val", "test"):
        part = getattr(there, name)
        assert part.images.device.type == part.labels.device.type == "meta"
    assert there.upright.device.type == there.order.device.type == "meta"


# ---- the command line ----


@pytest.fixture
def here(one_thread, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return folder


def stn(*arguments):
    return main(list(arguments))


FLAGS = ["--epochs", "1", "--device", "cpu", "--quiet"]


def test_stn_trains_compares_and_predicts_on_a_folder(here, tmp_path, capsys):
    assert stn("train", "--data", "shapes", "--canvas", "28x36", *FLAGS, "--seed", "1") == 0
    assert (
        stn(
            "train",
            "--data",
            "shapes",
            "--canvas",
            "28x36",
            *FLAGS,
            "--model",
            "convnet",
            "--seed",
            "1",
        )
        == 0
    )
    names = ["runs/shapes-stnet-seed1", "runs/shapes-convnet-seed1"]
    assert "test top-1" in capsys.readouterr().out
    config = (tmp_path / names[0] / "config.yml").read_text()
    assert "data: shapes" in config and "dataset: own" in config and "canvas: 28x36" in config
    assert stn("compare", *names) == 0
    assert "minus" in capsys.readouterr().out
    assert stn("predict", names[0], "shapes/dots/03.png", "--out", "drawn") == 0
    assert any(f" {name} (" in (out := capsys.readouterr().out) for name in SHAPES), out
    assert (tmp_path / "drawn" / "03.stn.png").exists()
    assert stn("train", "--config", f"{names[0]}/config.yml", "--name", "again", *FLAGS) == 0
    runs = [Run.load(tmp_path / name) for name in (names[0], "runs/again")]
    assert runs[0].history["train_loss"] == runs[1].history["train_loss"]
    assert (
        stn(
            "train",
            "--resume",
            "--name",
            "again",
            "--data",
            "shapes",
            "--canvas",
            "28x36",
            "--epochs",
            "2",
            "--quiet",
            "--device",
            "cpu",
        )
        == 0
    )


@pytest.mark.parametrize("arguments, text", [
    (["--data", "nowhere"], "nowhere: expected a folder of pictures per class"),
    (["--data", ""], "data: expected a value, got ''"),
    (["--canvas", "64"], "--canvas: it belongs to --data"),
    (["--data", "shapes", "--canvas", "big"], "--canvas: expected 64 or 48x64, got 'big'"),
    (["--data", "shapes", "--canvas", "8"], "at least"),
    (["--dataset", "own", "--world", "own"], "its pictures are your own: name their folder, --data FOLDER"),
    (["--data", "shapes", "--replica"], "replica: True in the Experiment, False in the World"),
    (["--data", "shapes", "--n-train", "50"], "n_train: 50 images asked for, 42 are there"),
])  # fmt: skip
def test_what_does_not_go_with_a_folder_is_one_line(here, tmp_path, capsys, arguments, text):
    assert stn("train", *arguments, *FLAGS) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert text in line
    assert not list(tmp_path.glob("runs/*/*"))


def test_runs_on_unlike_pictures_are_not_compared(here, tmp_path, capsys):
    assert stn("train", "--data", "shapes", *FLAGS, "--name", "a") == 0
    Image.fromarray(drawn("dots", 99)).save(here / "dots" / "00.png")
    assert stn("train", "--data", "shapes", *FLAGS, "--name", "b", "--model", "convnet") == 0
    assert stn("compare", "runs/a", "runs/b") == 0
    assert "not comparable. Their pictures are those of shapes" in capsys.readouterr().out
