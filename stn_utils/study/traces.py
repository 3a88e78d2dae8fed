"""A stored trace: a Run's epochs and looks without its weights, the same for every reader."""

import base64
import json
from pathlib import Path

import torch

from ..experiment import Experiment
from ..models import build
from ..names import one_of
from ..run import Run
from ..spec import Folder, ImageSpec

TRACES = Path(__file__).parents[2] / "assets" / "traces"


def load_trace(name: str, folder: Folder = TRACES) -> Run:
    """The Run of a stored trace: history and probe, for `show` and `play`; it has no weights.

    Raises ValueError, naming the nearest, for an unknown name.
    """
    one_of("trace", name, [path.stem for path in Path(folder).glob("*.json")])
    content = json.loads((Path(folder) / f"{name}.json").read_text())
    spec = ImageSpec(**content["spec"])
    experiment = Experiment(**content["experiment"])
    to_warp = experiment.replace(classifier="cnn", tuned_layers=0)  # a backbone may not be here
    pixels = torch.frombuffer(bytearray(base64.b64decode(content["images"])), dtype=torch.uint8)
    images, model = pixels.view(-1, spec.channels, *spec.size), build(to_warp, spec)
    probe = {"images": images, "labels": torch.tensor(content["labels"]), "parameters": None}
    run = Run(experiment, content["title"], spec, {}, content["history"], names=content["names"])
    run.probe = probe
    if content["parameters"]:
        parameters, x = torch.tensor(content["parameters"]), images.float() / 255
        probe["parameters"] = parameters
        with torch.no_grad():
            looks = [model.transformer.look(x, epoch) for epoch in parameters]
            warped = [model.warped(x, look).clamp(0, 1) * 255 for look in looks]
        probe["warped"] = torch.stack(warped).round().to(torch.uint8)
    return run
