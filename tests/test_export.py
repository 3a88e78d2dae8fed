"""stn export: ONNX Runtime answers as torch does, for every model and any number of images."""

import numpy as np
import pytest
import torch
from tiny_world import tiny_load

import stn_utils.data
from stn_utils import fit
from stn_utils.cli import export, main
from stn_utils.experiment import Experiment
from stn_utils.models import build

onnxruntime = pytest.importorskip("onnxruntime")

NETS = {
    "stnet": dict(world="translated42"),
    "rotation": dict(family="rotation", padding="border"),
    "conv1+conv2": dict(at="conv1+conv2", world="translated42"),
    "shared": dict(at="shared"),
    "convnet": dict(model="convnet", world="translated42"),
    "coordconv": dict(coordconv="both", normalize="after"),
    "sequential": dict(model="sequential", steps=3),
    "resampling": dict(model="sequential", resample=True, padding="reflection"),
    "reinforced": dict(model="reinforced", steps=3),
    "random": dict(model="reinforced", policy="random"),
}


@pytest.fixture
def here(one_thread, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stn_utils.data, "load", tiny_load)
    return tmp_path


@pytest.mark.parametrize("name", NETS)
def test_every_model_answers_in_onnx_as_in_torch_for_any_number_of_images(here, capsys, name):
    experiment = Experiment(dataset="glyphs", epochs=1, n_train=128, **NETS[name])
    run = fit(experiment, "cpu", here / "run", quiet=True)
    assert main(["export", "run"]) == 0
    assert "run/model.onnx: images -> logits" in capsys.readouterr().out
    session = onnxruntime.InferenceSession("run/model.onnx")
    x = tiny_load(world=experiment.world).test.batch(slice(0, 7))[0]
    net = run.model()
    for count in (1, 3, 7):
        answers = session.run(None, {"images": x[:count].numpy()})
        with torch.no_grad():
            np.testing.assert_allclose(answers[0], net(x[:count]), atol=1e-5)
            if len(answers) > 1:
                np.testing.assert_allclose(answers[1], net.looks(x[:count])[-1], atol=1e-5)
    names = [output.name for output in session.get_outputs()]
    assert names == (["logits"] if name == "convnet" else ["logits", "theta"])
    assert sorted(path.name for path in (here / "run").iterdir()) == [
        "model.onnx", "run.pt",
    ]  # fmt: skip


def test_an_export_that_answers_otherwise_is_not_written(here, capsys, monkeypatch):
    fit(Experiment(dataset="glyphs", epochs=1, n_train=128), "cpu", here / "run", quiet=True)
    monkeypatch.setattr(export, "TOLERANCE", 0.0)
    assert main(["export", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "off torch: nothing is written" in line
    assert not list((here / "run").glob("model*"))
    assert main(["export", "nowhere"]) == 2


def test_a_missing_package_is_named_with_the_cure(here, capsys, monkeypatch):
    monkeypatch.setattr(export.importlib, "import_module", fail)
    assert main(["export", "run"]) == 2
    assert "pip install onnx onnxscript onnxruntime" in capsys.readouterr().err


def fail(name):
    raise ImportError(f"No module named {name!r}")


@pytest.mark.parametrize("name", NETS)
def test_every_model_compiles_in_one_graph(name):
    torch._dynamo.reset()
    run_spec = tiny_load(world=NETS[name].get("world", "clean28")).spec

    net = build(Experiment(**NETS[name]), run_spec).eval()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    x = torch.rand(4, 1, *run_spec.size)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), net(x))


def test_a_network_that_has_diverged_is_not_written(here, capsys):
    run = fit(Experiment(dataset="glyphs", epochs=1, n_train=128), "cpu", quiet=True)
    for weights in run.weights.values():
        weights.fill_(torch.nan)
    run.save(here / "run")
    assert main(["export", "run"]) == 2
    assert "nan off torch" in capsys.readouterr().err
    assert not (here / "run/model.onnx").exists()
