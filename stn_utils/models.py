"""Networks by name. Each maps images (B, C, H, W) in [0, 1] to logits, and owns its loss and its looks."""

import torch
import torch.nn.functional as F
from torch import nn

from .layers import SpatialTransformer, start_at_identity
from .warp import identity


def _after_two_convs(size, first, second):
    """Side of a map after conv `first`, pool 2, conv `second`, pool 2, none of them padded."""
    return ((size - first + 1) // 2 - second + 1) // 2


def localization_net(channels, size):
    """The PyTorch tutorial's localization net for square images: (B, channels, size, size) -> (B, 6)."""
    side = _after_two_convs(size, 7, 5)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 7), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Conv2d(8, 10, 5), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(10 * side * side, 32), nn.ReLU(inplace=True),
        start_at_identity(nn.Linear(32, 6)),
    )  # fmt: skip


def classifier_net(channels, size, classes):
    """The PyTorch tutorial's classifier for square images: (B, channels, size, size) -> logits (B, classes)."""
    side = _after_two_convs(size, 5, 5)
    return nn.Sequential(
        nn.Conv2d(channels, 10, 5), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Conv2d(10, 20, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(20 * side * side, 50), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(50, classes),
    )  # fmt: skip


class StandStill(nn.Module):
    """A localization net that always answers identity: it can resize the picture, not move the window."""

    def forward(self, x):
        return identity(len(x), x.device, x.dtype).flatten(1)


class Normalize(nn.Module):
    """(x - mean) / std per channel; mean and std are lists, one number a channel."""

    def __init__(self, mean, std):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std

    def undo(self, x):
        return x * self.std + self.mean


class Net(nn.Module):
    """before -> transformer -> after -> classifier; before and after are a Normalize or nothing."""

    def __init__(self, before, transformer, after, classifier):
        super().__init__()
        self.before = before
        self.transformer = transformer
        self.after = after
        self.classifier = classifier

    def _view(self, x):
        return self.after(self.transformer(self.before(x)))

    def forward(self, x):
        """Images (B, C, H, W) in [0, 1] -> logits (B, classes)."""
        return self.classifier(self._view(x))

    def loss(self, x, y):
        """Mean cross-entropy of images x against labels y (B,)."""
        return F.cross_entropy(self(x), y)

    def looks(self, x):
        """The list of theta (B, 2, 3), one per look; empty for a net that cannot move its window."""
        still = isinstance(self.transformer, nn.Identity) or isinstance(self.transformer.localization, StandStill)
        return [] if still else [self.transformer.theta(self.before(x))]

    def picture(self, x):
        """What the classifier sees (B, C, view, view), normalization undone, so that 0 is black and 1 white again."""
        view = self.transformer(self.before(x))
        return self.before.undo(view) if isinstance(self.before, Normalize) else view


def build(experiment, spec):
    """Build the network of an Experiment for the images that `spec` (a World's) describes.

    Without a transformer, a classifier smaller than the canvas gets the whole picture, resized.
    """
    channels, canvas = spec["channels"], spec["canvas"]
    view = experiment.view or spec["view"]
    mean = spec["mean"] if experiment.mean is None else [experiment.mean] * channels
    std = spec["std"] if experiment.std is None else [experiment.std] * channels

    def normalize_if(place):
        return Normalize(mean, std) if experiment.normalize == place else nn.Identity()

    before = normalize_if("before")
    if experiment.model == "stnet":
        localization = localization_net(channels, canvas)
        if experiment.normalize == "localization":
            localization.insert(0, Normalize(mean, std))
        background = before(torch.tensor(spec["background"]).view(-1, 1, 1))
        transformer = SpatialTransformer(localization, (view, view), experiment.padding, background)
    elif view != canvas:
        transformer = SpatialTransformer(StandStill(), (view, view), "border")
    else:
        transformer = nn.Identity()
    classifier = classifier_net(channels, view, spec["classes"])
    return Net(before, transformer, normalize_if("after"), classifier)


def count_parameters(model):
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
