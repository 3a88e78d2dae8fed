"""Networks by name: images (B, C, H, W) in [0, 1] -> logits; each owns its loss and its looks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from ..actions import ACTIONS
from ..layers import SpatialTransformer
from ..spec import ImageSpec
from .backbone import BACKBONES, MAP_SIZE, Backbone
from .depth import PLACES, FeatureNet, SharedNet
from .instead import POSES, Canonical, Moments
from .nets import (
    CHANNELS,
    CLASSIFIER_KERNELS,
    Net,
    Normalize,
    Resize,
    Trace,
    classifier_net,
    conv_of,
    localization_net,
    map_size,
    transformers,
    widen,
)
from .reinforced import CONTROLS, POLICIES, Policy, ReinforcedNet, ReinforcedTransformer
from .sequential import RECURRENCES, SequentialTransformer

if TYPE_CHECKING:
    from ..experiment import Experiment  # which takes its choices from here

MODELS = {  # the options that each has of its own
    "convnet": ("pose",),
    "stnet": ("activation", "family", "windows", "at", "pose"),
    "sequential": ("activation", "steps", "recurrence", "resample", "pose"),
    "reinforced": ("steps", "actions", "policy", "gamma", "entropy"),
}


def build(experiment: Experiment, spec: ImageSpec) -> Net:
    """Build the network of an Experiment for the images that `spec` (a World's) describes.

    Without a transformer, a classifier smaller than the canvas gets the whole picture, resized.
    """

    def normalize_if(place):
        return _normalization(experiment, spec) if experiment.normalize == place else nn.Identity()

    input_norm = normalize_if("before")
    side = experiment.output_size
    size = (side, side) if side else spec.output_size
    sampler = {
        "size": size,
        "padding": experiment.padding,
        "background": input_norm(torch.tensor(spec.background).view(-1, 1, 1)),
    }
    transformer = _transformer(experiment, spec, sampler)
    if experiment.pose != "none":
        pose = Moments(sampler["background"], upright=experiment.pose == "axis")
        transformer = Canonical(pose, transformer)
    classifier = _classifier(experiment, spec, (size[0], experiment.windows * size[1]))
    parts = input_norm, transformer, normalize_if("after"), classifier
    net: Net
    if experiment.model == "reinforced":
        net = ReinforcedNet(*parts, gamma=experiment.gamma, entropy_bonus=experiment.entropy)
    elif places := PLACES[experiment.at]:
        inside = _inside(experiment, spec.size, sampler, places)
        net = FeatureNet(*parts, size=spec.size, inside=inside)
    else:
        net = (SharedNet if experiment.at == "shared" else Net)(*parts)
    net.spec = spec
    return net


def _normalization(experiment, spec):
    known = BACKBONES.get(experiment.classifier, spec)
    mean = known.mean if experiment.mean is None else [experiment.mean] * spec.channels
    std = known.std if experiment.std is None else [experiment.std] * spec.channels
    return Normalize(mean, std)


def _classifier(experiment, spec, size):
    name, channels = experiment.classifier, spec.channels
    if name not in BACKBONES:
        return classifier_net(experiment, channels, size, spec.classes)
    if channels != 3:
        raise ValueError(f"{name} knows pictures in colour, these have {channels} channel.")
    return Backbone(name, spec.classes, experiment.tuned_layers, experiment.windows)


def _transformer(experiment, spec, sampler):
    """What stands before the classifier; a net that decides may have its own normalization."""
    if experiment.model == "convnet" or PLACES[experiment.at]:
        return Resize(**sampler)
    steps = experiment.steps
    own = [_normalization(experiment, spec)] if experiment.normalize == "localization" else []
    if experiment.model == "reinforced":
        actions, policy = ACTIONS[experiment.actions], None
        if experiment.policy not in CONTROLS:
            conv = conv_of(experiment, "localization")
            policy = Policy(spec.channels, sampler["size"], len(actions), conv)
            policy.features = nn.Sequential(*own, *policy.features)
        return ReinforcedTransformer(policy, actions, steps, **sampler, kind=experiment.policy)
    if experiment.at == "shared":
        localization = _reading_a_map(experiment, spec.size, len(CLASSIFIER_KERNELS))
    else:
        layers = localization_net(experiment, spec.channels, spec.size)
        localization = nn.Sequential(*own, *layers)
    if experiment.model == "stnet":
        return SpatialTransformer(
            localization, **sampler, family=experiment.family, windows=experiment.windows
        )
    ways = RECURRENCES[experiment.recurrence]
    return SequentialTransformer(
        localization, steps, **sampler, resample=experiment.resample, ways=ways
    )


def _reading_a_map(experiment, size, convs):
    """The localization net of what the classifier's first convolutions make of a picture (h, w)."""
    if known := BACKBONES.get(experiment.classifier):
        return localization_net(experiment, known.map[1], MAP_SIZE, convs)
    channels = widen(CHANNELS[experiment.channels][1], experiment.width)[convs - 1]
    return localization_net(
        experiment, channels, map_size(size, *CLASSIFIER_KERNELS[:convs]), convs
    )


def _inside(experiment, size, sampler, places):
    """The transformers of maps, {convolutions: transformer}; the first one brings it to size."""
    padding = "zeros" if sampler["padding"] == "background" else sampler["padding"]
    inside = {}
    for convs in places:
        localization = _reading_a_map(experiment, size, convs)
        size = sampler["size"]
        size_out = map_size(size, *CLASSIFIER_KERNELS[:convs])
        inside[convs] = SpatialTransformer(localization, size_out, padding)
    return inside


def count_parameters(model: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
