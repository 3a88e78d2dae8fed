"""Train one network, and write what came out into a folder of its own.

The flags are the fields of an Experiment; --config reads them from a YAML file,
which may say name, device, quiet, tensorboard, save and show as well. A flag
wins over the file. The folder runs/NAME holds

  config.yml                   the Experiment, for --config
  metrics.csv, metrics.json    an entry an epoch, and the test result
  confusion.png, stn.png       mistakes; images before and after the warp
  progress.gif                 the warp, epoch by epoch
  last.pt, best.pt             weights; the best by validation
  run.pt                       all of it: stn train --resume goes on from there

  stn train --dataset fashion-mnist --model stnet --epochs 20 --seed 0
  stn train --config assets/configs/s0.yml --epochs 10
  stn train --resume --name mine --epochs 40
  stn train --data my_pictures --canvas 64 --loc-lr-ratio 0.1
  torchrun --nproc-per-node 2 -m stn_utils train --name mine --batch-size 32
"""

import csv
import io
import json
import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
import yaml
from filelock import FileLock, Timeout
from PIL import Image

from .. import data, metrics, ranks, show, study
from ..experiment import BELONGS, Experiment, check_each, choices, with_new_names
from ..models import count_parameters
from ..names import one_of
from ..run import Run
from ..spec import pick_device
from ..study.plan import at, read_yaml
from ..train import fit

# Short names for a network and where its CoordConv layers are; dgandiaga/stcoordconvnets has them.
NICKNAMES = {"coordconv": "convnet", "stcoordconv": "stnet"}
PICTURES = {"confusion": show.confusion, "stn": show.before_after}
SAVED = ("metrics", *PICTURES, "gif", "weights")
# What a file may say beside the Experiment.
OWN: dict[str, type] = {
    "name": str,
    "data": str,
    "canvas": str,
    "device": str,
    "quiet": bool,
    "tensorboard": bool,
    "save": list,
    "show": list,
}


def add_arguments(parser: ArgumentParser) -> None:
    """The Experiment's fields as flags, and what else a run on the command line needs."""
    parser.usage = "stn train [--config FILE] [--name NAME] [--resume] [--FIELD VALUE ...]"
    add = parser.add_argument_group("where").add_argument
    made_of = "dataset, world, model, CoordConv and seed"
    pictures = "pictures of your own: a folder that holds a folder of pictures per class"
    seen = f"open in a window, of {', '.join(PICTURES)}; default none"
    resumed = "go on from the run that is there; only --epochs may differ"
    board = "event files as well: tensorboard --logdir runs"
    add("--config", metavar="FILE", help="YAML file of fields; flags win over it")
    add("--name", help=f"name of the folder; default: made of {made_of}")
    add("--runs", metavar="DIR", default="runs", help="the folder that holds it; default runs")
    add("--resume", action="store_true", help=resumed)
    add("--data", metavar="FOLDER", help=pictures)
    add("--canvas", metavar="SIZE", help="64 or 48x64 (height x width): scale each of them onto it")
    add("--device", help="cuda, mps or cpu; default: the fastest present")
    add("--tensorboard", action="store_true", help=board)
    add("--quiet", action="store_true", help="no line an epoch")
    add("--save", metavar="WHAT", nargs="*", help=f"of {', '.join(SAVED)}; default all")
    add("--show", metavar="WHAT", nargs="*", help=seen)
    fields = parser.add_argument_group("the experiment")
    for name, field in Experiment.model_fields.items():
        names = ", ".join(choices(name))
        text = f"{field.description}" + (f": {names}" if names else "")
        if name == "model":
            text += f" ({', '.join(NICKNAMES)} are short for a model with CoordConv)"
        if name in BELONGS:
            text += f"; for {' and '.join(BELONGS[name])}"
        if field.default is not None:  # else the description says it
            text += f"; default {field.default}"
        yes_or_no: Any = {"nargs": "?", "const": "true", "metavar": "true|false"}
        flag = yes_or_no if field.annotation is bool else {"metavar": "NAME" if names else "X"}
        spelt = f"--{name.replace('_', '-')}"
        fields.add_argument(spelt, help=text.replace("%", "%%"), **flag)


def _spelt_out(fields):
    """Fields, a nickname for a model replaced by what it means."""
    if fields.get("model") in [*NICKNAMES]:
        return {"coordconv": "classifier", **fields, "model": NICKNAMES[fields["model"]]}
    return fields


def _read(path):
    """A config file: fields of an Experiment, and options of OWN. Raises ValueError, naming it."""
    given = with_new_names(read_yaml(Path(path)))
    if isinstance(given.get("canvas"), int):  # 64 is a number in YAML, 48x64 a text
        given["canvas"] = str(given["canvas"])
    with at(path):
        for name, value in given.items():
            one_of("field", name, [*Experiment.model_fields, *OWN])
            if name in OWN and not isinstance(value, OWN[name]):
                raise ValueError(f"{name}: expected a {OWN[name].__name__}, got {value!r}.")
        check_each(_spelt_out({name: given[name] for name in given if name not in OWN}))
    return given


def _fields(arguments):
    """The fields that file and flags give, the flags' last; nicknames spelt out.

    The file's OWN go into the arguments.
    """
    flags = {name: value for name, value in vars(arguments).items() if value not in (None, False)}
    flags, given = _spelt_out(flags), _read(arguments.config) if arguments.config else {}
    # Before a nickname of it is spelt out, for that says two fields.
    given = {name: value for name, value in given.items() if name not in flags}
    given = {**_spelt_out(given), **flags}
    vars(arguments).update(given)
    for name in arguments.save or ():
        one_of("thing to save", name, SAVED)
    for name in arguments.show or ():
        one_of("picture to show", name, PICTURES)
    return {name: given[name] for name in Experiment.model_fields if name in given}


