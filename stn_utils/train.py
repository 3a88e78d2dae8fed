"""fit(experiment) -> Run: the whole training set on the device, one short loop, no waiting inside an epoch."""

import copy
import sys
import time

import torch
import torch.nn.functional as F
from tqdm import tqdm

from . import data, diagnose, metrics
from .board import Board
from .models import build
from .run import Run, provenance

ORACLE_IMAGES = 2000  # of the test set: an oracle tries every move in every step
PROBES_PER_CLASS = 2  # images whose warp is recorded after every epoch
FRESH_SEED = 10**12  # far from the seeds that drew the fixed pictures


def pick_device(name=None):
    """The named device, else the fastest present. Raises ValueError if the named one is absent."""
    mps = torch.backends.mps.is_available() and torch.__version__ >= (2, 13)  # before, the sampler had no gradient there
    present = {"cuda": torch.cuda.is_available() and torch.cuda.device_count(), "mps": int(mps), "cpu": 1}
    here = [kind for kind, count in present.items() if count]
    kind, _, number = str(name or here[0]).partition(":")
    if not (number or "0").isdecimal() or int(number or 0) >= present.get(kind, 0):
        raise ValueError(f"device {name!r} is not on this machine. Here: {', '.join(here)}.")
    return torch.device(name or here[0])


def make_optimizer(model, experiment):
    """The Experiment's optimizer, with a learning rate of its own for the transformer's localization net."""
    localization = list(model.transformer.parameters())
    rest = [p for p in model.parameters() if not any(p is q for q in localization)]
    groups = [{"params": rest}, {"params": localization, "lr": experiment.lr * experiment.loc_lr_ratio}]
    if experiment.optimizer == "sgd":
        return torch.optim.SGD(groups, experiment.lr, momentum=experiment.momentum)
    return torch.optim.Adam(groups, experiment.lr)


def begin(experiment, spec, device):
    """A fresh network on the device, in the layout that trains fastest there, and its optimizer."""
    model = build(experiment, spec).to(device)
    if device.type == "cpu":
        model = model.to(memory_format=torch.channels_last)  # 1.7 times faster
    return model, make_optimizer(model, experiment)


def train_epoch(model, optimizer, part, batch_size, clip=None):
    """One pass over the images in random order, gradients cut to the norm `clip` if given; returns the mean loss."""
    model.train()
    order = torch.randperm(len(part)).to(part.images.device)
    total = torch.zeros((), device=part.images.device)  # read once, at the end: a look inside would wait
    for index in order.split(batch_size):
        x, y = part.batch(index)
        loss = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        total += loss.detach() * len(index)
    return total.item() / len(part)


@torch.no_grad()
def predict(model, part):
    """Logits (N, classes) for all images of a part."""
    model.eval()
    indices = torch.arange(len(part), device=part.images.device)
    return torch.cat([model(part.batch(index)[0]) for index in indices.split(250)])  # as many as a CPU's cache holds


@torch.no_grad()
def describe_looks(model, part):
    """Means of `diagnose.describe` over at most 1,000 images, and the net's own notes; {} for a net without looks."""
    model.eval()
    x, _ = part.batch(slice(0, 1000))
    looks = model.looks(x)
    if not looks:
        return {}
    numbers = {**diagnose.describe(looks[-1], x, model.picture(x)), **model.notes(x)}
    return {name: values.mean().item() for name, values in numbers.items()}


def _choose_probes(world):
    """The first images of each class, in class order."""
    part = world.val or world.test
    index = torch.cat([(part.labels == c).nonzero()[:PROBES_PER_CLASS, 0] for c in range(world.classes)])
    return {name: getattr(part, name)[index].cpu() for name in ("images", "labels", "poses")} | {"thetas": None, "warped": None}


@torch.no_grad()
def _watch(model, probe, device):
    """Append the warp of the probe images, as the net does it now."""
    model.eval()
    x = probe["images"].to(device).float() / 255
    looks, warped = model.looks(x), model.picture(x)
    new = {"warped": (warped.clamp(0, 1) * 255).round().to(torch.uint8), "thetas": looks[-1] if looks else None}
    for name, value in new.items():
        if value is not None:
            value = value.cpu()[None]
            probe[name] = value if probe[name] is None else torch.cat([probe[name], value])


def _go_on(experiment, folder, world):
    """The Run in the folder, if it is this Experiment's; more epochs than it had are welcome."""
    run = Run.load(folder)
    old, new = {**run.experiment.model_dump(), "data": run.title}, {**experiment.model_dump(), "data": world.title}
    differ = [f"{k}: {old[k]!r} there, {new[k]!r} here" for k in new if old[k] != new[k] and k != "epochs"]
    if differ or run.epochs > experiment.epochs:
        differ = differ or [f"epochs: {run.epochs} there, {experiment.epochs} here"]
        raise ValueError(f"{folder} holds another Experiment's Run ({'; '.join(differ)}). Choose another folder.")
    run.experiment = experiment
    if not run.finished:
        run.test = None
    return run


def _state(model, optimizer):
    """The network and the optimizer as they are now: the live ones go on changing in the next epoch."""
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    return {"weights": weights, "optimizer": copy.deepcopy(optimizer.state_dict())}


def _epoch_line(run):
    last = {name: values[-1] for name, values in run.history.items()}
    part = "val" if "val_top1" in last else "test"
    looks = f"  det {last['det']:.2f}  outside {last['outside']:.2f}" if "det" in last else ""
    return (
        f"epoch {last['epoch']:>2}/{run.experiment.epochs}  train loss {last['train_loss']:.3f}  "
        f"{part} top-1 {100 * last[part + '_top1']:.2f} %{looks}  {last['seconds']:.1f} s"
    )


