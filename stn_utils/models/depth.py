"""A transformer in the depth of a network: on its feature maps, or reading them."""

from typing import Any

import torch
from torch import Tensor, nn

from ..layers import SpatialTransformer
from ..spec import Size
from ..warp import at_least_single, compose, identity, invert
from .backbone import Backbone
from .nets import CLASSIFIER_KERNELS, Net, Trace, map_size

# Where a transformer stands: it warps the picture, or what so many of the classifier's convolutions
# have made of it, or both of their maps. shared: it warps the picture, and its localization net
# reads the classifier's own maps of it (SL in Finnveden et al. 2020).
PLACES: dict[str, tuple[int, ...]] = {
    "input": (),
    "conv1": (1,),
    "conv2": (2,),
    "conv1+conv2": (1, 2),
    "shared": (),
}
LAYERS = 3  # of the classifier, a convolution: itself, its pooling, its activation


def frame(size: Size, convs: int) -> Tensor:
    """The part of a picture (H, W) that its map lies on, as theta (1, 2, 3).

    convs: how many of the classifier's convolutions have made the map. Unpadded, each costs the
    picture its rim. Convention: theta maps the map's coordinates to the picture's, pixel-area.
    """
    kernels, margin, stride = CLASSIFIER_KERNELS[:convs], 0.0, 1
    for kernel in kernels:
        margin += stride * (kernel - 1) / 2
        stride *= 2
    spans = torch.tensor(map_size(size, *kernels)[::-1]) * stride
    sides = torch.tensor(size[::-1])
    scale, shift = spans / sides, (2 * margin + spans) / sides - 1
    return torch.cat([scale.diag(), shift[:, None]], dim=1)[None]


class FeatureNet(Net):
    """A Net whose transformers warp feature maps: the classifier's, after some convolutions.

    parts: those of a Net; its transformer is that of a network without one: what the picture
    becomes if nothing moves. size: (H, W) of the pictures. inside: {after how many convolutions:
    transformer}, in this order. Each look is told as the theta of the picture that moves the centre
    of every receptive field as the map is moved, so it can be drawn on the picture; x_warped is the
    picture through the last one. Where the padding is `background`, a map is padded with what the
    classifier makes of a blank picture: a shift of the map is then one of the picture, while
    nothing leaves the map.
    """

    before: Tensor
    after: Tensor

    def __init__(self, *parts: Any, size: Size, inside: dict[int, SpatialTransformer]) -> None:
        super().__init__(*parts)
        self.convs, self.inside = tuple(inside), nn.ModuleList(inside.values())
        size_out = self.transformer.size or size
        sizes = [size, *[size_out] * (len(inside) - 1)]  # the first one brings it to that size
        before = [frame(each, convs) for each, convs in zip(sizes, inside)]
        after = [invert(frame(size_out, convs)) for convs in inside]
        self.register_buffer("before", torch.cat(before), persistent=False)
        self.register_buffer("after", torch.cat(after), persistent=False)

    def _pass(self, x):
        """Logits of normalized images, and every look as (B, 6)."""
        blank = self.transformer.background.expand(1, *x.shape[1:])
        seen, blank, done = self.output_norm(x), self.output_norm(blank), 0
        theta, looks = at_least_single(identity(x.shape[0], x.device, x.dtype)), []
        for i, (convs, transformer) in enumerate(zip(self.convs, self.inside)):
            layers, done = self.classifier[done : LAYERS * convs], LAYERS * convs
            seen, blank = layers(seen), layers(blank)
            level = blank.mean(dim=(2, 3), keepdim=True) * (
                self.transformer.padding == "background"
            )
            (numbers,), warped = transformer.trace(seen - level)
            on_map = compose(self.before[i : i + 1], transformer.look(seen, numbers))
            theta = compose(theta, compose(on_map, self.after[i : i + 1]))
            looks.append(theta.flatten(1))
            seen, blank = warped + level, level.expand(-1, -1, *warped.shape[2:])
        return self.classifier[done:](seen), looks

    def trace(self, x: Tensor) -> Trace:
        """As `Net.trace`."""
        x = self.normalize(x)
        logits, looks = self._pass(x)
        return Trace(logits, looks, self.transformer.warp_through(x, looks[-1].view(-1, 2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] -> logits (B, classes)."""
        return self._pass(self.normalize(x))[0]


class SharedNet(Net):
    """A Net that reads the theta of a picture from its classifier's own maps, then warps it."""

    transformer: SpatialTransformer
    classifier: nn.Sequential | Backbone

    def _maps(self, x):
        if isinstance(self.classifier, Backbone):
            return self.classifier.maps(x)
        return self.classifier[: LAYERS * len(CLASSIFIER_KERNELS)](x)

    def trace(self, x: Tensor) -> Trace:
        """As `Net.trace`."""
        x = self.normalize(x)
        parameters, warped = self.transformer.trace(x, self._maps(self.output_norm(x)))
        return Trace(self.classify(warped), parameters, warped)
