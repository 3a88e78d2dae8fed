"""What a network makes of images that it does not train on: logits, looks, the test set."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import diagnose, metrics
from ..data import Split, World
from ..models import CONTROLS, Net, ReinforcedNet
from ..run import Run
from ..spec import Device, pick_device
from ..warp import overlap, windows_of

# Images a pass without gradients, and values in them: as many as a CPU's cache holds. Three times
# as long took photographs of 160x160 by 250: their maps were fetched from the system every time.
BATCH, VALUES = 250, 10**6
DESCRIBED = 1000  # images whose looks are described after an epoch
ORACLE_IMAGES = 2000  # of the test set: an oracle tries every move in every step
PROBES, PROBES_PER_CLASS = 20, 2  # images whose warp is recorded after every epoch, at most


def _batches(split):
    count = max(1, min(BATCH, VALUES // split.images[0].numel()))
    return torch.arange(len(split), device=split.images.device).split(count)


@torch.no_grad()
def predict(model: nn.Module, split: Split) -> Tensor:
    """Logits (N, classes) for all images of a split."""
    model.eval()
    return torch.cat([model(split.batch(index)[0]) for index in _batches(split)])


def _traces(model, split):
    """The images of a split, batch by batch, and what a net in evaluation makes of them."""
    model.eval()
    for index in _batches(split):
        x, _ = split.batch(index)
        yield x, model.trace(x)


@torch.no_grad()
def follow(model: Net, split: Split) -> tuple[Tensor, dict[str, float]]:
    """One pass over a split: logits (N, classes), and how the net looks at its first 1,000 images.

    These are means of `diagnose.describe` and of the net's own metrics; {} for a net without looks.
    """
    logits: list[Tensor] = []
    described = []
    for x, trace in _traces(model, split):
        if trace.parameters and sum(map(len, logits)) < DESCRIBED:
            look = model.transformer.look(x, trace.parameters[-1])
            numbers = diagnose.describe(look, x, model.denormalize(trace.x_warped))
            described.append({**numbers, **trace.metrics})
        logits.append(trace.logits)
    names = described[0] if described else {}
    means = {name: torch.cat([each[name] for each in described]).mean().item() for name in names}
    return torch.cat(logits), means


@torch.no_grad()
def evaluate(run: Run, device: Device = None, world: World | None = None) -> None:
    """Read the test set, once, with the Run's network: fills run.test.

    world: the one that it was trained on, if at hand.
    """
    device = pick_device(device)
    split = run.test_split(device) if world is None else world.to(device).test
    model = run.model().to(device)
    found = [  # of each batch: logits, and the look that decides, if there is one
        [t.logits, *(model.transformer.look(x, numbers) for numbers in t.parameters[-1:])]
        for x, t in _traces(model, split)
    ]
    logits, *looks = map(torch.cat, zip(*found))
    predictions = logits.argmax(dim=1)
    test: dict[str, Any] = {
        "top1": metrics.top1(predictions, split.labels),
        "loss": F.cross_entropy(logits, split.labels).item(),
        "calibration_error": metrics.calibration_error(logits, split.labels),
        "predictions": predictions.to(torch.int16).cpu(),
        "labels": split.labels.to(torch.int16).cpu(),
        "confusion": metrics.confusion(predictions, split.labels, run.spec.classes).cpu(),
    }
    poses = [] if split.poses is None else windows_of(split.poses)
    if looks and poses and poses[0].ndim == 3:
        windows = windows_of(looks[0])
        each = [[overlap(window, pose).mean().item() for pose in poses] for window in windows]
        test["overlap"] = sum(map(sum, each)) / (len(windows) * len(poses))
        test |= {"overlaps": each} if len(poses) > 1 else {}
    if isinstance(model, ReinforcedNet) and model.transformer.kind not in CONTROLS:
        x, y = split.batch(slice(0, ORACLE_IMAGES))
        test["oracle_top1"] = metrics.top1(model.oracle(x, y).argmax(dim=1), y)
        test["oracle_images"] = len(y)
    run.test = test  # all of it, or none: an oracle takes long, and may be interrupted


def choose_probes(world: World) -> dict[str, Any]:
    """The first images of each class, in class order."""
    split = world.test if world.val is None else world.val
    classes = range(min(world.classes, PROBES))
    found = [(split.labels == c).nonzero()[:PROBES_PER_CLASS, 0] for c in classes]
    index = torch.cat(found)[:PROBES]
    return {
        "images": split.images[index].cpu(),
        "labels": split.labels[index].cpu(),
        "parameters": None,
        "warped": None,
    }


@torch.no_grad()
def watch(model: Net, probe: dict[str, Any], device: torch.device) -> None:
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
