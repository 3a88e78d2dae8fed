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
"""

import csv
import json
import shlex
from pathlib import Path

import torch
import yaml
from filelock import FileLock, Timeout

from .. import metrics, show
from ..experiment import BELONGS, Experiment, choices, one_of
from ..models import count_parameters
from ..run import Run
from ..study.plan import read_experiment, read_yaml
from ..train import fit, pick_device

# Short names for a network and where its CoordConv layers are, as dgandiaga/stcoordconvnets has them.
NICKNAMES = {"coordconv": "convnet", "stcoordconv": "stnet"}
PICTURES = {"confusion": show.confusion, "stn": show.before_after}
SAVED = ("metrics", *PICTURES, "gif", "weights")
OWN = {"name": str, "device": str, "quiet": bool, "tensorboard": bool, "save": list, "show": list}  # what a file may say of it


def add_arguments(parser):
    """The Experiment's fields as flags, and what else a run on the command line needs."""
    parser.usage = "stn train [--config FILE] [--name NAME] [--resume] [--FIELD VALUE ...]"
    own = parser.add_argument_group("where")
    own.add_argument("--config", metavar="FILE", help="YAML file of fields; flags win over it")
    own.add_argument("--name", help="name of the folder; default: made of dataset, world, model, CoordConv and seed")
    own.add_argument("--runs", default="runs", metavar="DIR", help="the folder that holds it; default runs")
    own.add_argument("--resume", action="store_true", help="go on from the run that is there; only --epochs may differ")
    own.add_argument("--device", help="cuda, mps or cpu; default: the fastest present")
    own.add_argument("--tensorboard", action="store_true", help="event files as well: tensorboard --logdir runs")
    own.add_argument("--quiet", action="store_true", help="no line an epoch")
    own.add_argument("--save", nargs="*", metavar="WHAT", help=f"of {', '.join(SAVED)}; default all")
    own.add_argument("--show", nargs="*", metavar="WHAT", help=f"open in a window, of {', '.join(PICTURES)}; default none")
    fields = parser.add_argument_group("the experiment")
    for name, field in Experiment.model_fields.items():
        names = ", ".join(choices(name))
        extra = f" ({', '.join(NICKNAMES)} are short for a model with CoordConv)" if name == "model" else ""
        of = f"; for {' and '.join(BELONGS[name])}" if name in BELONGS else ""
        default = "" if field.default is None else f"; default {field.default}"  # else the description says it
        text = f"{field.description}{f': {names}' if names else ''}{extra}{of}{default}"
        switch = {"nargs": "?", "const": "true", "metavar": "true|false"}
        flag = switch if field.annotation is bool else {"metavar": "NAME" if names else "X"}
        fields.add_argument(f"--{name.replace('_', '-')}", dest=name, help=text.replace("%", "%%"), **flag)


def _spelt_out(fields):
    """Fields, a nickname for a model replaced by what it means."""
    if fields.get("model") in [*NICKNAMES]:
        return {"coordconv": "classifier", **fields, "model": NICKNAMES[fields["model"]]}
    return fields


def _read(path):
    """A config file: fields of an Experiment, and options of OWN. Raises ValueError, naming file and line."""
    given, at = read_yaml(Path(path))
    for name, value in given.items():
        with at(name):
            one_of("field", name, [*Experiment.model_fields, *OWN])
            if name in OWN and not isinstance(value, OWN[name]):
                raise ValueError(f"{name}: expected a {OWN[name].__name__}, got {value!r}.")
    read_experiment(_spelt_out({name: value for name, value in given.items() if name not in OWN}), at, whole=False)
    return given


def _fields(arguments):
    """The fields that file and flags give, the flags' last; nicknames spelt out. The file's OWN go into the arguments."""
    given = _read(arguments.config) if arguments.config else {}
    for name in OWN.keys() & given.keys():
        value, flag = given.pop(name), getattr(arguments, name)
        setattr(arguments, name, value if flag in (None, False) else flag)
    for what, wanted, valid in (("thing to save", arguments.save, SAVED), ("picture to show", arguments.show, tuple(PICTURES))):
        for name in wanted or ():
            one_of(what, name, valid)
    flags = {name: getattr(arguments, name) for name in Experiment.model_fields if getattr(arguments, name) is not None}
    given = {name: value for name, value in given.items() if name not in flags}  # before a nickname of it is spelt out
    return {**_spelt_out(given), **_spelt_out(flags)}


