"""Seconds per epoch of `fit`'s loop against the PyTorch tutorial's own loop, and against the floor.

Three ways to train the tutorial's net, batch 64, SGD 0.01, float32, on 60,000 MNIST images, in alternation:
  tutorial  DataLoader with 4 workers, PIL images, ToTensor and Normalize in Python, as in the PyTorch tutorial
  ours      stn_utils.train.train_epoch: images resident, channels_last on the CPU
  floor     ours without data: the same forward, backward and step on one resident batch, repeated
No evaluation and no pictures on any side. Seconds on a shared machine say little; the ratios are the result.
"""

import argparse
import time
import warnings

import torch
import torch.nn.functional as F

from stn_utils._torchvision import torchvision
from stn_utils.data import load
from stn_utils.experiment import Experiment
from stn_utils.metrics import interval, top1
from stn_utils.models import build
from stn_utils.train import make_optimizer, pick_device, predict, train_epoch

TUTORIAL = Experiment(optimizer="sgd", lr=0.01, padding="zeros", replica=True)


class PilImages(torch.utils.data.Dataset):
    """The images as the tutorial's dataset gives them: one PIL image at a time, transformed in Python."""

    def __init__(self, part):
        from PIL import Image

        transforms = torchvision().transforms
        self.images, self.labels = part.images[:, 0].cpu().numpy(), part.labels.cpu()
        self.to_pil = Image.fromarray
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.transform(self.to_pil(self.images[index])), int(self.labels[index])


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
    """What no loop of this kind can beat: the same arithmetic on one batch that is already there."""
    model.train()
    x, y = part.batch(slice(0, batch_size))
    for _ in range(-(-len(part) // batch_size)):
        loss = model.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    loss.item()


def seconds(call, *arguments):
    began = time.perf_counter()
    call(*arguments)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def prepare(world, device, ours):
    """A fresh net and optimizer. The tutorial's net gets normalized images, so its own normalization is off."""
    torch.manual_seed(0)
    experiment = TUTORIAL if ours else TUTORIAL.but(normalize="none")
    model = build(experiment, world.spec).to(device)
    if ours and device.type == "cpu":
        model = model.to(memory_format=torch.channels_last)
    return model, make_optimizer(model, experiment)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="alternating repetitions")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    device = pick_device()
    world = load("mnist", "clean28", replica=True, device=device)
    print(f"torch {torch.__version__}, {device}, {arguments.threads} threads, {len(world.train):,} images, batch 64")
    loader = torch.utils.data.DataLoader(PilImages(world.train), batch_size=64, shuffle=True, num_workers=4)
    test_x, test_y = world.test.batch(slice(None))
    against_tutorial, against_floor, scores = [], [], []
    for pair in range(arguments.pairs):
        theirs, their_optimizer = prepare(world, device, ours=False)
        tutorial = seconds(tutorial_epoch, theirs, their_optimizer, loader, device)
        model, optimizer = prepare(world, device, ours=True)
        ours = seconds(train_epoch, model, optimizer, world.train, 64)
        floor = seconds(floor_epoch, *prepare(world, device, ours=True), world.train, 64)
        theirs.eval()
        with torch.no_grad():
            answers = torch.cat([theirs(x).argmax(1) for x in ((test_x - 0.1307) / 0.3081).split(1000)])
        scores.append((top1(answers, test_y), top1(predict(model, world.test).argmax(1), test_y)))
        against_tutorial.append(tutorial / ours)
        against_floor.append(ours / floor)
        print(f"pair {pair + 1}: tutorial {tutorial:5.1f} s  ours {ours:5.1f} s  floor {floor:5.1f} s  "
              f"tutorial/ours {tutorial / ours:.2f}  ours/floor {ours / floor:.3f}  "
              f"top-1 after the epoch {100 * scores[-1][0]:.1f} and {100 * scores[-1][1]:.1f} %", flush=True)  # fmt: skip
    for name, ratios in (("tutorial / ours", against_tutorial), ("ours / floor", against_floor)):
        mean, half = interval(ratios)
        spread = f" ± {half:.2f} (95 %)" if half is not None else ""
        print(f"{name}: {mean:.2f}{spread}, from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
