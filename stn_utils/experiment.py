"""Experiment: everything that decides a result, frozen and validated."""

import difflib
import os
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator


def one_of(what, value, valid):
    """Return `value` if it is among the `valid` names; else raise a ValueError that names the nearest."""
    if value in valid:
        return value
    near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {value!r}.{hint} Valid: {', '.join(valid)}.")


def budget(full, fast):
    """Return `full`, or `fast` when the environment asks for a quick pass with STN_FAST=1."""
    return fast if os.environ.get("STN_FAST") == "1" else full


class Experiment(BaseModel):
    """What decides a result. The defaults are the course's default recipe.

    Device and threads are not part of it: give them to `fit`; they stand in the Run's provenance.
    Raises ValueError for an unknown field or value, and names the nearest valid one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal["mnist", "fashion-mnist", "glyphs"] = Field("mnist", description="source of the images")
    world: Literal["clean28", "rotated28", "translated42"] = Field("clean28", description="how the images are distorted")
    model: Literal["convnet", "stnet"] = Field("stnet", description="network")
    view: int | None = Field(None, ge=16, description="side in pixels of what the classifier sees; default: the world's")
    normalize: Literal["before", "after", "none"] = Field("before", description="normalization, relative to the transformer")
    padding: Literal["zeros", "border", "reflection", "background"] = Field(
        "background", description="what the sampler reads outside the image"
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="optimizer")
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False, description="learning rate of the classifier")
    loc_lr_ratio: float = Field(1.0, ge=0, allow_inf_nan=False, description="localization learning rate / lr")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of SGD; Adam keeps its own and wants 0 here")
    batch_size: int = Field(64, ge=1, description="images per step")
    epochs: int = Field(5, ge=0, description="passes over the training images")
    n_train: int | None = Field(None, ge=1, description="training images; default: all")
    replica: bool = Field(False, description="repeat a seed project: train on train + validation, follow the test set")
    seed: int = Field(0, ge=0, description="decides weights, order and dropout")

    @model_validator(mode="before")
    @classmethod
    def _names_the_nearest(cls, values):
        for name, value in values.items():
            one_of("field", name, list(cls.model_fields))
            kind = cls.model_fields[name].annotation
            if get_origin(kind) is Literal:
                one_of(name, value, get_args(kind))
        return values

    @model_validator(mode="after")
    def _fits_together(self):
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum={self.momentum} belongs to optimizer='sgd', not {self.optimizer!r}.")
        return self

    def but(self, **changes):
        """Return a copy with some fields changed, validated like a new one."""
        return Experiment(**{**self.model_dump(), **changes})


def choices(field):
    """The valid names of an Experiment's field, in the order of their declaration."""
    return get_args(Experiment.model_fields[field].annotation)
