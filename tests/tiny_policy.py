"""Small reinforced transformers and nets, and pictures for them."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from stn_utils.actions import ACTIONS, STAY
from stn_utils.models import CONTROLS, Policy, ReinforcedNet, ReinforcedTransformer
from stn_utils.spec import ImageSpec
from stn_utils.warp import affine

SPEC = ImageSpec(1, (28, 28), (28, 28), 10, background=[0.0], mean=[0.1307], std=[0.3081])
SIDE = 16
LEFT, RIGHT = ("left", affine(shift_x=-0.25)), ("right", affine(shift_x=0.25))
THREE = [STAY, LEFT, RIGHT]


def noise(*shape, seed=1):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(kind="learned", actions="all", steps=3, size=(SIDE, SIDE), channels=1, seed=0, **options):
    """A transformer; its policy at its start."""
    torch.manual_seed(seed)
    actions = ACTIONS[actions] if isinstance(actions, str) else actions
    policy = Policy(channels, size, len(actions)) if kind not in CONTROLS else None
    return ReinforcedTransformer(policy, actions, steps, size, kind=kind, **options)


@torch.no_grad()
def opinionated(transformer):
    """The same, its policy no longer undecided: every image has moves of its own."""
    torch.manual_seed(5)
    policy, side = transformer.policy, transformer.size[0]
    for layer in policy.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.normal_(layer.weight, std=2 / math.sqrt(layer.weight[0].numel()))
    nn.init.normal_(policy.choice.weight, std=4.0)
    seen = batch(50, side)[0].expand(50, policy.features[0].in_channels, side, side)
    policy.choice.bias -= policy(seen, torch.zeros(50, len(transformer.moves)), None)[0].mean(
        dim=0
    )  # no favourite
    return transformer


class Classifier(nn.Sequential):
    """A linear one with dropout in it."""

    def __init__(self, side=SIDE, classes=10, dropout=0.5):
        super().__init__(nn.Flatten(), nn.Dropout(dropout), nn.Linear(side * side, classes))


def net_of(transformer, classifier=None, **options):
    torch.manual_seed(3)
    classifier = classifier or Classifier(transformer.size[0])
    return ReinforcedNet(nn.Identity(), transformer, nn.Identity(), classifier, **options)


def batch(count=6, side=SIDE):
    """Pictures of a few soft spots each, and their classes."""
    spots = F.interpolate(noise(count, 1, 4, 4).pow(3), (side, side), mode="bilinear")
    return spots, torch.arange(count) % 10


def product(moves, numbers):
    """The matrices of those moves multiplied in their order, in float64 (2, 3)."""
    total = torch.eye(3, dtype=torch.float64)
    for number in numbers:
        total = total @ torch.cat([moves[number].double(), torch.tensor([[0, 0, 1.0]]).double()])
    return total[:2].float()
