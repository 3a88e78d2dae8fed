"""The one import of torchvision, and what it forgives."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from stn_utils import _torchvision

ROOT = Path(__file__).parents[1]


def test_torchvision_imports_in_a_fresh_interpreter_and_knows_the_mirrors(monkeypatch):
    monkeypatch.undo()
    code = (
        "from stn_utils._torchvision import torchvision as get\n"
        "assert get() is get()\n"
        "assert get().datasets.MNIST.mirrors and get().datasets.FashionMNIST.mirrors\n"
        "get().transforms.ToTensor()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def failing_import(monkeypatch):
    """Call it with an error: the first import of torchvision raises it. Returns what the trick then did."""
    monkeypatch.undo()

    def install(error):
        seen = SimpleNamespace(imports=0, operators=[], modules={"torchvision.half": 1, "torch": 2})

        def import_module(name):
            seen.imports += 1
            if seen.imports == 1:
                raise error
            return name

        library = SimpleNamespace(define=seen.operators.append)
        monkeypatch.setattr(_torchvision, "_declared", [])
        monkeypatch.setattr(_torchvision, "importlib", SimpleNamespace(import_module=import_module))
        monkeypatch.setattr(_torchvision, "sys", SimpleNamespace(modules=seen.modules))
        monkeypatch.setattr(torch.library, "Library", lambda *names: library)
        return seen

    return install


def test_missing_operators_are_declared_and_the_import_repeated_from_scratch(failing_import):
    seen = failing_import(RuntimeError("operator torchvision::nms does not exist"))
    assert _torchvision.torchvision() == "torchvision"
    assert any(schema.startswith("nms(") for schema in seen.operators)
    assert list(seen.modules) == ["torch"]


@pytest.mark.parametrize(
    "error", [RuntimeError("something else is wrong"), ImportError("no torchvision")]
)
def test_other_errors_of_the_import_are_not_forgiven(failing_import, error):
    seen = failing_import(error)
    with pytest.raises(type(error), match=str(error)):
        _torchvision.torchvision()
    assert seen.imports == 1 and seen.operators == []
