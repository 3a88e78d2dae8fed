"""The parts of every network, and the network that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..families import FAMILIES
from ..layers import CoordConv2d, SpatialTransformerBase, start_at_identity
from ..spec import ImageSpec, Size
from ..warp import expect_images, identity, make_grid, sample
from .instead import DeformableConv2d, RotationConv2d

if TYPE_CHECKING:
    from ..experiment import Experiment  # which takes its choices from here

Conv = Callable[..., nn.Module]  # nn.Conv2d, or a layer that takes the same arguments


# Channels after the two convolutions of the localization net, and of the classifier: the PyTorch
# tutorial's, and those that vvshankar78's notebook has for CIFAR-10 (seed project 2).
CHANNELS = {"tutorial": ((8, 10), (10, 20)), "s2": ((64, 128), (32, 64))}


# What a convolution of the localization net, and of the classifier, spans.
LOCALIZATION_KERNELS, CLASSIFIER_KERNELS = (7, 5), (5, 5)


def map_size(size: Size, *kernels: int) -> Size:
    """Size (h, w) of a map after convolutions with these kernels, unpadded, each pooled by 2.

    Raises ValueError for an image of which nothing would be left.
    """
    least = 1
    for kernel in reversed(kernels):
        least = 2 * least + kernel - 1
    if min(size) < least:
        raise ValueError(f"size: expected at least {least} pixels a side, got {size[0]}x{size[1]}.")
    height, width = size
    for kernel in kernels:
        height, width = (height - kernel + 1) // 2, (width - kernel + 1) // 2
    return height, width


def conv_of(experiment: Experiment, half: str) -> Conv:
    """The convolution of a half, localization or classifier."""
    return CoordConv2d if experiment.coordconv in (half, "both") else nn.Conv2d


def localization_net(
    experiment: Experiment, channels: int, size: Size, convs: int = 0
) -> nn.Sequential:
    """The PyTorch tutorial's localization net: (B, channels, *size) -> (B, 6), affine, or (B, n).

    size: (h, w). convs: how many of its convolutions it lacks, as many as have made what it reads.
    """
    conv = conv_of(experiment, "localization")
    family, windows = experiment.family, experiment.windows
    numbers = len(FAMILIES[family].identity)
    leaky, kernels = experiment.activation == "leaky-relu", LOCALIZATION_KERNELS[convs:]
    layers: list[nn.Module] = []
    after = CHANNELS[experiment.channels][0][convs:]
    for count, kernel in zip(after, kernels, strict=True):
        activation = nn.LeakyReLU(0.01, inplace=True) if leaky else nn.ReLU(inplace=True)
        layers += [conv(channels, count, kernel), nn.MaxPool2d(2), activation]
        channels = count
    height, width = map_size(size, *kernels)
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Linear(channels * height * width, 32),
        nn.ReLU(inplace=True),
        start_at_identity(nn.Linear(32, numbers * windows), family, windows),
    )


def widen(counts: tuple[int, ...], width: float) -> list[int]:
    """Numbers of channels, or of hidden units, times a width; at least 1 each."""
    return [max(1, round(width * count)) for count in counts]


def classifier_net(
    experiment: Experiment, channels: int, size: Size, classes: int
) -> nn.Sequential:
    """The classifier: (B, channels, *size) -> logits (B, classes).

    cnn: the PyTorch tutorial's. It drops channels before it pools them, which comes to the same
    bits; here a transformer may read them whole. cnn-no-dropout: it drops nothing. deformable,
    rotations: the same with other convolutions; rotations drops nothing. fcn: two hidden layers of
    128 units, a weak one, which cannot shift a filter.
    """
    height, width = size
    if experiment.classifier == "fcn":
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * height * width, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, classes),
        )
    conv = conv_of(experiment, "classifier")
    rows, columns = map_size(size, *CLASSIFIER_KERNELS)
    first, second, hidden = widen((*CHANNELS[experiment.channels][1], 50), experiment.width)
    convs: list[nn.Module] = [conv(channels, first, 5), conv(first, second, 5)]
    dropout = 0.0 if experiment.classifier == "cnn-no-dropout" else 0.5
    if experiment.classifier == "deformable":
        convs[1] = DeformableConv2d(first, second, 5)
    if experiment.classifier == "rotations":
        # Of the eight turns of every filter the strongest goes on: a pooling over channels.
        second_conv = nn.Sequential(RotationConv2d(first, second, 5), nn.MaxPool3d((8, 1, 1)))
        convs = [RotationConv2d(channels, first, 5, lifts=True), second_conv]
        dropout = 0.0  # with it such a net stayed at chance for six epochs
    halved = [layer for conv in convs for layer in (conv, nn.MaxPool2d(2), nn.ReLU(inplace=True))]
    return nn.Sequential(
        *halved,
        nn.Dropout2d(dropout),
        nn.Flatten(),
        nn.Linear(second * rows * columns, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, classes),
    )


class Resize(SpatialTransformerBase):
    """What stands in a network without a transformer: the whole picture, resized. No looks."""

    def trace(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """No parameters, and x at this layer's size."""
        if x.shape[-2:] == self.size:
            return [], x
        whole = identity(x.shape[0], x.device, x.dtype)
        return [], sample(x, make_grid(whole, self._size(x)), "border")


