"""The machine check of chapter 00: one line per part, OK or what to do."""

import importlib
import platform
import shutil
from collections.abc import Callable

import torch

from ._torchvision import torchvision
from .data import DataUnavailable, sources
from .spec import pick_device
from .warp import identity, warp


def _torch():
    x = torch.rand(2, 1, 28, 28, device=pick_device())
    error = (warp(x, identity(device=x.device)) - x).abs().max().item()
    if error > 1e-5:
        raise RuntimeError(
            f"{torch.__version__}: the identity warp changes the picture by {error:.1e}"
        )
    return f"{torch.__version__}, the identity warp returns its picture"


def _device():
    device = pick_device()
    if device.type == "cpu":
        colab = "on Colab, Runtime > Change runtime type offers a GPU"
        return f"CPU, {torch.get_num_threads()} threads: enough; {colab}"
    apple = "Apple GPU (mps); not tried by the authors"
    return torch.cuda.get_device_name() if device.type == "cuda" else apple


def _data():
    try:
        return f"MNIST from {sources.find('mnist')[1]}"
    except DataUnavailable as reason:
        raise RuntimeError(str(reason).splitlines()[-1]) from None


def _disk():
    free = shutil.disk_usage(".").free / 1e9
    if free < 0.5:
        raise RuntimeError(f"{free:.1f} GB free; the data needs 0.1, runs a little more")
    return f"{free:.0f} GB free"


def _version(package):
    return lambda: importlib.import_module(package).__version__


PARTS: dict[str, Callable[[], str]] = {
    "Python": platform.python_version,
    "PyTorch": _torch,
    "torchvision": lambda: torchvision().__version__,
    "device": _device,
    **{package: _version(package) for package in ("matplotlib", "imageio", "ipywidgets")},
    "data": _data,
    "disk": _disk,
}


def check_machine() -> bool:
    """Print a line per part, OK or what to do; returns True if all are well."""
    well = True
    for part, check in PARTS.items():
        try:
            print(f"{'OK':<6} {part:<12} {check()}")
        except Exception as problem:  # whatever fails on a reader's machine is the answer
            well = False
            first = (str(problem) or type(problem).__name__).splitlines()[0]
            print(f"{'TO DO':<6} {part:<12} {first}")
    return well
