"""Seconds per epoch of `fit`'s loop against the PyTorch tutorial's own loop, and against the floor.

Ways to train the tutorial's net, batch 64, SGD 0.01, float32, on 60,000 MNIST images, in
alternation, each side in a process of its own:
  tutorial  as in the PyTorch tutorial: DataLoader with 4 workers, PIL images, Normalize in Python
  ours      stn_utils.train.train_epoch: images resident, channels_last on the CPU
  floor     ours without data: the same forward, backward and step on one resident batch, repeated
and on a GPU also
  graph     ours with a CUDA graph a step
  stack     the same with so many seeds as one net: seconds of an epoch, divided by the seeds
No evaluation and no pictures on any side. Seconds on a shared machine say little; the ratios are
the result.
"""

import argparse
import collections
import functools
import json
import subprocess
import sys
import time
import warnings

import torch
import torch.nn.functional as F
import torch.profiler
import torch.utils.flop_counter

from stn_utils._torchvision import torchvision
from stn_utils.data import load
from stn_utils.experiment import Experiment
from stn_utils.metrics import interval, top1
from stn_utils.models import build
from stn_utils.spec import pick_device
from stn_utils.stack import Stack
from stn_utils.train import begin, make_optimizer, predict, train_epoch

TUTORIAL = Experiment(optimizer="sgd", lr=0.01, padding="zeros", replica=True)
SEEDS = 16  # of a stack


def tutorial_dataset(part):
    """torchvision's own MNIST, `__getitem__` and PIL images included, on resident images."""
    vision = torchvision()
    dataset = vision.datasets.MNIST.__new__(vision.datasets.MNIST)
    dataset.data, dataset.targets = part.images[:, 0].cpu(), part.labels.cpu()
    dataset.target_transform = None
    steps = [vision.transforms.ToTensor(), vision.transforms.Normalize((0.1307,), (0.3081,))]
    dataset.transform = vision.transforms.Compose(steps)
    return dataset


def tutorial_epoch(model, optimizer, loader, device):
    """The tutorial's training loop, its reports every 500 batches included."""
    model.train()
    for batch, (data, target) in enumerate(loader):
        data, target = data.to(device), target.to(device)
        optimizer.zero_grad()
        loss = F.nll_loss(F.log_softmax(model(data), dim=1), target)
        loss.backward()
        optimizer.step()
        if batch % 500 == 0:
            loss.item()


