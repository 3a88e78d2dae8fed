"""Small sequential transformers, and pictures to show them."""

import torch
from torch import nn

from stn_utils.layers import start_at_identity
from stn_utils.models import SequentialTransformer
from stn_utils.spec import ImageSpec

SPEC = ImageSpec(1, (28, 28), (28, 28), 10, background=[0.0], mean=[0.1307], std=[0.3081])


def localization(channels=1):
    """A small localization net for maps of any size, whose answers are of the size of what it sees."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        start_at_identity(nn.Linear(16, 6)),
    )  # fmt: skip


def new(steps, channels=1, seed=0, **options):
    torch.manual_seed(seed)
    return SequentialTransformer(localization(channels), steps, **options)


def moving(steps, channels=1, spread=0.15, **options):
    """A transformer that has left its start: every step moves the window, other images otherwise."""
    layer = new(steps, channels, **options)
    with torch.no_grad():
        nn.init.normal_(
            layer.localization[-1].weight, std=3.0 if "bounded" in layer.ways else spread
        )
        if hasattr(layer, "memory"):
            nn.init.normal_(layer.memory.weight, std=2 * spread)
    return layer


def noise(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def soft(count, side):
    """Pictures (count, 1, side, side) without an edge, no two alike."""
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij")
    return torch.stack([torch.sin(2 * x + i) * torch.cos(1.5 * y - i) for i in range(count)])[
        :, None
    ]


def seen_by_localization(layer, x):
    """What the localization net gets, a tensor a step, and the output."""
    seen = []
    handle = layer.localization.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0].clone())
    )
    out = layer(x)
    handle.remove()
    return seen, out
