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


class Net(nn.Module):
    """normalize -> transformer -> classifier, with normalization `before` or `after` the transformer, or `none`."""

    def __init__(self, transformer, classifier, normalize, mean, std):
        super().__init__()
        self.transformer = transformer
        self.classifier = classifier
        self.normalize = normalize
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def _prepare(self, x):
        return (x - self.mean) / self.std if self.normalize == "before" else x

    def _view(self, x):
        x_warped = self.transformer(self._prepare(x))
        return (x_warped - self.mean) / self.std if self.normalize == "after" else x_warped

    def forward(self, x):
        """Images (B, C, H, W) in [0, 1] -> logits (B, classes)."""
        return self.classifier(self._view(x))

    def loss(self, x, y):
        """Mean cross-entropy of images x against labels y (B,)."""
        return F.cross_entropy(self(x), y)

    def looks(self, x):
        """The list of theta (B, 2, 3), one per look; empty for a net that cannot move its window."""
        still = isinstance(self.transformer, nn.Identity) or isinstance(self.transformer.localization, StandStill)
        return [] if still else [self.transformer.theta(self._prepare(x))]

    def picture(self, x):
        """What the classifier sees (B, C, view, view), normalization undone, so that 0 is black and 1 white again."""
        view = self._view(x)
        return view if self.normalize == "none" else view * self.std + self.mean


def build(experiment, spec):
    """Build the network of an Experiment for the images that `spec` (a World's) describes.

    Without a transformer, a classifier smaller than the canvas gets the whole picture, resized.
    """
    channels, canvas = spec["channels"], spec["canvas"]
    view = experiment.view or spec["view"]
    background = torch.tensor(spec["background"]).view(-1, 1, 1)
    if experiment.normalize == "before":
        background = (background - torch.tensor(spec["mean"]).view(-1, 1, 1)) / torch.tensor(spec["std"]).view(-1, 1, 1)
    if experiment.model == "stnet":
        localization = localization_net(channels, canvas)
        transformer = SpatialTransformer(localization, (view, view), experiment.padding, background)
    elif view != canvas:
        transformer = SpatialTransformer(StandStill(), (view, view), "border")
    else:
        transformer = nn.Identity()
    classifier = classifier_net(channels, view, spec["classes"])
    return Net(transformer, classifier, experiment.normalize, spec["mean"], spec["std"])


def count_parameters(model):
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
