"""fit(experiment) -> Run: the training set on the device, and no waiting inside an epoch."""

import copy
import functools
import sys
import time
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from . import data, diagnose, metrics
from .board import Board
from .data import OWN, Split, World
from .experiment import Experiment
from .models import Net, ReinforcedNet, build, transformers
from .run import Run, provenance
from .spec import Device, Folder, ImageSpec

BATCH = 250  # images a pass without gradients: as many as a CPU's cache holds
DESCRIBED = 1000  # images whose looks are described after an epoch
ORACLE_IMAGES = 2000  # of the test set: an oracle tries every move in every step
PROBES, PROBES_PER_CLASS = 20, 2  # images whose warp is recorded after every epoch, at most
FRESH_SEED = 10**12  # far from the seeds that drew the fixed pictures


def pick_device(name: Device = None) -> torch.device:
    """The named device, else the fastest present. Raises ValueError if the named one is absent."""
    mps = torch.backends.mps.is_available()
    mps = mps and torch.__version__ >= "2.13"  # before, the sampler had no gradient there
    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    present = {"cuda": cuda, "mps": int(mps), "cpu": 1}
    here = [kind for kind, count in present.items() if count]
    kind, _, number = str(name or here[0]).partition(":")
    if not (number or "0").isdecimal() or int(number or 0) >= present.get(kind, 0):
        raise ValueError(f"device {name!r} is not on this machine. Here: {', '.join(here)}.")
    return torch.device(name or here[0])


def make_optimizer(model: nn.Module, experiment: Experiment) -> Optimizer:
    """The Experiment's optimizer; nets that decide on a warp have a learning rate of their own."""
    localization = [p for transformer in transformers(model) for p in transformer.parameters()]
    rest = [p for p in model.parameters() if not any(p is q for q in localization)]
    slow: dict[str, Any] = {"params": localization}
    groups = [{"params": rest}, slow | {"lr": experiment.lr * experiment.loc_lr_ratio}]
    if experiment.optimizer == "sgd":
        return torch.optim.SGD(groups, experiment.lr, momentum=experiment.momentum)
    return torch.optim.Adam(groups, experiment.lr)


def begin(experiment: Experiment, spec: ImageSpec, device: torch.device) -> tuple[Net, Optimizer]:
    """A fresh network on the device, in the layout that trains fastest there, and its optimizer."""
    model = build(experiment, spec).to(device)
    if device.type == "cpu":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.7 times faster
    return model, make_optimizer(model, experiment)


def train_epoch(
    model: Net,
    optimizer: Optimizer,
    split: Split,
    batch_size: int,
    grad_clip: float | None = None,
) -> float:
    """One pass over the images in random order; returns the mean loss.

    grad_clip: gradients are cut to this norm.
    """
    model.train()
    order = torch.randperm(len(split)).to(split.images.device)
    total = torch.zeros((), device=order.device)  # read once, at the end: a look inside would wait
    for index in order.split(batch_size):
        x, y = split.batch(index)
        loss = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        if grad_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
        optimizer.step()
        total += loss.detach() * len(index)
    return total.item() / len(split)


def _batches(split):
    return torch.arange(len(split), device=split.images.device).split(BATCH)


@torch.no_grad()
def predict(model: nn.Module, split: Split) -> Tensor:
    """Logits (N, classes) for all images of a split."""
    model.eval()
    return torch.cat([model(split.batch(index)[0]) for index in _batches(split)])


@torch.no_grad()
def follow(model: Net, split: Split) -> tuple[Tensor, dict[str, float]]:
    """One pass over a split: logits (N, classes), and how the net looks at its first 1,000 images.

    These are means of `diagnose.describe` and of the net's own metrics; {} for a net without looks.
    """
    model.eval()
    logits: list[Tensor] = []
    described: list[dict[str, Tensor]] = []
    for index in _batches(split):
        x, _ = split.batch(index)
        trace = model.trace(x)
        logits.append(trace.logits)
        if trace.parameters and BATCH * len(described) < DESCRIBED:
            look = model.transformer.look(x, trace.parameters[-1])
            numbers = diagnose.describe(look, x, model.denormalize(trace.x_warped))
            described.append({**numbers, **trace.metrics})
    names = described[0] if described else {}
    means = {name: torch.cat([each[name] for each in described]).mean().item() for name in names}
    return torch.cat(logits), means


