"""stn train, compare and predict: what is written, what is refused, and that a refusal leaves everything as it was."""

import csv
import dataclasses
import json
import shutil
import signal
import sys
from pathlib import Path

import matplotlib
import pytest
import torch
import yaml
from filelock import FileLock
from PIL import Image
from tiny_run import full_disk
from tiny_study import strict
from tiny_world import tiny_load

import stn_utils.run
from stn_utils import __main__ as program
from stn_utils import show, train
from stn_utils.cli import main
from stn_utils.cli.train import NICKNAMES, OWN, write
from stn_utils.experiment import Experiment
from stn_utils.run import Run

TINY = ["--dataset", "glyphs", "--n-train", "128", "--epochs", "2", "--device", "cpu", "--quiet"]


@pytest.fixture(autouse=True)
def here(one_thread, tmp_path, monkeypatch):
    """An empty working folder, a tiny world, one thread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stn_utils.data, "load", tiny_load)
    matplotlib.use("Agg")
    return tmp_path


def stn(*arguments):
    return main(list(arguments))


def refused(capsys, *arguments):
    """The one line that a refused command prints."""
    assert stn(*arguments) == 2
    output = capsys.readouterr()
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    return line


def files(folder):
    """{path below the folder: content}; locks, which are empty, aside."""
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        str(path.relative_to(folder)): found
        for path, found in content.items()
        if found or path.suffix != ".lock"
    }


def test_train_writes_config_tables_pictures_and_weights(here, capsys):
    assert stn("train", *TINY, "--name", "mine") == 0
    assert "runs/mine: test top-1" in capsys.readouterr().out
    folder = here / "runs" / "mine"
    assert set(files(folder)) == {
        "config.yml", "metrics.csv", "metrics.json", "confusion.png", "stn.png", "progress.gif", "last.pt", "best.pt", "run.pt",
    }  # fmt: skip
    run = Run.load(folder)
    assert Experiment(**yaml.safe_load((folder / "config.yml").read_text())) == run.experiment
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [float(row["val_top1"]) for row in rows] == run.history["val_top1"]
    told = strict((folder / "metrics.json").read_text())
    losses = [round(loss, 6) for loss in run.history["val_loss"]]
    assert [epoch["val_loss"] for epoch in told["epochs"]] == losses
    assert told["test"]["top1"] == round(run.test["top1"], 6) and told["parameters"] == 27_360
    best = max(range(2), key=lambda i: run.history["val_top1"][i]) + 1
    assert told["best_epoch"] == run.best["epoch"] == best
    last = torch.load(folder / "last.pt", weights_only=True)
    assert all(torch.equal(last[name], run.weights[name]) for name in run.weights)
    for name in ("confusion.png", "stn.png", "progress.gif"):
        assert min(Image.open(folder / name).size) > 100


def test_a_net_without_a_transformer_gets_no_picture_of_it(here):
    assert stn("train", *TINY, "--model", "convnet", "--name", "a") == 0
    written = files(here / "runs" / "a")
    assert "stn.png" not in written and "confusion.png" in written


@pytest.mark.parametrize("nickname", NICKNAMES)
def test_a_nickname_is_spelt_out_from_flag_and_from_file(nickname, here):
    (here / "c.yml").write_text(f"model: {nickname}\nepochs: 1\n")
    for i, extra in enumerate((["--model", nickname], ["--config", "c.yml"])):
        assert stn("train", *TINY, "--epochs", "1", *extra, "--name", str(i)) == 0
        found = Run.load(here / "runs" / str(i)).experiment
        assert (found.model, found.coordconv) == (NICKNAMES[nickname], "classifier")


def test_a_flag_beside_a_nickname_wins(here):
    assert (
        stn(
            "train",
            *TINY,
            "--epochs",
            "0",
            "--model",
            "stcoordconv",
            "--coordconv",
            "both",
            "--name",
            "a",
        )
        == 0
    )
    assert Run.load(here / "runs" / "a").experiment.coordconv == "both"


@pytest.mark.parametrize(
    "text, flags, wanted",
    [
        ("coordconv: none", ["--model", "stcoordconv"], ("stnet", "classifier")),
        ("model: stcoordconv", ["--coordconv", "both"], ("stnet", "both")),
        ("model: stcoordconv", ["--model", "convnet"], ("convnet", "none")),
        ("model: convnet\ncoordconv: classifier", ["--model", "stnet"], ("stnet", "classifier")),
    ],
)
def test_what_a_nickname_says_as_a_flag_wins_over_the_file(here, text, flags, wanted):
    (here / "c.yml").write_text(text)
    assert stn("train", *TINY, "--epochs", "0", "--config", "c.yml", *flags, "--name", "a") == 0
    found = Run.load(here / "runs" / "a").experiment
    assert (found.model, found.coordconv) == wanted


def test_a_run_of_many_epochs_gets_a_gif_of_some_and_of_the_last(here, monkeypatch):
    assert stn("train", *TINY, "--name", "a") == 0
    found, kept = Run.load(here / "runs" / "a"), []
    monkeypatch.setattr(show, "frames", lambda run: list(range(501)))
    monkeypatch.setattr(show, "encode_gif", lambda frames, limit: kept.extend(frames) or b"")
    write(found, here, ["gif"])
    assert kept[-1] == 500 and len(kept) <= 150 and kept == sorted(kept) and kept[0] < 4


def test_a_net_that_diverged_ends_with_pictures_and_a_result(here, capsys):
    assert stn("train", *TINY, "--optimizer", "sgd", "--lr", "1e30", "--name", "a") == 0
    assert "test top-1" in capsys.readouterr().out and "stn.png" in files(here / "runs" / "a")
    written = strict((here / "runs" / "a" / "metrics.json").read_text())
    assert written["epochs"][-1]["train_loss"] is None and written["provenance"]["device"] == "cpu"


def test_runs_go_into_another_folder_with_tensorboard_and_are_resumed_by_the_name_they_were_given(
    here,
):
    for more in (["--tensorboard"], ["--epochs", "3", "--resume", "--tensorboard"]):
        assert stn("train", *TINY, "--runs", "elsewhere", *more) == 0
    (folder,) = [path for path in Path("elsewhere").iterdir() if path.is_dir()]
    assert Run.load(folder).epochs == 3 and not Path("runs").exists()
    assert any(path.name.startswith("events.") for path in (folder / "tensorboard").iterdir())


def test_a_flag_wins_over_the_file(here):
    (here / "c.yml").write_text("dataset: glyphs\nlr: 0.5\nn_train: 64\nepochs: 1\nreplica: true\n")
    assert (
        stn(
            "train",
            "--config",
            "c.yml",
            "--lr",
            "0.25",
            "--name",
            "a",
            "--quiet",
            "--device",
            "cpu",
        )
        == 0
    )
    found = Run.load(here / "runs" / "a").experiment
    assert (found.lr, found.n_train, found.replica) == (0.25, 64, True)


def test_a_file_says_what_is_printed_saved_and_shown(here, capsys, monkeypatch):
    opened = []
    monkeypatch.setattr(Image.Image, "show", lambda picture: opened.append(picture.size))
    (here / "c.yml").write_text(
        "name: mine\nquiet: true\nsave: [metrics, stn]\nshow: [confusion]\n"
    )
    arguments = [argument for argument in TINY if argument != "--quiet"]
    assert stn("train", *arguments, "--config", "c.yml") == 0
    written = {"config.yml", "metrics.csv", "metrics.json", "stn.png", "run.pt"}
    assert set(files(here / "runs" / "mine")) == written
    assert "epoch" not in capsys.readouterr().out
    assert len(opened) == 1 and opened[0][0] == opened[0][1]  # the confusion matrix is a square
    assert (
        stn("train", *arguments, "--config", "c.yml", "--name", "b", "--save", "--show", "stn") == 0
    )
    assert set(files(here / "runs" / "b")) == {"config.yml", "run.pt"}
    assert len(opened) == 2


def test_resume_raises_the_epochs_and_equals_an_uninterrupted_run(here):
    assert stn("train", *TINY, "--name", "a") == 0
    assert (
        stn("train", "--resume", "--name", "a", "--epochs", "3", "--quiet", "--device", "cpu") == 0
    )
    assert stn("train", *TINY, "--name", "b", "--epochs", "3") == 0
    a, b = (Run.load(here / "runs" / name) for name in "ab")
    assert a.history["val_loss"] == b.history["val_loss"] and torch.equal(
        a.test["predictions"], b.test["predictions"]
    )


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--name", "a"], "add --resume"),
        (["--resume", "--name", "nobody"], "no run to resume"),
        (["--resume", "--name", "a", "--lr", "0.5"], "lr: 0.001 there, 0.5 here"),
        (["--resume", "--name", "a", "--epochs", "1"], "epochs: 2 there, 1 here"),
        (["--name", "c", "--model", "stnett"], "Did you mean 'stnet'"),
        (["--name", "c", "--epochs", "two"], "epochs: "),
        (["--name", "c", "--epoch", "2"], "Did you mean '--epochs'"),
        (["--name", "c", "--config", "none.yml"], "none.yml"),
        (["--name", "c", "--config", "list.yml"], "list.yml: expected fields and values"),
        (
            ["--name", "c", "--config", "typo.yml"],
            "typo.yml: unknown field 'epochen'. Did you mean 'epochs'",
        ),
        (
            ["--name", "c", "--config", "save.yml"],
            "save.yml: save: expected a list, got 'metrics'",
        ),
        (["--name", "c", "--config", "broken.yml"], "broken.yml, line 2: expected "),
        (["--name", "c", "--config", "twice.yml"], "twice.yml, line 2: 'lr' stands twice"),
        (
            ["--name", "c", "--config", "binary.yml"],
            "binary.yml: a value that cannot be read (unacceptable character #x00ff",
        ),
        (["--name", "c", "--config", "model.yml"], "model.yml: unknown model ['stnet']"),
        (
            ["--name", "c", "--config", "value.yml"],
            "value.yml: lr: expected a valid number, got [0.1, 0.2].",
        ),
        (
            ["--name", "c", "--config", "no.yml"],
            "no.yml: normalize: False is no value of it. Valid: before",
        ),
        (["--name", "c", "--seed", "1" + "0" * 15], "seed: "),
        (
            ["--name", "c", "--save", "metric"],
            "unknown thing to save 'metric'. Did you mean 'metrics'",
        ),
        (["--name", "c", "--show", "gif"], "unknown picture to show 'gif'. Valid: confusion, stn"),
        (["--name", "c", "--device", "tpu"], "device 'tpu' is not on this machine"),
        (
            ["--name", "c", "--model", "convnet", "--family", "rotation"],
            "family='rotation' belongs to stnet",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_and_nothing_is_written(
    arguments, said, here, capsys
):
    (here / "list.yml").write_text("- 1\n")
    (here / "typo.yml").write_text("lr: 0.1\nepochen: 3\n")
    (here / "save.yml").write_text("save: metrics\n")
    (here / "broken.yml").write_text("lr: [0.1\n")
    (here / "twice.yml").write_text("lr: 0.1\nlr: 0.2\n")
    (here / "binary.yml").write_bytes(b"lr: 0.1\n\xff: 3\n")
    (here / "model.yml").write_text("model: [stnet]\n")
    (here / "value.yml").write_text("model: stnet\nlr: [0.1, 0.2]\n")
    (here / "no.yml").write_text("normalize: no\n")
    assert stn("train", *TINY, "--name", "a") == 0
    capsys.readouterr()
    before = files(here)
    assert said in refused(
        capsys, "train", *(TINY if "--resume" not in arguments else ["--quiet"]), *arguments
    )
    assert files(here) == before


def test_a_folder_that_cannot_be_written_to_is_named_and_earlier_runs_stay(here, capsys):
    assert stn("train", *TINY, "--name", "a") == 0
    before = files(here)
    capsys.readouterr()
    with full_disk():
        line = refused(capsys, "train", *TINY, "--name", "b")
    assert line.startswith(f"error: {Path('runs', 'b')}: the Run could not be saved: ")
    assert files(here) == before


def test_a_run_that_is_told_to_end_keeps_its_epochs_and_says_how_to_go_on(
    here, capsys, monkeypatch
):
    real, calls = train.train_epoch, []

    def ended(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(train, "train_epoch", ended)
    monkeypatch.setattr(sys, "argv", ["stn", "train", *TINY, "--name", "a b"])
    before = signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # if main left it so, the run would go on to its end
    try:
        assert program.main() == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "stn train --resume --name 'a b' goes on" in capsys.readouterr().out
    assert len(json.loads((here / "runs" / "a b" / "metrics.json").read_text())["epochs"]) == 1


def test_a_folder_where_another_process_trains_is_left_alone(here, capsys):
    (here / "runs").mkdir()
    with FileLock("runs/.a.lock"):
        assert "runs/a: another stn train is at it." in refused(
            capsys, "train", *TINY, "--name", "a"
        )
        assert not (here / "runs" / "a").exists()
    assert stn("train", *TINY, "--name", "a") == 0


def test_a_run_goes_on_with_its_own_data_alone(here, capsys, monkeypatch):
    assert stn("train", *TINY, "--name", "a") == 0
    before, other = files(here), dataclasses.replace(tiny_load(), dataset="mnist")
    monkeypatch.setattr(stn_utils.data, "load", lambda *_: other)
    capsys.readouterr()
    line = refused(capsys, "train", "--resume", "--name", "a", "--epochs", "3", "--quiet")
    assert "data: 'glyphs, clean28' there, 'mnist, clean28' here" in line and files(here) == before
    found, message = (
        Run.load("runs/a"),
        "its test images were those of glyphs, clean28; here are those of mnist, clean28",
    )
    for asked in (lambda: train.evaluate(found), lambda: show.mistakes(found)):
        with pytest.raises(ValueError, match=message):
            asked()
    assert stn("train", *TINY, "--model", "convnet", "--name", "b") == 0  # on the other data
    assert stn("compare", "runs/a", "runs/b") == 0
    why = "Their pictures are those of glyphs, clean28 and of mnist, clean28."
    assert f"runs/a, runs/b: not comparable. {why}" in capsys.readouterr().out


def test_a_flag_wins_over_a_nickname_in_the_file(here):
    (here / "c.yml").write_text("model: stcoordconv\nname: a\n")
    assert stn("train", *TINY, "--config", "c.yml", "--model", "stnet") == 0
    assert Run.load("runs/a").experiment.coordconv == "none"


def test_a_file_may_be_made_whole_by_flags_and_a_run_of_any_model_goes_on(here):
    (here / "c.yml").write_text("steps: 3\nmomentum: 0.5\nname: a\n")
    assert (
        stn("train", *TINY, "--config", "c.yml", "--model", "sequential", "--optimizer", "sgd") == 0
    )
    assert (
        stn(
            "train",
            "--resume",
            "--name",
            "a",
            "--steps",
            "3",
            "--epochs",
            "3",
            "--quiet",
            "--device",
            "cpu",
        )
        == 0
    )
    assert Run.load("runs/a").epochs == 3


def test_a_run_whose_weights_do_not_fit_is_left_out(here, capsys):
    assert stn("train", *TINY, "--name", "a") == 0
    old = Run.load("runs/a")
    old.experiment = old.experiment.replace(seed=1)
    old.weights = {f"old.{name}": value for name, value in old.weights.items()}
    old.save("runs/old")
    capsys.readouterr()
    assert stn("compare", "runs/a", "runs/old") == 0
    assert (
        "left out runs/old: " in (err := capsys.readouterr().err)
        and "are of another version of the course" in err
    )


def test_compare_pairs_runs_over_seeds_and_images(here, capsys, monkeypatch):
    drawn, draw = {}, show.mean_curves
    monkeypatch.setattr(show, "mean_curves", lambda found: drawn.update(found) or draw(found))
    for model in ("stnet", "convnet"):
        for seed in ("0", "1"):
            assert (
                stn("train", *TINY, "--model", model, "--seed", seed, "--name", f"{model}{seed}")
                == 0
            )
    capsys.readouterr()
    (here / "runs" / "board").mkdir()  # of a notebook's TensorBoard
    assert stn("compare", *sorted(map(str, Path("runs").iterdir())), "--plot", "c.png") == 0
    text = capsys.readouterr().out
    tops = {
        name: 100 * Run.load(here / "runs" / name).test["top1"]
        for name in ("stnet0", "stnet1", "convnet0", "convnet1")
    }
    mean = (tops["convnet0"] - tops["stnet0"] + tops["convnet1"] - tops["stnet1"]) / 2
    assert f"runs/convnet0 minus runs/stnet0: {mean:+.2f} ± " in text and "2 paired seeds" in text
    assert all(f"{top:6.2f}" in text for top in tops.values())
    assert (here / "c.png").stat().st_size > 1000
    histories = [Run.load(here / "runs" / f"stnet{seed}").history for seed in (0, 1)]
    assert drawn["runs/stnet0 (seeds: 2)"] == histories and len(drawn) == 2
    assert stn("compare", "runs/stnet0", "runs/convnet0") == 0
    text = capsys.readouterr().out
    right = {name: Run.load(here / "runs" / name).right() for name in ("stnet0", "convnet0")}
    alone = [
        int((right[a] & ~right[b]).sum())
        for a, b in (("stnet0", "convnet0"), ("convnet0", "stnet0"))
    ]
    assert "1 paired seed\n" in text and "±" not in text
    assert (
        f"seed 0: only runs/stnet0 right {alone[0]}, only runs/convnet0 right {alone[1]}, p "
        in text
    )


def test_compare_says_what_makes_runs_incomparable_or_what_is_not_there(here, capsys):
    assert stn("train", *TINY, "--name", "a") == 0
    assert stn("train", *TINY, "--world", "translated42", "--name", "b") == 0
    assert stn("compare", "runs/a", "runs/b") == 0
    assert (
        "not comparable. Their pictures are those of glyphs, clean28 and of glyphs, translated42."
        in capsys.readouterr().out
    )
    assert stn("train", *TINY, "--model", "convnet", "--seed", "9", "--name", "c") == 0
    assert stn("compare", "runs/a", "runs/c") == 0
    assert "runs/a, runs/c: not comparable. They share no seed." in capsys.readouterr().out
    assert stn("compare", "runs/a", "runs/b", "runs/c") == 0
    assert "3 pairs are not comparable" in capsys.readouterr().out
    assert "nowhere" in refused(capsys, "compare", "nowhere") and "typo" in refused(
        capsys, "compare", "runs/a", "runs/typo"
    )
    for plot in ("curves", "curves.gif", "absent/curves.png"):
        assert (
            "png, svg, pdf" in (line := refused(capsys, "compare", "runs/a", "--plot", plot))
            or "no folder absent" in line
        )


def test_compare_leaves_out_what_is_unfinished_damaged_or_there_twice_and_says_so(here, capsys):
    assert stn("train", *TINY, "--name", "a") == 0
    shutil.copytree("runs/a", "runs/again")
    (here / "runs" / "broken").mkdir()
    (here / "runs" / "broken" / "run.pt").write_bytes(b"no run")
    untested = Run.load("runs/a")
    untested.test = None
    untested.save("runs/0half")
    capsys.readouterr()
    assert stn("compare", *sorted(map(str, Path("runs").iterdir()))) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["run", "runs/a"]
    assert (
        "left out runs/again: it repeats runs/a." in err
        and "left out runs/0half: it is not finished." in err
    )
    assert "left out runs/broken: " in err and "is damaged" in err and ".." not in err
    assert stn("compare", "runs/0half") == 2
    assert (
        capsys.readouterr().err.splitlines()[-1].startswith("error: no finished run in runs/0half.")
    )


def test_predict_reads_a_picture_and_draws_where_the_network_looked(here, capsys):
    assert stn("train", *TINY, "--name", "a") == 0
    capsys.readouterr()
    stroke("dark.png")
    assert stn("predict", "runs/a", "dark.png") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("dark.png: ") and first.endswith("; dark ink, 8x20 pixels")
    assert second.strip() == "dark.stn.png" and min(Image.open("dark.stn.png").size) > 100


def stroke(path, size=(50, 30)):
    """An upright stroke on white paper."""
    picture = Image.new("L", size, 255)
    picture.paste(0, (21, 5, 29, 25))
    picture.save(path)


def test_predict_says_so_where_nothing_is_on_a_picture_or_the_answer_is_a_guess(here, capsys):
    assert stn("train", *TINY, "--epochs", "0", "--name", "a") == 0  # untrained: it guesses
    capsys.readouterr()
    Image.new("L", (50, 30), 255).save("white.png")
    assert stn("predict", "runs/a", "white.png") == 1
    assert capsys.readouterr().out == "white.png: no answer, nothing stands out on it\n"
    stroke("dark.png")
    assert stn("predict", "runs/a", "white.png", "dark.png") == 0
    assert "dark.png: no clear answer, perhaps " in capsys.readouterr().out


def test_predict_refuses_one_picture_for_a_network_that_takes_two(here, capsys):
    assert stn("train", *TINY, "--world", "addition42", "--name", "a") == 0
    stroke("dark.png")
    assert "dark.png: expected two pictures" in refused(capsys, "predict", "runs/a", "dark.png")


def test_predict_draws_into_another_folder_what_any_network_was_given(here, capsys):
    stroke("black.png")
    for model in ("convnet", "stnet"):
        assert stn("train", *TINY, "--model", model, "--name", model) == 0
        capsys.readouterr()
        assert stn("predict", f"runs/{model}", "black.png", "--out", "drawn") == 0
        assert capsys.readouterr().out.startswith("black.png: ")
        assert Path("drawn").exists()
    assert [path.name for path in Path("drawn").iterdir()] == ["black.stn.png"] and not Path(
        "black.stn.png"
    ).exists()


def test_predict_refuses_pictures_whose_drawings_would_have_one_name(here, capsys):
    assert stn("train", *TINY, "--name", "a") == 0
    capsys.readouterr()
    Image.new("L", (30, 30), 0).save("digit.png")
    Image.new("L", (30, 30), 0).save("digit.gif")
    line = refused(capsys, "predict", "runs/a", "digit.png", "digit.gif", "--out", "drawn")
    assert str(Path("drawn", "digit.stn.png")) in line and not Path("drawn").exists()


def test_the_four_models_of_a_comparison_get_folders_of_their_own(here):
    for model in ("convnet", "stnet", "coordconv", "stcoordconv"):
        assert stn("train", *TINY, "--epochs", "0", "--model", model) == 0
    assert sorted(folder.name for folder in (here / "runs").glob("glyphs*")) == [
        "glyphs-clean28-convnet-classifier-seed0", "glyphs-clean28-convnet-seed0",
        "glyphs-clean28-stnet-classifier-seed0", "glyphs-clean28-stnet-seed0",
    ]  # fmt: skip


def test_predict_names_a_file_that_is_no_picture_and_draws_nothing(here, capsys, monkeypatch):
    assert stn("train", *TINY, "--name", "a") == 0
    capsys.readouterr()
    Image.new("L", (30, 30), 0).save("good.png")
    (here / "bad.png").write_text("no picture")
    assert "bad.png: not a picture" in refused(capsys, "predict", "runs/a", "good.png", "bad.png")
    assert not list(here.glob("*.stn.png"))
    assert "nobody.png" in refused(capsys, "predict", "runs/a", "nobody.png")
    for kind in ("png", "jpg", "gif", "tif", "webp"):
        Image.new("L", (300, 300), 7).save(f"cut.{kind}")
        Path(f"cut.{kind}").write_bytes(Path(f"cut.{kind}").read_bytes()[:-40])
        assert f"cut.{kind}: not a picture" in refused(capsys, "predict", "runs/a", f"cut.{kind}")
    with monkeypatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
        assert "good.png: not a picture that can be read here (Image size" in refused(
            capsys, "predict", "runs/a", "good.png"
        )
    assert "no Run in nowhere" in refused(capsys, "predict", "nowhere", "good.png")


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[1] / "assets" / "configs").glob("*.yml")),
    ids=lambda p: p.stem,
)
def test_every_example_file_trains(path, here):
    assert stn("train", "--config", str(path), *TINY, "--epochs", "1", "--name", path.stem) == 0
    asked = {
        name: value for name, value in yaml.safe_load(path.read_text()).items() if name not in OWN
    }
    found = Run.load(here / "runs" / path.stem).experiment.model_dump()
    for name in asked.keys() - {"epochs", "dataset"}:
        assert found[name] == asked[name], name


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "."])
def test_a_run_stays_in_its_folder_whatever_its_name(here, capsys, name):
    line = refused(capsys, "train", *TINY, "--name", name)
    assert line == f"error: --name: expected the plain name of a folder, got {name!r}."
    assert not files(here)


def test_too_large_an_n_train_leaves_nothing(here, capsys):
    line = refused(capsys, "train", *TINY[:2], "--n-train", "60001", "--name", "a")
    assert "n_train: 60,001 images asked for, 1,100 are there" in line
    assert not list(here.rglob("*"))


def test_one_run_with_wrong_insides_does_not_end_a_comparison(here, capsys):
    for name in ("a", "b"):
        assert stn("train", *TINY, "--name", name, "--seed", str(ord(name))) == 0
    content = torch.load("runs/b/run.pt", weights_only=True)
    torch.save({**content, "history": 3}, "runs/b/run.pt")
    capsys.readouterr()
    assert stn("compare", "runs/a", "runs/b") == 0
    output = capsys.readouterr()
    assert "runs/a" in output.out and "left out runs/b: " in output.err
    assert len(output.err.splitlines()) == 1


def test_what_is_no_run_of_weights_is_one_line_for_predict_and_export(here, capsys):
    assert stn("train", *TINY, "--name", "a") == 0
    content = torch.load("runs/a/run.pt", weights_only=True)
    torch.save({**content, "weights": {"w": torch.ones(3)}}, "runs/a/run.pt")
    stroke("digit.png")
    for command in (["predict", "runs/a", "digit.png"], ["export", "runs/a"]):
        assert "another version of the course" in refused(capsys, *command)
