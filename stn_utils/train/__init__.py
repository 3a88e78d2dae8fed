"""fit(experiment) -> Run: the training set on the device, and no waiting inside an epoch."""

import copy
import functools
import time
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from .. import data, metrics
from ..board import Board
from ..data import OWN, Split, World
from ..experiment import Experiment
from ..models import Net, build, transformers
from ..ranks import Together, ranks, share, total
from ..run import Run, provenance
from ..spec import Device, Folder, ImageSpec, pick_device
from ..stack import Stack
from .measure import choose_probes, evaluate, follow, watch
from .measure import predict as predict

FRESH_SEED = 10**12  # far from the seeds that drew the fixed pictures
WARM_UP = 3  # steps before one is captured as a CUDA graph


def make_optimizer(model: nn.Module, experiment: Experiment) -> Optimizer:
    """The Experiment's optimizer; nets that decide on a warp have a learning rate of their own."""
    localization = [p for transformer in transformers(model) for p in transformer.parameters()]
    rest = [p for p in model.parameters() if not any(p is q for q in localization)]
    slow: dict[str, Any] = {"params": localization}
    groups = [{"params": rest}, slow | {"lr": experiment.lr * experiment.loc_lr_ratio}]
    if experiment.optimizer == "sgd":
        return torch.optim.SGD(groups, experiment.lr, momentum=experiment.momentum)
    on_gpu = any(p.is_cuda for p in model.parameters())  # a graph cannot read a count on the CPU
    return torch.optim.Adam(groups, experiment.lr, capturable=on_gpu)


def begin(experiment: Experiment, spec: ImageSpec, device: torch.device) -> tuple[Net, Optimizer]:
    """A fresh network on the device, in the layout that trains fastest there, and its optimizer."""
    model = build(experiment, spec).to(device)
    if device.type == "cpu":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # 1.7 times faster
    return model, make_optimizer(model, experiment)


def train_epoch(
    model: Net | Stack,
    optimizer: Optimizer,
    split: Split,
    batch_size: int,
    grad_clip: float | None = None,
    order: Tensor | None = None,
    graph: bool = False,
) -> Any:
    """One pass over the images in random order; returns the mean loss.

    grad_clip: gradients are cut to this norm. order (N,): another than a random one; a Stack takes
    one for each of its nets, (S, N), and returns a list of losses. graph: on a GPU, launch a whole
    step at once.
    """
    model.train()
    order = torch.randperm(len(split)) if order is None else order
    order = order.to(split.images.device)
    total = torch.zeros(order.shape[:-1], device=order.device)

    def step(index):  # nothing here waits for the device: the loss is read once, at the end
        x, y = split.batch(index)
        loss = model.loss(x, y)
        optimizer.zero_grad()
        loss.sum().backward()
        if grad_clip:
            model.clip_gradients(grad_clip)
        optimizer.step()
        total.add_(loss.detach() * index.shape[-1])

    batches = list(order.split(batch_size, dim=-1))
    if graph and order.is_cuda:
        batches = _replay(step, batches)
    for index in batches:
        step(index)
    means = total.cpu().double() / len(split)
    return means.tolist()


@functools.cache
def _aside(device):
    """The stream of a GPU on which graphs are made: one, for each keeps some memory for good."""
    return torch.cuda.Stream(device)


def _replay(step, batches):
    """Take the steps as a CUDA graph, launched at once; returns the batches that are left.

    A step of a small net is some hundred launches, for which the GPU waits. The first batches are
    trained on as usual, on a stream of their own: what is set up at first use must not be captured.
    Source: PyTorch's notes on CUDA graphs.
    """
    alike = [index for index in batches if index.shape == batches[0].shape]
    if len(alike) <= WARM_UP:
        return batches
    device = batches[0].device
    with torch.cuda.device(device):
        here, aside = torch.cuda.current_stream(), _aside(device)
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            for index in alike[:WARM_UP]:
                step(index)
        here.wait_stream(aside)
        graph, index = torch.cuda.CUDAGraph(), alike[0].clone()
        try:
            with torch.cuda.graph(graph, stream=aside):
                step(index)
        except RuntimeError as error:
            torch.cuda.set_stream(here)  # which a capture that failed does not do
            reason = str(error).partition("\n")[0]
            warnings.warn(f"trained without a CUDA graph, which is slower: {reason}", stacklevel=3)
            return batches[WARM_UP:]
        for following in alike[WARM_UP:]:
            index.copy_(following)
            graph.replay()
    return batches[len(alike) :]