def _choose_probes(world):
    """The first images of each class, in class order."""
    split = world.test if world.val is None else world.val
    classes = range(min(world.classes, PROBES))
    found = [(split.labels == c).nonzero()[:PROBES_PER_CLASS, 0] for c in classes]
    index = torch.cat(found)[:PROBES]
    chosen = {name: getattr(split, name) for name in ("images", "labels", "poses")}
    chosen = {name: None if part is None else part[index].cpu() for name, part in chosen.items()}
    return {**chosen, "parameters": None, "warped": None}


@torch.no_grad()
def _watch(model, probe, device):
    """Append the warp of the probe images, as the net does it now."""
    model.eval()
    trace = model.trace(probe["images"].to(device).float() / 255)
    warped = model.denormalize(trace.x_warped).clamp(0, 1) * 255
    new = {"warped": warped.round().to(torch.uint8)}
    if trace.parameters:
        new["parameters"] = trace.parameters[-1]
    for name, value in new.items():
        value, before = value.cpu()[None], probe[name]
        probe[name] = value if before is None else torch.cat([before, value])


def _go_on(experiment, folder, world):
    """The Run in the folder, if it is this Experiment's; more epochs than it had are welcome."""
    run = Run.load(folder)
    old = {**run.experiment.model_dump(), "data": run.title}
    new = {**experiment.model_dump(), "data": world.title}
    differ = [f"{k}: {old[k]!r} there, {new[k]!r} here" for k in new if old[k] != new[k]]
    if run.epochs <= experiment.epochs:
        differ = [text for text in differ if not text.startswith("epochs: ")]
    if differ:
        what = f"{folder} holds another Experiment's Run ({'; '.join(differ)})"
        raise ValueError(f"{what}. Choose another folder.")
    run.experiment = experiment
    if not run.finished:
        run.test = None
    return run


def _state(model, optimizer):
    """Network and optimizer as they are now: the live ones go on changing in the next epoch."""
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


def _collapse_line(run):
    outside, contrast = (100 * run.history[name][-1] for name in ("outside", "contrast"))
    return (
        f"COLLAPSED in epoch {run.collapse_epoch}: {outside:.0f} % of the grid lies off the image, "
        f"the warped pictures keep {contrast:.0f} % of its variance. Few runs come back."
    )


class _Session:
    """What surrounds the epochs of a fit: files, bar, lines; an interrupt ends it quietly."""

    def __init__(self, run, folder, quiet, tensorboard):
        self.run, self.folder, self.quiet = run, folder, quiet
        self.warned = run.collapse_epoch is not None
        self.board = Board(tensorboard, run) if tensorboard else None
        hidden, total = quiet or not sys.stdout.isatty(), run.experiment.epochs
        bar = functools.partial(tqdm, unit="epoch", file=sys.stdout, leave=False)
        self.bar = bar(total=total, initial=run.epochs, disable=hidden)

    def save(self):
        if self.folder:
            self.run.save(self.folder)

    def epoch_ended(self):
        self.save()
        if self.board:
            self.board.add_epoch(self.run)
        if not self.quiet:
            self.bar.update()
            tqdm.write(_epoch_line(self.run))
        if self.run.collapse_epoch and not self.warned:
            tqdm.write(_collapse_line(self.run))
            self.warned = True

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.bar.close()
        if self.board:
            self.board.writer.close()
        if kind is not KeyboardInterrupt:
            return False
        done = f"{self.run.epochs} of {self.run.experiment.epochs} epochs"
        print(f"Interrupted: the Run so far has {done}, and no test result.")
        return True


def _refuse_misfit(world, experiment):
    """Raise a ValueError, saying what differs, if the World is not the Experiment's."""
    for name in ("train", "val", "test"):
        split = getattr(world, name)
        if split is not None and not len(split):
            raise ValueError(f"world.{name}: expected images, got none.")
    pairs = {
        "dataset": (experiment.dataset, OWN if world.name == OWN else world.dataset),
        "world": (experiment.world, world.name),
        "replica": (experiment.replica, world.val is None),
    }
    differ = [
        f"{name}: {ours!r} in the Experiment, {theirs!r} in the World"
        for name, (ours, theirs) in pairs.items()
        if ours != theirs
    ]
    if differ:
        raise ValueError(f"world does not fit the Experiment. {'; '.join(differ)}.")


