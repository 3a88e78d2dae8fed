"""The one place that imports torchvision.

A default torchvision wheel beside a CPU build of torch raises at import, because its compiled
operators are absent: "operator torchvision::nms does not exist". The course uses none of them, so
in that case, and only then, their schemas are declared and the import is repeated.
"""

import importlib
import sys
from types import ModuleType

import torch

_declared: list[
    torch.library.Library
] = []  # keeps the library alive; a second DEF of the namespace would raise


def torchvision() -> ModuleType:
    """Return the torchvision package, imported with its datasets and transforms."""
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "nms" not in str(error) or _declared:
            raise
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _declared.append(library)
    return importlib.import_module("torchvision")