def _own_world(arguments):
    """The World of --data, None without it."""
    folder, canvas = arguments.data, arguments.canvas
    if canvas is None:
        return data.from_folder(folder) if folder else None
    if folder is None:
        raise ValueError("--canvas: it belongs to --data.")
    sides = canvas.split("x")
    if len(sides) > 2 or not all(map(str.isdecimal, sides)):
        raise ValueError(f"--canvas: expected 64 or 48x64, got {canvas!r}.")
    return data.from_folder(folder, (int(sides[0]), int(sides[-1])))


def _folder(arguments, fields):
    """Where the run goes: one folder in --runs, wherever a name may want to lead."""
    name = arguments.name
    if name is None:
        one = Experiment(**fields)
        pictures = [Path(arguments.data).resolve().name] if arguments.data else []
        parts = *(pictures or (one.dataset, one.world)), one.model, one.coordconv, f"seed{one.seed}"
        name = "-".join(part for part in parts if part != "none")
    if Path(name).name != name or name in ("", ".", ".."):
        raise ValueError(f"--name: expected the plain name of a folder, got {name!r}.")
    return Path(arguments.runs) / name


def main(arguments: Namespace) -> int:
    """Train, or go on, and write the folder."""
    fields = _fields(arguments)
    folder = _folder(arguments, fields)
    there = Run.file(folder).exists()
    if arguments.resume and not there:
        raise ValueError(f"{folder} holds no run to resume.")
    if there and not arguments.resume:
        cure = "add --resume to go on from it, or choose another --name"
        raise ValueError(f"{folder} holds a run: {cure}.")
    experiment = Run.load(folder).experiment.replace(**fields) if there else Experiment(**fields)
    if experiment.world == data.OWN and not arguments.data:
        raise ValueError("its pictures are your own: name their folder, --data FOLDER.")
    world = _own_world(arguments)
    device = pick_device(arguments.device or ranks.own_gpu())
    one = experiment.dataset, experiment.world, experiment.replica, device
    (world or data.load(*one)).train.head(experiment.n_train)  # refused before a folder is made
    if ranks.meet(device):  # the first process speaks and writes for all
        fit(experiment, device, folder, world=world)
        return 0
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The lock stays: who removes it may let two in.
    try:
        with FileLock(folder.parent / f".{folder.name}.lock", blocking=False):
            run = _train(experiment, device, folder, arguments, world)
    except Timeout:
        raise ValueError(f"{folder}: another stn train is at it.") from None
    if run.test is None:
        flags = f"--name {shlex.quote(folder.name)}"
        if arguments.runs != "runs":
            flags += f" --runs {shlex.quote(arguments.runs)}"
        print(f"{folder}: interrupted; stn train --resume {flags} goes on.")
        return 130
    return 0


def _train(experiment, device, folder, arguments, world):
    """Fit, say the result, and write what was asked for; returns the Run."""
    board = folder / "tensorboard" if arguments.tensorboard else None
    run = fit(experiment, device, folder, arguments.quiet, board, world)
    if run.test:  # first: a picture may fail
        count = len(run.test["predictions"])
        print(f"{folder}: test top-1 {100 * run.test['top1']:.2f} % of {count:,} images")
    config = {**run.experiment.model_dump(), "data": arguments.data, "canvas": arguments.canvas}
    config = {name: value for name, value in config.items() if value is not None}
    (folder / "config.yml").write_text(yaml.safe_dump(config, sort_keys=False))
    if run.epochs:
        write(run, folder, SAVED if arguments.save is None else arguments.save)
        for draw in _pictures(run, arguments.show or ()).values():
            content = io.BytesIO()
            show.save(content, draw(run))
            Image.open(content).show()
    return run


def write(run: Run, folder: Path, save: Collection[str] = SAVED) -> None:
    """Write a Run's tables, pictures and weights, those that `save` names, into its folder."""
    if "metrics" in save:
        _write_metrics(run, folder)
    if "weights" in save:
        torch.save(run.weights, folder / "last.pt")
        if run.best:
            torch.save(run.best["weights"], folder / "best.pt")
    for name, draw in _pictures(run, save).items():
        show.save(folder / f"{name}.png", draw(run))
    if "gif" in save and run.looks is not None:
        frames = show.frames(run)
        # Of a long run every so many, the last one always.
        frames = frames[:: -(1 + len(frames) // 150)][::-1]
        (folder / "progress.gif").write_bytes(show.encode_gif(frames, limit=5_000_000))


def _pictures(run, wanted):
    """Those of PICTURES that are wanted and that the Run has.

    One without looks has no warp, one that was interrupted no test.
    """
    there = {"confusion": run.test is not None, "stn": run.looks is not None}
    return {name: draw for name, draw in PICTURES.items() if name in wanted and there[name]}


def _write_metrics(run, folder):
    lines = list(zip(*run.history.values()))
    with open(folder / "metrics.csv", "w", newline="") as file:
        csv.writer(file).writerows([[*run.history], *lines])
    content = {
        "title": run.title,
        "parameters": count_parameters(run.model()),
        "provenance": run.provenance,
        "epochs": [dict(zip(run.history, values)) for values in lines],
    }
    if run.best:
        content["best_epoch"] = run.best["epoch"]
    if run.test:
        content["test"] = {name: run.test[name] for name in ("loss", "calibration_error")}
        content["test"] |= metrics.report(run.test["confusion"])
    (folder / "metrics.json").write_text(json.dumps(study.plain(content), indent=1))