def fit(
    experiment: Experiment,
    device: Device = None,
    folder: Folder | None = None,
    quiet: bool = False,
    tensorboard: Folder | None = None,
    world: World | None = None,
) -> Run:
    """Train what the Experiment says; returns a Run.

    device: cuda, mps or cpu, the fastest present by default. folder: save the Run there after every
    epoch, and go on from a Run of the same Experiment that is there already. tensorboard: a folder
    for its event files. quiet: no line an epoch, and in a terminal no progress bar. world: the
    pictures; default: those that the Experiment names. A collapse is said once, and
    stands in `Run.collapse_epoch`. Interrupting returns the Run so far. On one CPU, build and
    thread count the same Experiment gives the same bits, resumed or not: every epoch draws its
    random numbers from (seed, epoch). With a World of your own pictures (`data.from_folder`) the
    Run's Experiment says `own` for dataset and world. Raises ValueError if the folder holds another
    Experiment's Run, for an absent device, for too large an n_train, and for a World that is not
    the Experiment's.
    """
    device = pick_device(device)
    if world is None:
        world = data.load(experiment.dataset, experiment.world, experiment.replica, device)
    else:
        if world.name == OWN:
            experiment = experiment.replace(dataset=OWN, world=OWN)
        _refuse_misfit(world, experiment)
        world = world.to(device)
    world.train.head(experiment.n_train)  # refused before anything is made
    run = Run(experiment, world.title, world.spec, {}, names=world.names)
    run.probe = _choose_probes(world)
    if resuming := folder is not None and Run.lies_in(folder):
        run = _go_on(experiment, folder, world)
    _note_provenance(run, provenance(device, f"{world.dataset}, {world.source}"))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(experiment.seed)
        model, optimizer = begin(experiment, run.spec, device)
        if resuming:
            model.load_state_dict(run.weights)
            state = copy.deepcopy(run.optimizer)  # it would train on in the Run's own tensors
            optimizer.load_state_dict(state)
        else:
            _watch(model, run.probe, device)
            vars(run).update(_state(model, optimizer))
        with _Session(run, folder, quiet, tensorboard) as session:
            if not resuming:
                session.save()
            while not run.finished:
                _train_one_epoch(run, model, optimizer, world)
                session.epoch_ended()
            if run.test is None:
                evaluate(run, device, world)
                session.save()
    return run


def _note_provenance(run, here):
    if not run.provenance:
        run.provenance = here
    elif not run.finished and {**run.provenance, **here} != run.provenance:
        run.provenance = {**here, "began": run.provenance}


def _train_one_epoch(run, model, optimizer, world):
    """One more epoch.

    All of it is computed first, and goes into the Run at once: an interrupt leaves no half of it.
    """
    one, epoch = run.experiment, run.epochs + 1
    seed = one.seed * 100_003 + epoch
    split = world.train.head(one.n_train)
    if one.augment:
        split = world.augmented(FRESH_SEED + seed, one.n_train)
    torch.manual_seed(seed)
    began = time.perf_counter()
    loss = train_epoch(model, optimizer, split, one.batch_size, one.grad_clip)
    entry = {"epoch": epoch, "train_loss": loss, "seconds": time.perf_counter() - began}
    name, followed = ("test", world.test) if world.val is None else ("val", world.val)
    logits, looks = follow(model, followed)
    entry[f"{name}_loss"] = F.cross_entropy(logits, followed.labels).item()
    entry[f"{name}_top1"] = metrics.top1(logits.argmax(dim=1), followed.labels)
    entry.update(looks)
    new = {"probe": dict(run.probe), **_state(model, optimizer)}
    _watch(model, new["probe"], followed.images.device)
    new["history"] = {key: run.history.get(key, []) + [value] for key, value in entry.items()}
    scores = new["history"].get("val_top1", [])
    if scores and scores.index(max(scores)) == len(scores) - 1:
        new["best"] = {"epoch": epoch, "weights": new["weights"]}
    vars(run).update(new)


def evaluate(run: Run, device: Device = None, world: World | None = None) -> None:
    """Read the test set, once, with the Run's network: fills run.test.

    world: the one that it was trained on, if at hand.
    """
    device = pick_device(device)
    split = run.test_split(device) if world is None else world.to(device).test
    model = run.model().to(device)
    logits = predict(model, split)
    predictions, classes = logits.argmax(dim=1), run.spec.classes
    test = {
        "top1": metrics.top1(predictions, split.labels),
        "loss": F.cross_entropy(logits, split.labels).item(),
        "calibration_error": metrics.calibration_error(logits, split.labels),
        "predictions": predictions.to(torch.int16).cpu(),
        "labels": split.labels.to(torch.int16).cpu(),
        "confusion": metrics.confusion(predictions, split.labels, classes).cpu(),
    }
    if isinstance(model, ReinforcedNet) and model.transformer.kind == "learned":
        x, y = split.batch(slice(0, ORACLE_IMAGES))
        test["oracle_top1"] = metrics.top1(model.oracle(x, y).argmax(dim=1), y)
        test["oracle_images"] = len(y)
    run.test = test  # all of it, or none: an oracle takes long, and may be interrupted