def fit(
    experiment: Experiment,
    device: Device = None,
    folder: Folder | None = None,
    quiet: bool = False,
    tensorboard: Folder | None = None,
    world: World | None = None,
    graph: bool = False,
) -> Run:
    """Train what the Experiment says; returns a Run.

    device: cuda, mps or cpu, the fastest present by default. folder: save the Run there after every
    epoch, and go on from a Run of the same Experiment that is there already. tensorboard: a folder
    for its event files. quiet: no line an epoch. world: the pictures; default: those that the
    Experiment names. graph: on a GPU, launch a whole step at once. A collapse is said once, and
    stands in `Run.collapse_epoch`. Interrupting returns the Run so far. On one CPU, build and
    thread count the same Experiment gives the same bits, resumed or not: every epoch draws its
    random numbers from (seed, epoch). With a World of your own pictures (`data.from_folder`) the
    Run's Experiment says `own` for dataset and world. Raises ValueError if the folder holds another
    Experiment's Run, for an absent device, for too large an n_train, and for a World that is not
    the Experiment's. Where `torch.distributed` has been initialized, all processes train the one
    network: a step takes batch_size images from each of them, and the first one writes.
    """
    device, (rank, count) = pick_device(device), ranks()
    run, world = _set_out(experiment, world, device)
    if resuming := folder is not None and Run.file(folder).exists():
        run = _go_on(run.experiment, folder, world)
    _note_provenance(run, provenance(device, f"{world.dataset}, {world.source}"))
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(experiment.seed)
        model, optimizer = begin(experiment, run.spec, device)
        if resuming:
            _take_up(run, model, optimizer)
        else:
            watch(model, run.probe, device)
            vars(run).update(_state(model, optimizer))
        trained = Together(model) if count > 1 else model  # all are here before one of them writes
        if rank:
            folder, tensorboard, quiet = None, None, True
        board = Board(tensorboard, run) if tensorboard else None
        said = run.collapse_epoch
        try:
            if not resuming:
                _keep(run, folder)
            while not run.finished:
                found = _train_one_epoch(run, trained, optimizer, world, graph and count == 1)
                _note_epoch(run, model, optimizer, world, *found)
                _keep(run, folder, board)
                if not quiet:
                    print(_epoch_line(run))
                if run.collapse_epoch and not said:
                    tqdm.write(_collapse_line(run))  # above the bar of a study
                    said = run.collapse_epoch
            if run.test is None:
                evaluate(run, device, world)
                _keep(run, folder)
        except KeyboardInterrupt:
            done = f"{run.epochs} of {run.experiment.epochs} epochs"
            print(f"Interrupted: the Run so far has {done}, and no test result.")
        finally:
            if board:
                board.writer.close()
    return run


def _set_out(experiment, world, device):
    """A Run before its first epoch, and the World that it is trained on, on the device."""
    if world is None:
        world = data.load(experiment.dataset, experiment.world, experiment.replica, device)
    else:
        if world.name == OWN:
            experiment = experiment.replace(dataset=OWN, world=OWN)
        _refuse_misfit(world, experiment)
        world = world.to(device)
    world.train.head(experiment.n_train)  # refused before anything is made
    run = Run(experiment, world.title, world.spec, {}, names=world.names)
    run.probe = choose_probes(world)
    return run, world


def _refuse_misfit(world, experiment):
    """Raise a ValueError, saying what differs, if the World is not the Experiment's."""
    for name in ("train", "val", "test"):
        split = getattr(world, name)
        if split is not None and not len(split):
            raise ValueError(f"world.{name}: expected images, got none.")
    ours = experiment.dataset, experiment.world, experiment.replica
    theirs = OWN if world.name == OWN else world.dataset, world.name, world.val is None
    for name, one, other in zip(("dataset", "world", "replica"), ours, theirs):
        if one != other:
            both = f"{one!r} in the Experiment, {other!r} in the World"
            raise ValueError(f"world does not fit the Experiment. {name}: {both}.")


def _go_on(experiment, folder, world):
    """The Run in the folder, if it is this Experiment's; more epochs than it had are welcome."""
    run = Run.load(folder)
    old = {**run.experiment.model_dump(), "data": run.title}
    new = {**experiment.model_dump(), "data": world.title}
    if run.epochs <= experiment.epochs:
        old["epochs"] = experiment.epochs
    differ = [f"{k}: {old[k]!r} there, {new[k]!r} here" for k in new if old[k] != new[k]]
    if differ:
        what = f"{folder} holds another Experiment's Run ({'; '.join(differ)})"
        raise ValueError(f"{what}. Choose another folder.")
    run.experiment = experiment
    if not run.finished:
        run.test = None
    return run


def _take_up(run, model, optimizer):
    """Give a fresh network and its optimizer the state in which a Run has left them."""
    model.load_state_dict(run.weights)
    state = copy.deepcopy(run.optimizer)  # it would train on in the Run's own tensors
    for group, here in zip(state["param_groups"], optimizer.param_groups):
        group |= {name: here[name] for name in ("capturable",) if name in here}
    optimizer.load_state_dict(state)


