"""Experiment: everything that decides a result, frozen and validated."""

import difflib
import os
from typing import Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


def one_of(what, value, valid):
    """Return `value` if it is among the `valid` names; else raise a ValueError that names the nearest."""
    if value in valid:
        return value
    near = difflib.get_close_matches(str(value), valid, n=1, cutoff=0.57)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {value!r}.{hint} Valid: {', '.join(valid)}.")


def budget(full, fast):
    """Return `full`, or `fast` when the environment asks for a quick pass with STN_FAST=1."""
    return fast if os.environ.get("STN_FAST") == "1" else full


BELONGS = {  # options of some models only
    "activation": ("stnet", "sequential"), "family": ("stnet",), "steps": ("sequential", "reinforced"),
    "recurrence": ("sequential",), "resample": ("sequential",), "actions": ("reinforced",), "policy": ("reinforced",),
    "gamma": ("reinforced",), "entropy": ("reinforced",),
}  # fmt: skip


class Experiment(BaseModel):
    """What decides a result. The defaults are the course's default recipe.

    Device and threads are not part of it: give them to `fit`; they stand in the Run's provenance.
    Raises ValueError for an unknown field or value, and names the nearest valid one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal["mnist", "fashion-mnist", "glyphs"] = Field("mnist", description="source of the images")
    world: Literal["clean28", "rotated28", "translated42", "rts42", "cluttered40", "cluttered60", "s3"] = Field(
        "clean28", description="images as they are, turned, shifted, all of it, among clutter (two sizes), or as S3 had them"
    )
    model: Literal["convnet", "stnet", "sequential", "reinforced"] = Field(
        "stnet", description="no transformer, one look, several looks, or moves that a policy chooses"
    )
    family: Literal["affine", "rotation", "shift-scale"] = Field("affine", description="warps that a stnet can make")
    steps: int = Field(2, ge=1, description="looks of a sequential, moves of a reinforced transformer")
    recurrence: Literal["corrected", "blind", "forgets", "s0", "s0-looks", "s0-remembers", "s0-unbounded"] = Field(
        "corrected", description="how looks follow each other; s0's way, or with one of its mistakes, or one mended"
    )
    resample: bool = Field(False, description="a sequential transformer warps the last warped image, not the original")
    actions: Literal["s0", "turns", "shifts-zooms", "all"] = Field("all", description="moves of a reinforced transformer")
    policy: Literal["learned", "identity", "random"] = Field("learned", description="what chooses the moves; two are controls")
    gamma: float = Field(0.98, ge=0, le=1, description="discount of later rewards")
    entropy: float = Field(0.05, ge=0, allow_inf_nan=False, description="bonus for a policy that stays undecided")
    classifier: Literal["cnn", "fcn"] = Field("cnn", description="the tutorial's, or dense layers, which cannot shift a filter")
    coordconv: Literal["none", "localization", "classifier", "both"] = Field("none", description="halves with CoordConv layers")
    activation: Literal["relu", "leaky-relu"] = Field("relu", description="what follows the localization's convolutions")
    width: float = Field(1.0, gt=0, le=16, description="channels and hidden units of the classifier, times this")
    view: int | None = Field(None, ge=16, description="side in pixels of what the classifier sees; default: the world's")
    normalize: Literal["before", "after", "localization", "none"] = Field(
        "before", description="normalization: before or after the transformer, for its localization net alone, or none"
    )
    mean: float | None = Field(None, allow_inf_nan=False, description="what normalization subtracts; default: the world's mean")
    std: float | None = Field(None, gt=0, allow_inf_nan=False, description="what it divides by; default: the world's")
    padding: Literal["zeros", "border", "reflection", "background"] = Field(
        "background", description="what the sampler reads outside the image"
    )
    optimizer: Literal["adam", "sgd"] = Field("adam", description="optimizer")
    lr: float = Field(1e-3, gt=0, allow_inf_nan=False, description="learning rate of the classifier")
    loc_lr_ratio: float = Field(1.0, ge=0, allow_inf_nan=False, description="localization learning rate / lr")
    clip: float | None = Field(None, gt=0, allow_inf_nan=False, description="largest norm of all gradients; default: no limit")
    momentum: float = Field(0.0, ge=0, lt=1, description="momentum of SGD; Adam keeps its own and wants 0 here")
    batch_size: int = Field(64, ge=1, description="images per step")
    epochs: int = Field(5, ge=0, description="passes over the training images")
    give_up: int | None = Field(None, ge=1, description="end after so many epochs in a row with the grid off the image")
    n_train: int | None = Field(None, ge=1, description="training images; default: all")
    fresh: bool = Field(False, description="distort the training images anew every epoch")
    replica: bool = Field(False, description="repeat a seed project: train on train + validation, follow the test set")
    seed: int = Field(0, ge=0, le=10**12, description="decides weights, order, dropout, fresh pictures and what a policy draws")

    @model_validator(mode="before")
    @classmethod
    def _names_the_nearest(cls, values):
        for name, value in values.items():
            check_field(name, value)
        return values

    @model_validator(mode="after")
    def _fits_together(self):
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum={self.momentum} belongs to optimizer='sgd', not {self.optimizer!r}.")
        for name, models in BELONGS.items():
            value = getattr(self, name)
            if self.model not in models and value != type(self).model_fields[name].default:
                raise ValueError(f"{name}={value!r} belongs to {' or '.join(models)}, not to model={self.model!r}.")
        if self.model == "convnet" or (self.model == "reinforced" and self.policy != "learned"):
            for name, value in (("coordconv", self.coordconv), ("normalize", self.normalize)):
                if value in ("localization", "both"):
                    raise ValueError(f"{name}={value!r} changes the localization net, and this {self.model} has none.")
        if self.resample and self.recurrence != "corrected":
            raise ValueError(f"resample=True belongs to recurrence='corrected', not {self.recurrence!r}.")
        if self.classifier == "fcn" and (self.coordconv in ("classifier", "both") or self.width != 1):
            raise ValueError("classifier='fcn' has no convolutions and one width: coordconv and width change those of 'cnn'.")
        return self

    def but(self, **changes):
        """Return a copy with some fields changed, validated like a new one."""
        return Experiment(**{**self.model_dump(), **changes})


def choices(field):
    """The valid names of an Experiment's field, in the order of their declaration; () if it takes no names."""
    kind = Experiment.model_fields[field].annotation
    return get_args(kind) if get_origin(kind) is Literal else ()


def check_field(name, value):
    """Raise a ValueError that names the nearest valid one for an unknown field, or an unknown name as its value."""
    one_of("field", name, list(Experiment.model_fields))
    if isinstance(value, bool) and Experiment.model_fields[name].annotation is not bool:
        valid = f" Valid: {', '.join(choices(name))}." if choices(name) else ""
        raise ValueError(f"{name}: {value} is no value of it.{valid} (YAML reads yes, no, on and off so, unless in quotes.)")
    if choices(name):
        one_of(name, value, choices(name))


def explain(error):
    """An error in one line; pydantic's own text has three lines a fault, the system's begins with a number."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror or error}."
    if not isinstance(error, ValidationError):
        return str(error)
    faults = []
    for fault in error.errors():
        where = ".".join(map(str, fault["loc"]))
        got = f", got {fault['input']!r}." if where and fault["type"] != "missing" else ""
        message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        faults.append((f"{where}: " if where else "") + message + got)
    return "; ".join(faults)
