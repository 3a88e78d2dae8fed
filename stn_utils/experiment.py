"""Experiment: everything that decides a result, frozen and validated."""

import os
import reprlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from .actions import ACTIONS
from .data import DATASETS, OWN, WORLDS
from .data.worlds import is_random
from .families import FAMILIES
from .models import BACKBONES, CHANNELS, CONTROLS, MODELS, PLACES, POLICIES, POSES, RECURRENCES
from .names import one_of
from .warp import PADDINGS

T = TypeVar("T")
Count = Annotated[int, Field(ge=1, le=10**6)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[Finite, Field(gt=0)]
NotNegative = Annotated[Finite, Field(ge=0)]

PLAIN = ("cnn", "cnn-no-dropout")  # classifiers of ordinary convolutions
CONVOLVED = (*PLAIN, "deformable", "rotations")  # those whose convolutions have a width
# Options of some models only: {option: models}.
BELONGS = {
    option: tuple(model for model, own in MODELS.items() if option in own)
    for options in MODELS.values()
    for option in options
}
# What fields were called when the first records were written; on disk they are called so still.
OLD_NAMES = {"view": "output_size", "clip": "grad_clip", "give_up": "patience", "fresh": "augment"}
ON_DISK = {new: old for old, new in OLD_NAMES.items()}
# What the first records say of fields that say nothing about their model.
OLD_DEFAULTS = {"recurrence": "corrected"}


def budget(full: T, fast: T) -> T:
    """Return `full`, or `fast` when the environment asks for a quick pass with STN_FAST=1."""
    return fast if os.environ.get("STN_FAST") == "1" else full


class Experiment(BaseModel):
    """What decides a result. The defaults are the course's default recipe.

    Device and threads are not part of it: give them to `fit`; they stand in the Run's provenance.
    `model_dump(by_alias=True)` calls the fields as they are called on disk.
    Raises ValueError for an unknown field or value, and names the nearest valid one.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        alias_generator=AliasGenerator(serialization_alias=lambda name: ON_DISK.get(name, name)),
    )

    dataset: Literal[(*DATASETS, OWN)] = "mnist"
    """source of the images"""
    world: Literal[(*WORLDS, OWN)] = "clean28"
    """images as they are, turned, shifted, all of it, turned by 15 degrees and tested as far or
    farther, seen aslant, bent, among clutter (two sizes), two digits to add up, photographs, or as
    S3 had them; own are pictures of yours"""
    model: Literal[tuple(MODELS)] = "stnet"
    """no transformer, one look, several looks, or moves that a policy chooses"""
    family: Literal[tuple(FAMILIES)] = "affine"
    """warps that a stnet can make"""
    windows: Annotated[int, Field(ge=1, le=16)] = 1
    """windows of a stnet; the classifier reads what they show side by side"""
    at: Literal[tuple(PLACES)] = "input"
    """where a stnet's transformer stands: it warps the picture, or the map behind a convolution of
    the classifier; shared: the picture, by what the classifier's own convolutions find in it"""
    pose: Literal[POSES] = "none"
    """a pose that is computed, not learned, comes first: from the ink's moments, or from these and
    its long axis; a transformer then corrects it"""
    steps: Annotated[int, Field(ge=1, le=100)] = 2
    """looks of a sequential, moves of a reinforced transformer"""
    recurrence: Literal[tuple(RECURRENCES)] = "composed"
    """how looks follow each other: composed; with an LSTM cell, corrected; s0's way, or with one of
    its mistakes, or one mended"""
    resample: bool = False
    """a sequential transformer warps the last warped image, not the original"""
    actions: Literal[tuple(ACTIONS)] = "all"
    """moves of a reinforced transformer"""
    policy: Literal[POLICIES] = "learned"
    """what chooses the moves; identity and random are controls"""
    gamma: Annotated[float, Field(ge=0, le=1)] = 0.98
    """discount of later rewards"""
    entropy: NotNegative = 0.05
    """bonus for a policy that stays undecided"""
    classifier: Literal[(*CONVOLVED, "fcn", *BACKBONES)] = "cnn"
    """the tutorial's, with its dropout or without; with taps that move in its second convolution;
    with every filter in eight turns, and no dropout; dense layers, which cannot shift a filter; a
    layer on a network pretrained on photographs"""
    tuned_layers: Annotated[int, Field(ge=0, le=10**3)] = 0
    """last layers of a pretrained network that learn, too"""
    coordconv: Literal["none", "localization", "classifier", "both"] = "none"
    """halves with CoordConv layers"""
    activation: Literal["relu", "leaky-relu"] = "relu"
    """what follows the localization's convolutions"""
    channels: Literal[tuple(CHANNELS)] = "tutorial"
    """channels of the convolutions: the PyTorch tutorial's, or seed project 2's for CIFAR-10"""
    width: Annotated[float, Field(gt=0, le=16)] = 1.0
    """channels and hidden units of the classifier, times this"""
    output_size: Annotated[int, Field(ge=16, le=1024)] | None = None
    """side in pixels of what the classifier sees; default: the world's"""
    normalize: Literal["before", "after", "localization", "none"] = "before"
    """normalization: before or after the transformer, for its localization net alone, or none"""
    mean: Finite | None = None
    """what normalization subtracts; default: the world's mean"""
    std: Positive | None = None
    """what it divides by; default: the world's"""
    padding: Literal[PADDINGS] = "background"
    """what the sampler reads outside the image"""
    optimizer: Literal["adam", "sgd"] = "adam"
    """optimizer"""
    lr: Positive = 1e-3
    """learning rate of the classifier"""
    loc_lr_ratio: NotNegative = 1.0
    """localization learning rate / lr"""
    grad_clip: Positive | None = None
    """largest norm of all gradients; default: no limit"""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """momentum of SGD; Adam keeps its own and wants 0 here"""
    batch_size: Count = 64
    """images per step"""
    epochs: Annotated[int, Field(ge=0, le=10**6)] = 5
    """passes over the training images"""
    patience: Count | None = None
    """end after so many epochs in a row with the grid off the image"""
    n_train: Count | None = None
    """training images; default: all"""
    augment: bool = False
    """distort the training images anew every epoch"""
    replica: bool = False
    """repeat a seed project: train on train + validation, follow the test set"""
    seed: Annotated[int, Field(ge=0, le=10**12)] = 0
    """decides weights, order, dropout, fresh pictures and what a policy draws"""

    @model_validator(mode="before")
    @classmethod
    def _names_the_nearest(cls, values):
        for name, value in values.items():
            check_field(name, value)
        model = values.get("model", cls.model_fields["model"].default)
        fields = with_new_names(values)
        for name, value in OLD_DEFAULTS.items():
            if model not in BELONGS[name] and fields.get(name) == value:
                del fields[name]
        return fields

    @model_validator(mode="after")
    def _fits_together(self):
        if self.momentum and self.optimizer != "sgd":
            self._refuse("momentum", "optimizer='sgd'", f"not {self.optimizer!r}")
        for name, models in BELONGS.items():
            if self.model not in models and self._is_set(name):
                self._refuse(name, " or ".join(models), f"not to model={self.model!r}")
        control = self.model == "reinforced" and self.policy in CONTROLS
        if self.model == "convnet" or control:
            for name in ("coordconv", "normalize"):
                value, lacks = getattr(self, name), f"this {self.model} has none"
                if value in ("localization", "both"):
                    raise ValueError(f"{name}={value!r} changes the localization net, and {lacks}.")
        for name in ("gamma", "entropy"):
            if control and self._is_set(name):
                self._refuse(name, "a policy that learns", f"policy={self.policy!r} learns nothing")
        if self.resample and self.recurrence not in ("composed", "corrected"):
            owner = "recurrence='composed' or 'corrected'"
            self._refuse("resample", owner, f"not {self.recurrence!r}")
        sized = self.width != 1 or self._is_set("channels")
        coord = self.coordconv in ("classifier", "both")
        if coord and self.classifier not in PLAIN or sized and self.classifier not in CONVOLVED:
            why = "has no convolutions to change: coordconv, channels and width are those of 'cnn'"
            raise ValueError(f"classifier={self.classifier!r} {why}.")
        if self.tuned_layers and self.classifier not in BACKBONES:
            self._refuse("tuned_layers", " or ".join(BACKBONES), f"not to {self.classifier!r}")
        if self.at != "input":
            self._refuse_at_a_map()
        if self._is_set("pose"):
            self._refuse_before_a_pose()
        if (self.dataset == OWN) != (self.world == OWN):
            got = f"got dataset={self.dataset!r} and world={self.world!r}"
            raise ValueError(f"{OWN!r} is both, or neither: {got}.")
        if self.augment and not is_random(self.world):
            raise ValueError(f"augment=True: in world={self.world!r} nothing is drawn anew.")
        return self

    def _refuse_at_a_map(self):
        at = f"at={self.at!r}"
        others = ("input", "shared") if self.classifier in BACKBONES else ("input",)
        valid = tuple(PLACES) if self.classifier in PLAIN else others
        if self.at not in valid:
            raise ValueError(
                f"{at}: classifier={self.classifier!r} has no such map. Valid: {', '.join(valid)}."
            )
        if self.normalize == "localization":
            self._refuse("normalize", "at='input'", f"not to {at}, whose net reads a map")
        for name in ("family", "windows"):
            if PLACES[self.at] and self._is_set(name):
                self._refuse(name, "at='input' or 'shared'", f"not to {at}")
        if self.at in ("conv2", "shared"):
            kinds = {"coordconv": ("localization", "both"), "activation": ("leaky-relu",)}
            for name, values in kinds.items():
                if getattr(self, name) in values:
                    why = f"changes the localization net's convolutions, and {at} leaves it none"
                    raise ValueError(f"{name}={getattr(self, name)!r} {why}.")

    def _refuse_before_a_pose(self):
        if self.at != "input" or self.windows > 1 or not FAMILIES[self.family].to_theta:
            self._refuse("pose", "one window of a theta, at='input'", "not to what comes here")
        if self.resample:
            self._refuse("resample", "pose='none'", "where a pose comes first all is composed")

    def _is_set(self, name):
        return getattr(self, name) != type(self).model_fields[name].default

    def _refuse(self, name, owner, why):
        raise ValueError(f"{name}={getattr(self, name)!r} belongs to {owner}, {why}.")

    def replace(self, **changes: Any) -> "Experiment":
        """Return a copy with some fields changed, validated like a new one."""
        return Experiment(**{**self.model_dump(), **changes})


def with_new_names(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of an Experiment, {name: value}, those of OLD_NAMES under the name they have today."""
    return {OLD_NAMES.get(name, name): value for name, value in fields.items()}


def choices(field: str) -> tuple[str, ...]:
    """The valid names of an Experiment's field, in their order; () if it takes no names."""
    kind = Experiment.model_fields[field].annotation
    return get_args(kind) if get_origin(kind) is Literal else ()


def check_field(name: str, value: Any) -> None:
    """Raise a ValueError, naming the nearest, for an unknown field or an unknown name in it."""
    name = one_of("field", OLD_NAMES.get(name, name), Experiment.model_fields)
    names = choices(name)
    if isinstance(value, bool) and Experiment.model_fields[name].annotation is not bool:
        valid = f" Valid: {', '.join(names)}." if names else ""
        yaml = "(YAML reads yes, no, on and off so, unless in quotes.)"
        raise ValueError(f"{name}: {value} is no value of it.{valid} {yaml}")
    if names:
        one_of(name, value, names)


def check_each(fields: Mapping[str, Any]) -> None:
    """Raise a ValueError for a field that is wrong whatever will stand beside it."""
    for name, value in fields.items():
        check_field(name, value)
    try:
        Experiment.model_validate(fields)
    except ValidationError as error:
        if error.errors()[0]["loc"]:
            raise


def explain(error: Exception) -> str:
    """An error in one line: pydantic's has three a fault, the system's begins with a number."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror or error}."
    if not isinstance(error, ValidationError):
        return str(error)
    faults = []
    for fault in error.errors():
        where = ".".join(map(str, fault["loc"]))
        got = f", got {reprlib.repr(fault['input']):.100}."
        message = fault["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        named = where and fault["type"] != "missing"
        faults.append((f"{where}: " if where else "") + message + (got if named else ""))
    return "; ".join(faults)
