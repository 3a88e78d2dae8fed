"""Classify pictures of your own with a run, and draw where its network looked.

  stn predict runs/mine digit.png photo.jpg

For a run on MNIST's like, what is written on a picture is looked for: its ground
is estimated and taken away, shading and all, and the ink put where the run's
pictures have it, bright on black. For a run on colours or on pictures of your own
a picture is scaled to fit. NAME.stn.png shows what the network was given, and
where it looked.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import torch
from torch import Tensor

from .. import show
from ..data import OWN, pictures
from ..run import Run
from ..spec import Folder

UNSURE = 0.5  # an answer less likely than this is near to guessing
BOX = {"fashion-mnist": 28}  # the longer side of what is on a picture, in pixels; of digits 20


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("run", metavar="RUN", help="a folder that stn train has written")
    any_picture = f"pictures of any size: {', '.join(pictures.FORMATS)}"
    parser.add_argument("images", nargs="+", metavar="IMAGE", help=any_picture)
    beside = "folder for the drawings; default: beside each picture"
    parser.add_argument("--out", metavar="DIR", help=beside)


def read(path: Folder, run: Run) -> tuple[Tensor | None, str]:
    """A picture file as the run's network takes it, (1, C, H, W) in [0, 1], and what was done.

    None where nothing is on it. Raises ValueError, naming the file, if it cannot be read.
    """
    image, spec, one = pictures.read(path), run.spec, run.experiment
    if spec.channels == 2:
        raise ValueError(f"{path}: expected two pictures, for this network adds up digits.")
    if spec.channels == 1 and one.world != OWN:
        found = pictures.find_ink(image)
        if found is None:
            return None, "nothing stands out on it"
        ink, note = found
        pixels = pictures.centred(ink, spec.size, BOX.get(one.dataset, 20))
    elif min(image.size) < 3:
        return None, "it is too small to show anything"
    else:
        pixels, note = pictures.on_canvas(image, spec.size, spec.channels), "scaled to fit"
    return pixels[None].float() / 255, note


def main(arguments: Namespace) -> int:
    """Classify, and draw where the network looked; 1 if nothing was found on any picture."""
    run = Run.load(arguments.run)
    model = run.model()
    # All are read before one is drawn.
    inputs = {Path(path): read(path, run) for path in arguments.images}
    targets = [Path(arguments.out or path.parent) / f"{path.stem}.stn.png" for path in inputs]
    if len(set(targets)) < len(targets):
        names = ", ".join(map(str, targets))
        raise ValueError(f"two drawings would have one name: {names}. Ask for them one by one.")
    for target, (path, (x, note)) in zip(targets, inputs.items()):
        if x is None:
            print(f"{path}: no answer, {note}")
            continue
        with torch.no_grad():
            chances = model(x).softmax(dim=1)[0]
            looks, view = model.looks(x), model.warped(x)
        best = chances.argsort(descending=True)[:2].tolist()
        answers = ", then ".join(f"{run.names[c]} ({100 * chances[c]:.1f} %)" for c in best)
        unsure = "no clear answer, perhaps " * bool(chances[best[0]] < UNSURE)
        print(f"{path}: {unsure}{answers}; {note}")
        target.parent.mkdir(parents=True, exist_ok=True)
        titles = [run.names[best[0]]]
        figure = show.looks(x, looks[-1], view, titles) if looks else show.images(view, titles)
        show.save(target, figure)
        print(f"  {target}")
    return 0 if any(x is not None for x, _ in inputs.values()) else 1