def run(arguments):
    """Train, or go on, and write the folder."""
    fields, name = _fields(arguments), arguments.name  # in this order: the file may say the name
    if not name:
        one = Experiment(**fields)
        name = "-".join(p for p in (one.dataset, one.world, one.model, one.coordconv, f"seed{one.seed}") if p != "none")
    folder = Path(arguments.runs) / name
    if Run.lies_in(folder) != arguments.resume:
        raise ValueError(f"{folder} holds no run to resume." if arguments.resume else
                         f"{folder} holds a run: add --resume to go on from it, or choose another --name.")  # fmt: skip
    experiment = Run.load(folder).experiment.but(**fields) if arguments.resume else Experiment(**fields)
    pick_device(arguments.device)  # before a folder is made
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder.parent / f".{folder.name}.lock", blocking=False):  # the file stays: who removes it may let two in
            found = _train(experiment, folder, arguments)
    except Timeout:
        raise ValueError(f"{folder}: another stn train is at it.") from None
    if found.test is None:
        where = "" if arguments.runs == "runs" else f" --runs {shlex.quote(arguments.runs)}"
        print(f"{folder}: interrupted; stn train --resume --name {shlex.quote(name)}{where} goes on.")
        return 130
    return 0


def _train(experiment, folder, arguments):
    """Fit, say the result, and write what was asked for; returns the Run."""
    board = folder / "tensorboard" if arguments.tensorboard else None
    found = fit(experiment, arguments.device, folder, quiet=arguments.quiet, tensorboard=board)
    if found.test:  # first: a picture may fail
        print(f"{folder}: test top-1 {100 * found.test['top1']:.2f} % of {len(found.test['predictions']):,} images")
    (folder / "config.yml").write_text(yaml.safe_dump(experiment.model_dump(), sort_keys=False))
    if found.epochs:
        write(found, folder, SAVED if arguments.save is None else arguments.save)
        for draw in _pictures(found, arguments.show or ()).values():
            draw(found)
    return found


def write(found, folder, save=SAVED):
    """Write a Run's tables, pictures and weights, those that `save` names, into its folder."""
    if "metrics" in save:
        _write_metrics(found, folder)
    if "weights" in save:
        torch.save(found.weights, folder / "last.pt")
        if found.best:
            torch.save(found.best["weights"], folder / "best.pt")
    for name, draw in _pictures(found, save).items():
        show.save(folder / f"{name}.png", draw, found)
    if "gif" in save and found.probe["thetas"] is not None:
        frames = show.frames(found)
        frames = frames[:: -(1 + len(frames) // 150)][::-1]  # of a long run every so many, the last one always
        show.encode_gif(frames, folder / "progress.gif", limit=5_000_000)


def _pictures(found, wanted):
    """Those of PICTURES that are wanted and that the Run has: one without looks has no warp, one interrupted no test."""
    there = {"confusion": found.test is not None, "stn": found.probe["thetas"] is not None}
    return {name: draw for name, draw in PICTURES.items() if name in wanted and there[name]}


def _write_metrics(found, folder):
    lines = list(zip(*found.history.values()))
    with open(folder / "metrics.csv", "w", newline="") as file:
        csv.writer(file).writerows([[*found.history], *lines])
    content = {"title": found.title, "parameters": count_parameters(found.model()), "provenance": found.provenance}
    content["epochs"] = [dict(zip(found.history, values)) for values in lines]
    if found.best:
        content["best_epoch"] = found.best["epoch"]
    if found.test:
        counts = found.test["confusion"]
        content["test"] = {name: found.test[name] for name in ("loss", "calibration_error")}
        content["test"] |= metrics.report(*metrics.from_counts(counts), len(counts))
    content = json.loads(json.dumps(content), parse_constant=lambda nan: None)  # of a net that diverged; JSON has no nan
    (folder / "metrics.json").write_text(json.dumps(content, indent=1))
