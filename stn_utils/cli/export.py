"""Write a run's network as ONNX, and check that ONNX Runtime answers as torch does.

  stn export runs/mine

Writes model.onnx into the run's folder. It takes any number of `images`, floats
(N, C, H, W) from 0 to 1, and gives `logits` (N, classes) and, of a network that
looks, where it looked last: `theta` (N, 2, 3), from output to input coordinates,
both from -1 to 1, pixel-area (align_corners=False).
"""

import importlib
import warnings
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models import Net
from ..run import Run
from ..spec import write_whole

TOLERANCE = 1e-5


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run", metavar="RUN", help="a folder that stn train has written")


class _Answers(nn.Module):
    """Logits, and the last look of a network that has one, in one pass."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        trace = self.net.trace(images)
        last = trace.parameters[-1:]
        return trace.logits, *(self.net.transformer.look(images, numbers) for numbers in last)


def main(arguments: Namespace) -> int:
    """Export and check."""
    try:
        for name in ("onnx", "onnxscript", "onnxruntime"):
            importlib.import_module(name)
    except ImportError as error:
        cure = "pip install onnx onnxscript onnxruntime"
        raise RuntimeError(
            f"stn export needs a package that is not here: {error}. {cure}"
        ) from None
    path = Path(arguments.run) / "model.onnx"
    content, worst, names = exported(Run.load(arguments.run))
    write_whole(path, content)
    print(f"{path}: images -> {', '.join(names)}; ONNX Runtime within {worst:.1e} of torch")
    return 0


def exported(run: Run) -> tuple[bytes, float, list[str]]:
    """The network as ONNX, how far ONNX Runtime is from torch, and its outputs' names.

    Asked on batches of 1, of 3 and of all probe images. Raises RuntimeError beyond TOLERANCE.
    """
    import onnxruntime

    answers = _Answers(run.model()).eval()
    images = run.probe["images"].float() / 255
    names = ["logits", "theta"] if run.looks is not None else ["logits"]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program: Any = torch.onnx.export(
            answers,
            (images[:2],),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=names,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        content = program.model_proto.SerializeToString()
        session = onnxruntime.InferenceSession(content)
        apart = []
        for count in (1, 3, len(images)):
            theirs = session.run(None, {"images": images[:count].numpy()})
            for ours, other in zip(answers(images[:count]), theirs):
                apart.append((ours - torch.from_numpy(other)).abs().max())
    worst = torch.stack(apart).max().item()  # nan, if one is
    if not worst <= TOLERANCE:
        raise RuntimeError(f"ONNX Runtime answers {worst:.1e} off torch: nothing is written.")
    return content, worst, names
