"""The small module behind the chapters: load, fit, evaluate, show, play and compare."""

import importlib
import os
from types import ModuleType
from typing import Any

from . import data, metrics, study, warp
from .data import load
from .experiment import Experiment, budget
from .metrics import compare
from .run import Run
from .train import evaluate, fit, pick_device


def __getattr__(name: str) -> ModuleType | Any:
    """What draws is imported when it is asked for: matplotlib takes a second."""
    if name == "play":
        return importlib.import_module(".player", __name__).play
    if name in ("show", "player"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def hello() -> None:
    """The setup cell's last line: where this notebook computes, and whether in fast mode."""
    from . import show

    show.use_style()
    device = pick_device()
    cpu = " (enough for every chapter; a GPU is a convenience)"
    print(f"Computing on {device.type}{cpu if device.type == 'cpu' else ''}.")
    if os.environ.get("STN_FAST") == "1":
        print("STN_FAST=1 took effect: live experiments are cut short; their numbers mean nothing.")
