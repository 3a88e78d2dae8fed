"""Networks by name. Each maps images (B, C, H, W) in [0, 1] to logits, and owns its loss and its looks."""

import torch
from torch import nn

from ..actions import ACTIONS
from ..layers import CoordConv2d, SpatialTransformer
from .nets import Net, Normalize, StandStill, classifier_net, dense_net, localization_net
from .reinforced import Policy, ReinforcedNet, ReinforcedTransformer
from .sequential import RECURRENCES, SequentialTransformer

__all__ = [
    "Net", "Normalize", "Policy", "ReinforcedNet", "ReinforcedTransformer", "SequentialTransformer", "StandStill", "build",
    "classifier_net", "count_parameters", "dense_net", "localization_net",
]  # fmt: skip


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

    def conv_of(half):
        return CoordConv2d if experiment.coordconv in (half, "both") else nn.Conv2d

    before = normalize_if("before")
    look = {
        "size": (view, view), "padding": experiment.padding,
        "background": before(torch.tensor(spec["background"]).view(-1, 1, 1)),
    }  # fmt: skip
    if experiment.model in ("stnet", "sequential"):
        slope = 0.01 if experiment.activation == "leaky-relu" else 0.0
        localization = localization_net(channels, canvas, conv_of("localization"), slope, experiment.family)
        if experiment.normalize == "localization":
            localization.insert(0, Normalize(mean, std))
    if experiment.model == "stnet":
        transformer = SpatialTransformer(localization, **look, family=experiment.family)
    elif experiment.model == "sequential":
        if experiment.recurrence == "corrected":
            localization[-1].reset_parameters()  # six free numbers for the cell; the step has its own identity
        mistakes = RECURRENCES[experiment.recurrence]
        transformer = SequentialTransformer(
            localization, experiment.steps, **look, resample=experiment.resample, mistakes=mistakes
        )
    elif experiment.model == "reinforced":
        actions = ACTIONS[experiment.actions]
        policy = None
        if experiment.policy == "learned":
            policy = Policy(channels, view, len(actions), conv_of("localization"))
            if experiment.normalize == "localization":
                policy.features.insert(0, Normalize(mean, std))
        transformer = ReinforcedTransformer(policy, actions, experiment.steps, **look, kind=experiment.policy)
    else:
        transformer = StandStill((view, view))
    if experiment.classifier == "fcn":
        classifier = dense_net(channels, view, spec["classes"])
    else:
        classifier = classifier_net(channels, view, spec["classes"], conv_of("classifier"), experiment.width)
    parts = before, transformer, normalize_if("after"), classifier
    return ReinforcedNet(*parts, experiment.gamma, experiment.entropy) if experiment.model == "reinforced" else Net(*parts)


def count_parameters(model):
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
