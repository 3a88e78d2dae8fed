"""stn_utils: the small module behind the chapters. The verbs are load, fit, evaluate, show, play and compare."""

import os

from . import data, metrics, player, show, squares, study, warp
from .data import load
from .experiment import Experiment, budget
from .metrics import compare
from .player import play
from .run import Run
from .train import evaluate, fit, pick_device


def hello():
    """The setup cell's last line: where this notebook computes, and whether it runs in fast mode."""
    device = pick_device()
    hint = " (enough for every chapter; a GPU is a convenience)" if device.type == "cpu" else ""
    print(f"Computing on {device.type}{hint}.")
    if os.environ.get("STN_FAST") == "1":
        print("STN_FAST=1 took effect: live experiments are cut short; their numbers mean nothing.")
