"""Seconds per epoch of `fit`'s loop against the PyTorch tutorial's own loop, and against the floor.

Three ways to train the tutorial's net, batch 64, SGD 0.01, float32, on 60,000 MNIST images, in
alternation, each side in a process of its own:
  tutorial  as in the PyTorch tutorial: DataLoader with 4 workers, PIL images, Normalize in Python
  ours      stn_utils.train.train_epoch: images resident, channels_last on the CPU
  floor     ours without data: the same forward, backward and step on one resident batch, repeated
No evaluation and no pictures on any side. Seconds on a shared machine say little; the ratios are
the result.
"""

import argparse
import json
import subprocess
import sys
import time
import warnings

import torch
import torch.nn.functional as F

from stn_utils._torchvision import torchvision
from stn_utils.data import load
from stn_utils.experiment import Experiment
from stn_utils.metrics import interval, top1
from stn_utils.models import build
from stn_utils.train import begin, make_optimizer, pick_device, predict, train_epoch

TUTORIAL = Experiment(optimizer="sgd", lr=0.01, padding="zeros", replica=True)


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
    model, optimizer = prepare(world, device, side == "ours", seed)
    test = world.test
    if side == "tutorial":
        loader = torch.utils.data.DataLoader(
            tutorial_dataset(world.train), batch_size=64, shuffle=True, num_workers=4
        )
        result = {"seconds": seconds(tutorial_epoch, model, optimizer, loader, device)}
        logits = predict(torch.nn.Sequential(Standardize(), model), test)
    else:
        result = {"seconds": seconds(train_epoch, model, optimizer, world.train, 64)}
        logits = predict(model, test)
        result["floor"] = seconds(floor_epoch, *prepare(world, device, True, seed), world.train, 64)
    return {**result, "top1": top1(logits.argmax(dim=1), test.labels)}


class Standardize(torch.nn.Module):
    """The tutorial's Normalize, for testing."""

    def forward(self, x):
        return (x - 0.1307) / 0.3081


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
    parser.add_argument("--side", choices=("tutorial", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        print(json.dumps(measure(arguments.side, arguments.seed, arguments.threads)))
        return
    print(f"torch {torch.__version__}, {pick_device()}, {arguments.threads} threads")
    ratios = {"tutorial / ours": [], "ours / floor": [], "top-1, ours minus tutorial, points": []}
    for seed in range(arguments.pairs):
        tutorial = in_a_process_of_its_own("tutorial", seed, arguments.threads)
        ours = in_a_process_of_its_own("ours", seed, arguments.threads)
        new = (
            tutorial["seconds"] / ours["seconds"],
            ours["seconds"] / ours["floor"],
            100 * (ours["top1"] - tutorial["top1"]),
        )
        for values, value in zip(ratios.values(), new):
            values.append(value)
        print(
            f"pair {seed + 1}: tutorial {tutorial['seconds']:5.1f} s  ours {ours['seconds']:5.1f} s"
            f"  floor {ours['floor']:5.1f} s  tutorial/ours {new[0]:.2f}  ours/floor {new[1]:.3f}  "
            f"top-1 {100 * tutorial['top1']:.1f} and {100 * ours['top1']:.1f} %",
            flush=True,
        )
    for name, values in ratios.items():
        mean, half = interval(values)
        spread = f" ± {half:.2f} (95 %)" if half is not None else ""
        print(f"{name}: {mean:.2f}{spread}, from {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
