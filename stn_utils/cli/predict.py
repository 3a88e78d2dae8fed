"""Classify pictures of your own with a run, and draw where its network looked.

  stn predict runs/mine digit.png photo.jpg

A picture is made grey, inverted if its rim is brighter than a middle grey (the
data are bright on black), padded to a square and resized to the canvas of the
run's world. If the network has a window, NAME.stn.png shows what it saw.
"""

from pathlib import Path

import torch
from PIL import Image, ImageOps

from .. import show
from ..run import Run


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("run", metavar="RUN", help="a folder that stn train has written")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="pictures of any size and format that Pillow reads")
    parser.add_argument("--out", metavar="DIR", help="folder for the drawings; default: beside each picture")


def read(path, side):
    """A picture file as (1, 1, side, side) in [0, 1], bright on black, and whether it was inverted for that."""
    try:
        image = ImageOps.exif_transpose(Image.open(path))
        image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a picture that can be decoded ({getattr(error, 'strerror', None) or error}).") from None
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{path}: its pixels have mode {image.mode}; save it with 8 bits a channel.")
    if image.has_transparency_data:  # what shines through is paper
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    grey = image.convert("L")
    pixels = torch.frombuffer(bytearray(grey.tobytes()), dtype=torch.uint8).view(grey.height, grey.width)
    rim = torch.cat([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]]).float().median()
    inverted = bool(rim > 127)
    if inverted:
        grey = ImageOps.invert(grey)
    square = ImageOps.pad(grey, (max(grey.size),) * 2, color=0).resize((side, side), Image.Resampling.LANCZOS)
    pixels = torch.frombuffer(bytearray(square.tobytes()), dtype=torch.uint8).view(1, 1, side, side)
    return pixels.float() / 255, inverted


def run(arguments):
    """Classify, and draw where the network looked."""
    found = Run.load(arguments.run)
    if found.spec["channels"] != 1:
        raise ValueError(f"{arguments.run}: its images have {found.spec['channels']} channels; predict reads grey ones.")
    model = found.model()
    pictures = {Path(path): read(path, found.spec["canvas"]) for path in arguments.images}  # all are read before one is drawn
    targets = [Path(arguments.out or path.parent) / f"{path.stem}.stn.png" for path in pictures]
    if len(set(targets)) < len(targets):
        raise ValueError(f"two drawings would have one name: {', '.join(map(str, targets))}. Ask for them one by one.")
    for target, (path, (x, inverted)) in zip(targets, pictures.items()):
        with torch.no_grad():
            chances = model(x).softmax(dim=1)[0]
            looks, view = model.looks(x), model.picture(x)
        best = chances.argsort(descending=True)[:2].tolist()
        print(f"{path}: {best[0]} ({100 * chances[best[0]]:.1f} %), then {best[1]} ({100 * chances[best[1]]:.1f} %)"
              + ("; read as its negative" if inverted else ""))  # fmt: skip
        if looks:
            target.parent.mkdir(parents=True, exist_ok=True)
            show.save(target, show.looks, x, looks[-1], view, [str(best[0])])
            print(f"  {target}")
    return 0