def fit(experiment, device=None, folder=None, quiet=False, tensorboard=None):
    """Train what the Experiment says; returns a Run.

    device: cuda, mps or cpu, the fastest present by default. folder: save the Run there after every epoch, and
    go on from a Run of the same Experiment that is there already. tensorboard: a folder for its event files. quiet:
    no line an epoch, and in a terminal no progress bar. A collapse is said once, and stands in `Run.collapse_epoch`.
    Interrupting returns the Run so far. On one CPU, build and thread count the same Experiment gives the same bits,
    resumed or not: every epoch draws its random numbers from (seed, epoch).
    Raises ValueError if the folder holds another Experiment's Run, for an absent device, and for too large an n_train.
    """
    device = pick_device(device)
    world = data.load(experiment.dataset, experiment.world, experiment.replica, device)
    part = world.train.first(experiment.n_train)
    resuming = folder and Run.lies_in(folder)
    here = provenance(device, f"{world.dataset}, {world.source}")
    new = Run(experiment, world.title, world.spec, here, probe=_choose_probes(world))
    run = _go_on(experiment, folder, world) if resuming else new
    if not run.finished and {**run.provenance, **here} != run.provenance:
        run.provenance = {**here, "began": run.provenance}
    board = Board(tensorboard, run) if tensorboard else None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(experiment.seed)
        model, optimizer = begin(experiment, run.spec, device)
        if resuming:
            model.load_state_dict(run.weights)
            optimizer.load_state_dict(copy.deepcopy(run.optimizer))  # it would train on in the Run's own tensors
        else:
            _watch(model, run.probe, device)
            vars(run).update(_state(model, optimizer))
            if folder:
                run.save(folder)
        hidden = quiet or not sys.stdout.isatty()
        bar = tqdm(total=experiment.epochs, initial=run.epochs, unit="epoch", file=sys.stdout, leave=False, disable=hidden)
        try:
            warned = run.collapse_epoch is not None
            while not run.finished:
                epoch = run.epochs + 1
                seed = experiment.seed * 100_003 + epoch
                if experiment.fresh:
                    part = world.drawn_anew(FRESH_SEED + seed, experiment.n_train)
                torch.manual_seed(seed)
                began = time.perf_counter()
                loss = train_epoch(model, optimizer, part, experiment.batch_size, experiment.clip)
                entry = {"epoch": epoch, "train_loss": loss, "seconds": time.perf_counter() - began}
                _add_epoch(run, model, optimizer, world, entry)
                if folder:
                    run.save(folder)
                if board:
                    board.add_epoch(run)
                if not quiet:
                    bar.update()
                    tqdm.write(_epoch_line(run))
                if run.collapse_epoch and not warned:
                    outside, contrast = (100 * run.history[name][-1] for name in ("outside", "contrast"))
                    tqdm.write(f"COLLAPSED in epoch {run.collapse_epoch}: {outside:.0f} % of the grid lies off the image, "
                               f"the warped pictures keep {contrast:.0f} % of its variance. Few runs come back.")  # fmt: skip
                    warned = True
            if run.test is None:
                evaluate(run, device)
                if folder:
                    run.save(folder)
        except KeyboardInterrupt:
            print(f"Interrupted: the Run so far has {run.epochs} of {experiment.epochs} epochs, and no test result.")
        finally:
            bar.close()
            if board:
                board.writer.close()
    return run


def _add_epoch(run, model, optimizer, world, entry):
    """All of an epoch is computed first, and goes into the Run at once: an interrupt leaves no half of it."""
    name, part = ("val", world.val) if world.val else ("test", world.test)
    logits = predict(model, part)
    entry[f"{name}_loss"] = F.cross_entropy(logits, part.labels).item()
    entry[f"{name}_top1"] = metrics.top1(logits.argmax(dim=1), part.labels)
    entry.update(describe_looks(model, part))
    new = {"probe": dict(run.probe), **_state(model, optimizer)}
    _watch(model, new["probe"], part.images.device)
    new["history"] = {key: run.history.get(key, []) + [value] for key, value in entry.items()}
    scores = new["history"].get("val_top1", [])
    if scores and scores.index(max(scores)) == len(scores) - 1:
        new["best"] = {"epoch": entry["epoch"], "weights": new["weights"]}
    vars(run).update(new)


def evaluate(run, device=None):
    """Read the test set, once, with the Run's network: fills run.test."""
    device = pick_device(device)
    experiment, part = run.experiment, run.test_part(device)
    model = run.model().to(device)
    logits = predict(model, part)
    predictions = logits.argmax(dim=1)
    test = {
        "top1": metrics.top1(predictions, part.labels),
        "loss": F.cross_entropy(logits, part.labels).item(),
        "calibration_error": metrics.calibration_error(logits, part.labels),
        "predictions": predictions.to(torch.uint8).cpu(),
        "confusion": metrics.confusion(predictions, part.labels).cpu(),
    }
    if experiment.model == "reinforced" and experiment.policy == "learned":
        x, y = part.batch(slice(0, ORACLE_IMAGES))
        test["oracle_top1"] = metrics.top1(model.oracle(x, y).argmax(dim=1), y)
    run.test = test  # all of it, or none: an oracle takes long, and may be interrupted
