"""The parts of every network, and the network that they make."""

import functools

import torch
import torch.nn.functional as F
from torch import nn

from ..layers import start_at_identity
from ..warp import FAMILIES, identity, make_grid, sample


def after_two_convs(size, first, second):
    """Side of a map after conv `first`, pool 2, conv `second`, pool 2, none of them padded."""
    return ((size - first + 1) // 2 - second + 1) // 2


def localization_net(channels, size, conv=nn.Conv2d, slope=0.0, family="affine"):
    """The PyTorch tutorial's localization net for square images: (B, channels, size, size) -> (B, 6), affine, or (B, n).

    conv: the convolution to use. slope: below 0, of the two activations after the convolutions; 0 is the tutorial's ReLU.
    family: of `warp.FAMILIES`, which says n.
    """
    side = after_two_convs(size, 7, 5)
    activation = functools.partial(nn.LeakyReLU, slope) if slope else nn.ReLU
    return nn.Sequential(
        conv(channels, 8, 7), nn.MaxPool2d(2), activation(inplace=True),
        conv(8, 10, 5), nn.MaxPool2d(2), activation(inplace=True),
        nn.Flatten(),
        nn.Linear(10 * side * side, 32), nn.ReLU(inplace=True),
        start_at_identity(nn.Linear(32, len(FAMILIES[family].identity)), family),
    )  # fmt: skip


def classifier_net(channels, size, classes, conv=nn.Conv2d, width=1.0):
    """The PyTorch tutorial's classifier for square images: (B, channels, size, size) -> logits (B, classes).

    conv: the convolution to use. width: times as many channels and hidden units as the tutorial has.
    """
    side = after_two_convs(size, 5, 5)
    first, second, hidden = (max(1, round(width * count)) for count in (10, 20, 50))
    return nn.Sequential(
        conv(channels, first, 5), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        conv(first, second, 5), nn.Dropout2d(), nn.MaxPool2d(2), nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(second * side * side, hidden), nn.ReLU(inplace=True), nn.Dropout(),
        nn.Linear(hidden, classes),
    )  # fmt: skip


def dense_net(channels, size, classes):
    """A weak classifier that cannot shift a filter: two hidden layers of 128 units, (B, channels, size, size) -> logits."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels * size * size, 128), nn.ReLU(inplace=True),
        nn.Linear(128, 128), nn.ReLU(inplace=True),
        nn.Linear(128, classes),
    )  # fmt: skip


class StandStill(nn.Module):
    """The transformer of a network without one: the whole picture, resized to `size`. It has no looks."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def looks(self, x):
        return []

    def forward(self, x):
        if x.shape[-2:] == self.size:
            return x
        return sample(x, make_grid(identity(len(x), x.device, x.dtype), self.size), "border")


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

    def forward(self, x):
        """Images (B, C, H, W) in [0, 1] -> logits (B, classes)."""
        return self.classifier(self.after(self.transformer(self.before(x))))

    def loss(self, x, y):
        """Mean cross-entropy of images x against labels y (B,)."""
        return F.cross_entropy(self(x), y)

    def looks(self, x):
        """The list of theta (B, 2, 3), one per look; empty for a net that cannot move its window."""
        return self.transformer.looks(self.before(x))

    def notes(self, x):
        """What else is worth a number an epoch: {name: tensor}."""
        return {}

    def picture(self, x, theta=None):
        """What the classifier sees (B, C, view, view), normalization undone, so that 0 is black and 1 white again.

        theta (B, 2, 3): through this window instead of the net's own.
        """
        x = self.before(x)
        view = self.transformer(x) if theta is None else self.transformer.view(x, theta)
        return self.before.undo(view) if isinstance(self.before, Normalize) else view
