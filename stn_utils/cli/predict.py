"""Classify pictures of your own with a run, and draw where its network looked.

  stn predict runs/mine digit.png photo.jpg

A picture is made grey, inverted if its rim is brighter than a middle grey (the
data are bright on black), padded to a square and resized to the canvas of the
run's world. If the network has a window, NAME.stn.png shows what it saw.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from .. import show
from ..run import Run
from ..spec import Folder


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run", metavar="RUN", help="a folder that stn train has written")
    any_picture = "pictures of any size and format that Pillow reads"
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=any_picture)
    beside = "folder for the drawings; default: beside each picture"
    parser.add_argument("--out", metavar="DIR", help=beside)


def _pixels(grey):
    content = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8)
    return content.view(grey.height, grey.width)


def read(path: Folder, side: int) -> tuple[Tensor, bool]:
    """A picture file as (1, 1, side, side) in [0, 1], bright on black.

    The second value says whether it was inverted for that.
    """
    try:
        image = ImageOps.exif_transpose(Image.open(path))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"{path}: not a picture that can be decoded ({why}).") from None
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"{path}: its pixels have mode {image.mode}; save it with 8 bits a channel."
        )
    if image.has_transparency_data:  # what shines through is paper
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    grey = image.convert("L")
    pixels = _pixels(grey)
    rim = torch.cat([*pixels[[0, -1]], *pixels[:, [0, -1]].T])
    inverted = bool(rim.float().median() > 127)
    if inverted:
        grey = ImageOps.invert(grey)
    square = ImageOps.pad(grey, (max(grey.size),) * 2, color=0)
    pixels = _pixels(square.resize((side, side), Image.Resampling.LANCZOS))
    return pixels[None, None].float() / 255, inverted


def main(arguments: Namespace) -> int:
    """Classify, and draw where the network looked."""
    run = Run.load(arguments.run)
    height, width = run.spec.size
    if run.spec.channels != 1 or height != width:
        its = f"its images have {run.spec.channels} channels, {height}x{width} pixels"
        raise ValueError(f"{arguments.run}: {its}; predict reads grey squares.")
    model = run.model()
    # All are read before one is drawn.
    pictures = {Path(path): read(path, height) for path in arguments.images}
    targets = [Path(arguments.out or path.parent) / f"{path.stem}.stn.png" for path in pictures]
    if len(set(targets)) < len(targets):
        names = ", ".join(map(str, targets))
        raise ValueError(f"two drawings would have one name: {names}. Ask for them one by one.")
    for target, (path, (x, inverted)) in zip(targets, pictures.items()):
        with torch.no_grad():
            chances = model(x).softmax(dim=1)[0]
            looks, view = model.looks(x), model.warped(x)
        best = chances.argsort(descending=True)[:2].tolist()
        answers = ", then ".join(f"{c} ({100 * chances[c]:.1f} %)" for c in best)
        print(f"{path}: {answers}" + ("; read as its negative" if inverted else ""))
        if looks:
            target.parent.mkdir(parents=True, exist_ok=True)
            show.save(target, show.looks(x, looks[-1], view, [str(best[0])]))
            print(f"  {target}")
    return 0
