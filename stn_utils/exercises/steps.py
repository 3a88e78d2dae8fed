"""A collapse step by step: what moves theta in every step of training. Chapter 03 alone uses it."""

import io
from statistics import median

import matplotlib as mpl
import torch
from PIL import Image

from .. import show, train, warp
from ..models import build
from ..show.draw import window_on_axes
from ..show.style import STYLE, Figure

FILMED = 3  # watched pictures whose windows are kept
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
    gradient of theta, a picture's mean. h2: h times h. Both are those that make the step, of the
    weights before it. theta: those of the first pictures after it, (3, 6).
    """
    torch.manual_seed(experiment.seed)
    net = build(experiment, world.spec)
    optimizer, caught = train.make_optimizer(net, experiment), catch_last_layer(net)
    part = world.train.head(experiment.n_train)
    rate = experiment.lr * experiment.loc_lr_ratio
    with torch.no_grad():
        theta = net.looks(watched)[0]
    windows, rows, others = [], [], caught["h"]  # others: activations of the watched pictures
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
        size = 64 * gradient.norm(dim=1).mean()
        square = others.square().sum(dim=1).mean()
        theta, others = new, caught["h"]
        numbers = warp.outside(new).mean(), moved, foretold.norm(dim=1).mean(), size, square
        rows.append([number.item() for number in numbers])
        windows.append(new[:FILMED].flatten(1).tolist())
    return {**dict(zip(NAMES, map(list, zip(*rows)))), "theta": windows}


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


BARS = {  # what drives a window: its label, and the ends of its bar
    "g": ("size of g", 0.1, 30),
    "h2": ("1 + h · h", 0.5, 300),
    "moved": ("theta moves", 0.01, 10),
}


def film(found, images):
    """A PIL picture a step: the windows on pictures (3, 1, H, W), and what drives them as bars.

    found: {first: number of the first step, theta: (T, 3, 6), and lists g, h2 and moved}.
    """
    frames = []
    for i, thetas in enumerate(found["theta"]):
        with mpl.rc_context(STYLE):
            figure = Figure(figsize=(show.WIDTH, 2.5))
            axes = figure.subplots(1, FILMED + 1, width_ratios=[1] * FILMED + [1.7])
            for ax, image, theta in zip(axes, images, torch.tensor(thetas).view(-1, 1, 2, 3)):
                height, width = image.shape[1:]
                ax.imshow(show.plane(image), cmap="gray")
                window_on_axes(ax, theta, height, width)
                ax.set(xlim=(-0.6 * width, 1.6 * width), ylim=(1.6 * height, -0.6 * height))
                ax.set(xticks=[], yticks=[], facecolor=show.FAINT)
                ax.grid(False)
            bars = axes[-1]
            for at, (name, (_, low, high)) in enumerate(BARS.items()):
                value = found[name][i] + (name == "h2")
                share = (torch.tensor(value / low).log() / torch.tensor(high / low).log()).item()
                bars.barh(at, min(max(share, 0.01), 1), color=show.WINDOW if at == 2 else show.INK)
                bars.text(1.02, at, f"{value:.2f}", va="center")
            bars.set(yticks=range(len(BARS)), yticklabels=[label for label, _, _ in BARS.values()])
            bars.set(
                xlim=(0, 1.3), xticks=[], title=f"step {found['first'] + i}, bars are logarithmic"
            )
            bars.grid(False)
            content = io.BytesIO()
            figure.savefig(content, format="png", dpi=80)
        frames.append(Image.open(content).convert("RGB"))
    return frames
