"""Networks by name. Each maps images (B, C, H, W) in [0, 1] to logits, and owns its loss and its looks."""

import torch
from torch import nn

from ..actions import ACTIONS
from ..layers import CoordConv2d, SpatialTransformer
from .nets import Net, Normalize, StandStill, classifier_net, dense_net, localization_net
from .reinforced import Policy, ReinforcedNet, ReinforcedTransformer
from .sequential import RECURRENCES, SequentialTransformer


def build(experiment, spec):
    """Build the network of an Experiment for the images that `spec` (a World's) describes.

    Without a transformer, a classifier smaller than the canvas gets the whole picture, resized.
    """

    def normalize_if(place):
        return _normalization(experiment, spec) if experiment.normalize == place else nn.Identity()

    before = normalize_if("before")
    view = experiment.view or spec["view"]
    look = {
        "size": (view, view), "padding": experiment.padding,
        "background": before(torch.tensor(spec["background"]).view(-1, 1, 1)),
    }  # fmt: skip
    transformer = _transformer(experiment, spec, look)
    if experiment.classifier == "fcn":
        classifier = dense_net(spec["channels"], view, spec["classes"])
    else:
        conv = _conv_of(experiment, "classifier")
        classifier = classifier_net(spec["channels"], view, spec["classes"], conv, experiment.width)
    parts = before, transformer, normalize_if("after"), classifier
    return ReinforcedNet(*parts, experiment.gamma, experiment.entropy) if experiment.model == "reinforced" else Net(*parts)


def _normalization(experiment, spec):
    mean = spec["mean"] if experiment.mean is None else [experiment.mean] * spec["channels"]
    std = spec["std"] if experiment.std is None else [experiment.std] * spec["channels"]
    return Normalize(mean, std)


def _conv_of(experiment, half):
    return CoordConv2d if experiment.coordconv in (half, "both") else nn.Conv2d


def _transformer(experiment, spec, look):
    """What stands before the classifier. The net that decides on the warp may have a normalization of its own."""
    if experiment.model == "convnet":
        return StandStill(look["size"])
    conv = _conv_of(experiment, "localization")
    own = [_normalization(experiment, spec)] if experiment.normalize == "localization" else []
    if experiment.model == "reinforced":
        actions, policy = ACTIONS[experiment.actions], None
        if experiment.policy == "learned":
            policy = Policy(spec["channels"], look["size"][0], len(actions), conv)
            policy.features = nn.Sequential(*own, *policy.features)
        return ReinforcedTransformer(policy, actions, experiment.steps, **look, kind=experiment.policy)
    slope = 0.01 if experiment.activation == "leaky-relu" else 0.0
    localization = nn.Sequential(*own, *localization_net(spec["channels"], spec["canvas"], conv, slope, experiment.family))
    if experiment.model == "stnet":
        return SpatialTransformer(localization, **look, family=experiment.family)
    mistakes = RECURRENCES[experiment.recurrence]
    return SequentialTransformer(localization, experiment.steps, **look, resample=experiment.resample, mistakes=mistakes)


def count_parameters(model):
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