class Normalize(nn.Module):
    """(x - mean) / std per channel; mean and std are lists, one number a channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std

    def undo(self, x: Tensor) -> Tensor:
        """The images that were normalized."""
        return x * self.std + self.mean


class Trace(NamedTuple):
    """One pass of a network, for those who want more of it than the logits (B, classes).

    parameters: those (B, n) of every look, in the transformer's family. x_warped (B, C, h, w): what
    the transformer handed on, in the network's own units. metrics: what else is worth a number an
    epoch, {name: tensor (B,)}.
    """

    logits: Tensor
    parameters: list[Tensor]
    x_warped: Tensor
    metrics: dict[str, Tensor] = {}


class Net(nn.Module):
    """input_norm -> transformer -> output_norm -> classifier; a norm is a Normalize or nothing."""

    def __init__(
        self,
        input_norm: nn.Module,
        transformer: SpatialTransformerBase,
        output_norm: nn.Module,
        classifier: nn.Module,
    ) -> None:
        super().__init__()
        self.input_norm = input_norm
        self.transformer = transformer
        self.output_norm = output_norm
        self.classifier = classifier
        self.spec: ImageSpec | None = None  # what `build` made it for

    def normalize(self, x: Tensor) -> Tensor:
        """What the transformer gets of images; a ValueError, saying what came, for other things."""
        expect_images(x)
        if self.spec and x.shape[1:] != (self.spec.channels, *self.spec.size):
            shape = f"(B, {self.spec.channels}, {self.spec.size[0]}, {self.spec.size[1]})"
            raise ValueError(f"x: expected images {shape}, got {tuple(x.shape)}.")
        return self.input_norm(x)

    def classify(self, x_warped: Tensor) -> Tensor:
        """Logits (B, classes) of what a transformer has handed on."""
        return self.classifier(self.output_norm(x_warped))

    def trace(self, x: Tensor) -> Trace:
        """One pass over images (B, C, H, W) in [0, 1], with all that it found."""
        parameters, x_warped = self.transformer.trace(self.normalize(x))
        return Trace(self.classify(x_warped), parameters, x_warped)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> logits (B, classes)."""
        return self.trace(x).logits

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of images x against labels y (B,)."""
        return F.cross_entropy(self(x), y)

    def clip_gradients(self, norm: float) -> None:
        """Cut the gradient to this norm."""
        nn.utils.clip_grad_norm_(self.parameters(), norm)

    def looks(self, x: Tensor) -> list[Tensor]:
        """A theta (B, 2, 3), or a grid, per look; empty for a net that cannot move its window."""
        return [self.transformer.look(x, numbers) for numbers in self.trace(x).parameters]

    def logits_through(self, x: Tensor, look: Tensor) -> Tensor:
        """Logits of images x seen through a look, theta (B, 2, 3) or a grid, not the net's own."""
        return self.classify(self.transformer.warp_through(self.normalize(x), look))

    def warped(self, x: Tensor, look: Tensor | None = None) -> Tensor:
        """What the classifier sees (B, C, h, w), normalization undone: 0 is black, 1 white again.

        look: through this one, theta (B, 2, 3) or a grid, instead of the net's own.
        """
        if look is None:
            seen = self.trace(x).x_warped
        else:
            seen = self.transformer.warp_through(self.normalize(x), look)
        return self.denormalize(seen)

    def denormalize(self, x_warped: Tensor) -> Tensor:
        """Undo the normalization before the transformer, if there is one."""
        norm = self.input_norm
        return norm.undo(x_warped) if isinstance(norm, Normalize) else x_warped


def transformers(net: nn.Module) -> list[SpatialTransformerBase]:
    """The transformers of a network, wherever they stand in it; not what is a part of another."""
    found = [module for module in net.modules() if isinstance(module, SpatialTransformerBase)]
    parts = {part for whole in found for part in whole.modules() if part is not whole}
    return [module for module in found if module not in parts]