def _state(model, optimizer):
    """Network and optimizer as they are now: the live ones go on changing in the next epoch."""
    weights = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
    state = copy.deepcopy(optimizer.state_dict()) if optimizer else {}
    return {"weights": weights, "optimizer": state}


def _note_provenance(run, here):
    if not run.provenance:
        run.provenance = here
    elif not run.finished and {**run.provenance, **here} != run.provenance:
        run.provenance = {**here, "began": run.provenance}


def _keep(run, folder, board=None):
    """Write the Run where it is wanted: into its folder, and its last epoch on the board."""
    if folder:
        run.save(folder)
    if board:
        board.add_epoch(run)


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


def _train_one_epoch(run, model, optimizer, world, graph):
    """One more epoch, of this process's share of the images; returns its loss and its seconds."""
    one = run.experiment
    seed = _seed_of(one, run.epochs + 1)
    split = world.train.head(one.n_train)
    if one.augment:
        split = world.augmented(FRESH_SEED + seed, one.n_train)
    torch.manual_seed(seed)
    order = share(torch.randperm(len(split)), one.batch_size)
    loss, seconds = _timed(model, optimizer, split, one, order, graph)
    return total(loss), seconds


def _timed(model, optimizer, split, one, order=None, graph=False):
    """The loss of an epoch of training, and its seconds."""
    began = time.perf_counter()
    loss = train_epoch(model, optimizer, split, one.batch_size, one.grad_clip, order, graph)
    return loss, time.perf_counter() - began


def _seed_of(experiment, epoch):
    """Of the random numbers of an epoch."""
    return experiment.seed * 100_003 + epoch


def _note_epoch(run, model, optimizer, world, loss, seconds):
    """What an epoch has made of the network.

    All of it is computed first, and goes into the Run at once: an interrupt leaves no half of it.
    """
    epoch = run.epochs + 1
    name, followed = ("test", world.test) if world.val is None else ("val", world.val)
    logits, looks = follow(model, followed)
    entry = {
        "epoch": epoch,
        "train_loss": loss,
        "seconds": seconds,
        f"{name}_loss": F.cross_entropy(logits, followed.labels).item(),
        f"{name}_top1": metrics.top1(logits.argmax(dim=1), followed.labels),
        **looks,
    }
    new = {"probe": dict(run.probe), **_state(model, optimizer)}
    watch(model, new["probe"], followed.images.device)
    new["history"] = {key: run.history.get(key, []) + [value] for key, value in entry.items()}
    scores = new["history"].get("val_top1", [])
    if scores and scores.index(max(scores)) == len(scores) - 1:
        new["best"] = {"epoch": epoch, "weights": new["weights"]}
    vars(run).update(new)


def fit_stacked(
    experiment: Experiment,
    seeds: Sequence[int],
    device: Device = None,
    world: World | None = None,
) -> list[Run]:
    """Train one Experiment with several seeds at once; returns a Run for each.

    A seed starts from the weights that it has in `fit`, and takes the batches in that order;
    dropout draws other numbers. For a GPU, which one small net leaves idle; on a CPU it is slower.
    Raises ValueError without a seed, where each seed has pictures of its own (`augment`), and for
    nets with a cell, which cannot be stacked.
    """
    if not seeds:
        raise ValueError("seeds: expected at least one.")
    if experiment.augment or experiment.model in ("sequential", "reinforced"):
        asked = "augment" if experiment.augment else experiment.model
        raise ValueError(f"stack: {asked} cannot be stacked. Train its seeds one by one.")
    device, nets = pick_device(device), []
    runs = [_set_out(experiment.replace(seed=seed), world, device) for seed in seeds]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for run, world in runs:
            here = provenance(device, f"{world.dataset}, {world.source}")
            run.provenance = {**here, "stacked": len(seeds)}
            torch.manual_seed(run.experiment.seed)
            nets.append(build(run.experiment, run.spec).to(device))
            watch(nets[-1], run.probe, device)
        stack = Stack(nets)
        optimizer = make_optimizer(stack, experiment)
        for epoch in range(1, experiment.epochs + 1):
            _train_stack_one_epoch(stack, optimizer, runs, nets, epoch)
    for run, world in runs:
        evaluate(run, device, world)
    return [run for run, _ in runs]


def _train_stack_one_epoch(stack, optimizer, runs, nets, epoch):
    """One more epoch of all; a Run that is given up gets no more entries."""
    (first, world), orders = runs[0], []
    split = world.train.head(first.experiment.n_train)
    for run, _ in runs:
        torch.manual_seed(_seed_of(run.experiment, epoch))
        orders.append(torch.randperm(len(split)))
    found = _timed(stack, optimizer, split, first.experiment, torch.stack(orders), graph=True)
    for i, ((run, _), net) in enumerate(zip(runs, nets)):
        if not run.finished:
            net.load_state_dict(stack.state_of(i))
            _note_epoch(run, net, None, world, found[0][i], found[1] / len(runs))
