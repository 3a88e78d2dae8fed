"""A collapse step by step: what moves theta in every step of training. Chapter 03 alone uses it."""

from statistics import median

import torch

from .. import train, warp
from ..models import build

NAMES = ("outside", "moved", "foretold", "g", "h2")


def catch_last_layer(net):
    """A dict that a forward pass fills: activations h before the last localization layer, theta."""
    caught = {}

    def catch(module, inputs, theta):
        caught["h"] = inputs[0].detach()
        if theta.requires_grad:
            theta.retain_grad()
            caught["theta"] = theta

    net.transformer.localization[-1].register_forward_hook(catch)
    return caught


def trace(experiment, world, watched, steps):
    """Train, and return {name: a number a step}.

    outside: share of the watched pictures' grids. moved: how far their theta went in the step.
    foretold: how far the last layer alone moves it, rate times g (1 + h h'). g: size of the
    gradient of theta, a picture's mean. h2: h times h.
    """
    torch.manual_seed(experiment.seed)
    net = build(experiment, world.spec)
    optimizer, caught = train.make_optimizer(net, experiment), catch_last_layer(net)
    part = world.train.head(experiment.n_train)
    rate = experiment.lr * experiment.loc_lr_ratio
    with torch.no_grad():
        theta = net.looks(watched)[0]
    rows, others = [], caught["h"]  # others: activations of the watched pictures
    for index in torch.randint(len(part), (steps, 64)):
        x, y = part.batch(index)
        optimizer.zero_grad()
        net.loss(x, y).backward()
        gradient = caught["theta"].grad  # of the mean loss: it holds the 1/64 already
        foretold = rate * (1 + others @ caught["h"].T) @ gradient
        optimizer.step()
        with torch.no_grad():
            new = net.looks(watched)[0]
        moved = (new - theta).flatten(1).norm(dim=1).mean()
        theta, others = new, caught["h"]
        size = 64 * gradient.norm(dim=1).mean()
        square = others.square().sum(dim=1).mean()
        numbers = warp.outside(new).mean(), moved, foretold.norm(dim=1).mean(), size, square
        rows.append([number.item() for number in numbers])
    return dict(zip(NAMES, map(list, zip(*rows))))


def acts(rows, calm=50, near=3):
    """The two acts of a throw: how g and h2 grow before it, and how they leap in it.

    thrown: the first step with more than 0.9 outside, None if there is none; then the last step
    stands for it. grown: median of the `calm` steps before the last `near`, by that of the first
    `calm`. leap: the largest of the last `near`, by the median of the `calm` before them.
    """
    thrown = next((i for i, share in enumerate(rows["outside"]) if share > 0.9), None)
    end = len(rows["outside"]) if thrown is None else thrown + 1
    found = {"thrown": None if thrown is None else end}
    for name in ("g", "h2"):
        before, last = (
            rows[name][max(0, end - near - calm) : end - near],
            rows[name][end - near : end],
        )
        found[f"{name} grown"] = median(before) / median(rows[name][:calm])
        found[f"{name} leap"] = max(last) / median(before)
    return found