def floor_epoch(model, optimizer, part, batch_size):
    """What no such loop can beat: the same arithmetic on one batch that is already there."""
    model.train()
    x, y = part.batch(slice(0, batch_size))
    for _ in range(-(-len(part) // batch_size)):
        loss = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()


def seconds(call, *arguments):
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    wait()
    began = time.perf_counter()
    call(*arguments)
    wait()
    return time.perf_counter() - began


def stack_epoch(stack, optimizer, part, batch_size):
    orders = torch.stack([torch.randperm(len(part)) for _ in range(SEEDS)])
    train_epoch(stack, optimizer, part, batch_size, order=orders, graph=True)


def prepare_stack(world, device, seed):
    stack = Stack([prepare(world, device, True, SEEDS * seed + i)[0] for i in range(SEEDS)])
    return stack, make_optimizer(stack, TUTORIAL)


def work_of_a_step(model, optimizer, part, batch_size):
    """Kernels that one step launches on a GPU, and its floating-point operations."""
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        floor_epoch(model, optimizer, part.head(batch_size), batch_size)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        floor_epoch(model, optimizer, part.head(batch_size), batch_size)
    kernels = [event for event in profile.events() if event.device_type.name == "CUDA"]
    return len(kernels), counter.get_total_flops()


def prepare(world, device, ours, seed):
    """A fresh net and optimizer. The tutorial's loader normalizes, so its net does not."""
    torch.manual_seed(seed)
    if ours:
        return begin(TUTORIAL, world.spec, device)
    experiment = TUTORIAL.replace(normalize="none")
    model = build(experiment, world.spec).to(device)
    return model, make_optimizer(model, experiment)


def measure(side, seed, threads):
    """Train one epoch of one side here: its seconds and test top-1 (and, for ours, the floor)."""
    torch.set_num_threads(threads)
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    device = pick_device()
    world = load("mnist", "clean28", replica=True, device=device)
    warm = prepare(world, device, side == "ours", seed)
    floor_epoch(*warm, world.train.head(640), 64)  # a GPU's first use costs seconds
    model, optimizer = prepare(world, device, side != "tutorial", seed)
    test = world.test
    if side == "tutorial":
        loader = torch.utils.data.DataLoader(
            tutorial_dataset(world.train), batch_size=64, shuffle=True, num_workers=4
        )
        result = {"seconds": seconds(tutorial_epoch, model, optimizer, loader, device)}
        logits = predict(torch.nn.Sequential(Standardize(), model), test)
        return {**result, "top1": top1(logits.argmax(dim=1), test.labels)}
    if side == "stack":
        stack, optimizer = prepare_stack(world, device, seed)
        result = {"seconds": seconds(stack_epoch, stack, optimizer, world.train, 64) / SEEDS}
        model.load_state_dict(stack.state_of(0))
    else:
        epoch = functools.partial(train_epoch, graph=side == "graph")
        result = {"seconds": seconds(epoch, model, optimizer, world.train, 64)}
    logits = predict(model, test)
    if side == "ours":
        floor = prepare(world, device, True, seed)
        result["floor"] = seconds(floor_epoch, *floor, world.train, 64)
        if device.type == "cuda":
            result["work"] = work_of_a_step(*floor, world.train, 64)
    return {**result, "top1": top1(logits.argmax(dim=1), test.labels)}


class Standardize(torch.nn.Module):
    """The tutorial's Normalize, for testing."""

    def forward(self, x):
        return (x - 0.1307) / 0.3081


def say_work(kernels, operations, times):
    """How far from the card's arithmetic limit, by the last round."""
    steps = -(-60_000 // 64)
    print(f"a step: {kernels} kernels, {operations / 1e6:.0f} million floating-point operations")
    for side, value in times.items():
        rate = operations * steps / value / 1e12
        print(f"{side}: {60_000 / value:,.0f} images a second, {rate:.2f} TFLOP/s")


def in_a_process_of_its_own(side, seed, threads):
    """Neither side inherits the other's warm caches."""
    command = [sys.executable, __file__, "--side", side]
    command += ["--seed", str(seed), "--threads", str(threads)]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pairs", type=int, default=5, help="alternating repetitions, each with a seed of its own"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--side", choices=("tutorial", "ours", "graph", "stack"), help=argparse.SUPPRESS
    )
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.seed, arguments.threads)))
        return
    device = pick_device()
    sides = ["tutorial", "ours"] + ["graph", "stack"] * (device.type == "cuda")
    on = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    print(f"torch {torch.__version__}, {on}, {arguments.threads} threads")
    ratios = collections.defaultdict(list)
    for seed in range(arguments.pairs):
        found = {side: in_a_process_of_its_own(side, seed, arguments.threads) for side in sides}
        times = {side: result["seconds"] for side, result in found.items()}
        times["floor"] = found["ours"]["floor"]
        print(
            f"round {seed + 1}: "
            + "  ".join(f"{side} {value:.3f} s" for side, value in times.items())
            + "  top-1 "
            + " ".join(f"{100 * result['top1']:.1f}" for result in found.values()),
            flush=True,
        )
        for side in [*sides[1:], "floor"]:
            ratios[f"tutorial / {side}"].append(times["tutorial"] / times[side])
        ratios["ours / floor"].append(times["ours"] / times["floor"])
        apart = found["ours"]["top1"] - found["tutorial"]["top1"]
        ratios["top-1, ours minus tutorial, points"].append(100 * apart)
    if work := found["ours"].get("work"):
        say_work(*work, times)
    for name, values in ratios.items():
        mean, half = interval(values)
        spread = f" ± {half:.2f} (95 %)" if half is not None else ""
        print(f"{name}: {mean:.2f}{spread}, from {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
