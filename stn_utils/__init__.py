"""The small module behind the chapters: load, fit, evaluate, show, play and compare.

Each is imported when it is first asked for: torch takes a second, matplotlib another.
"""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import data, metrics, player, show, study, warp
    from .data import load
    from .experiment import Experiment, budget
    from .metrics import compare
    from .player import play
    from .run import Run
    from .spec import pick_device
    from .train import evaluate, fit

HOMES = {
    "load": "data",
    "Experiment": "experiment",
    "budget": "experiment",
    "compare": "metrics",
    "play": "player",
    "Run": "run",
    "evaluate": "train",
    "fit": "train",
    "pick_device": "spec",
    **dict.fromkeys(("data", "metrics", "player", "show", "study", "warp")),
}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f".{HOMES[name] or name}", __name__)
    return getattr(home, name) if HOMES[name] else home


def __dir__() -> list[str]:
    return [*globals(), *HOMES]


def hello() -> str:
    """The setup cell's last line: say where this notebook computes, and whether in fast mode.

    Returns the folder for what it writes: the course's `runs`. In a notebook, digits drawn from
    fonts stand in for data that cannot be had; titles say so.
    """
    from . import show, spec

    show.use_style()
    os.environ.setdefault("STN_FALLBACK", "glyphs")
    device = spec.pick_device()
    cpu = " (enough for every chapter; a GPU is a convenience)"
    print(f"Computing on {device.type}{cpu if device.type == 'cpu' else ''}.")
    if os.environ.get("STN_FAST") == "1":
        print("STN_FAST=1 took effect: live experiments are cut short; their numbers mean nothing.")
    return str(Path(__file__).parents[1] / "runs")
