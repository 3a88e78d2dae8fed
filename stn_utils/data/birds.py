"""Birds: photographs of CUB-200-2011, in many shapes, and the box that holds each bird."""

import hashlib
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..warp import affine, compose, invert, warp
from .sources import DataUnavailable, cache_folder
from .worlds import IN_PART, TEST_SEED, TRAIN_SEED, VAL_SEED, Raw, Split, World

FOLDERS = {"CUB_200_2011": "CUB", "CUB_200_2011_s128": "CUB at 128"}  # its authors', a small copy
ARCHIVE, MD5 = "CUB_200_2011.tgz", "97eceeb196236b17998738112f37df78"
LICENCE = "Wah et al. 2011, cite it; the pictures belong to their photographers"
PICTURES, SIDE = 11_788, 160  # of the set; of a canvas, in pixels


def find() -> tuple[Path, str]:
    """The folder of the birds, and where it was found; unpacks the authors' archive.

    Looks into STN_DATA, then into the cache. Raises DataUnavailable, with what to do, for an
    archive that is not the published one, and where there is nothing.
    """
    roots = {"the folder STN_DATA": os.environ.get("STN_DATA"), "the cache": cache_folder()}
    for source, root in [(s, Path(r)) for s, r in roots.items() if r]:
        for folder, title in FOLDERS.items():
            if (root / folder / "images.txt").exists():
                return root / folder, f"{title}, {source}"
        if (root / ARCHIVE).exists():
            return _unpacked(root / ARCHIVE), f"CUB, {source}"
    raise DataUnavailable(
        f"birds were found nowhere. Get {ARCHIVE} (1.1 GB) from https://data.caltech.edu/records/"
        f"65de6-vp158, and put it into {cache_folder()}, or into a folder that STN_DATA names."
    )


def _unpacked(archive):
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != MD5:
        raise DataUnavailable(f"{archive} is truncated or altered (its MD5 is {found}); delete it.")
    with tarfile.open(archive) as tar:
        tar.extractall(cache_folder(), filter="data")
    return cache_folder() / "CUB_200_2011"


def _columns(folder, name):
    """What a list says of each picture, without the picture's number."""
    try:
        lines = (folder / name).read_text().splitlines()
    except OSError as error:
        raise DataUnavailable(f"{folder / name} cannot be read ({error.strerror}).") from None
    if len(lines) != PICTURES:
        raise DataUnavailable(
            f"{folder / name} is truncated or altered: "
            f"expected {PICTURES:,} lines, got {len(lines):,}."
        )
    return [line.split()[1:] for line in lines]


def read(folder: Path) -> tuple[Raw, list[str]]:
    """The birds on square canvases, each as large as fits, and the names of the classes.

    A part is images uint8 (N, 3, 160, 160), labels (N,) and poses (N, 2, 3): the box round the
    bird, as the theta of a window that shows it and nothing else. Raises DataUnavailable, naming
    the file, for what is missing or cannot be read.
    """
    from . import pictures  # PIL and scipy take a while

    files = [folder / "images" / name for (name,) in _columns(folder, "images.txt")]
    labels = torch.tensor([int(n) - 1 for (n,) in _columns(folder, "image_class_labels.txt")])
    to_train = torch.tensor([n == "1" for (n,) in _columns(folder, "train_test_split.txt")])
    boxes = [[float(number) for number in box] for box in _columns(folder, "bounding_boxes.txt")]
    images = torch.empty(PICTURES, 3, SIDE, SIDE, dtype=torch.uint8)
    sizes = torch.empty(PICTURES, 2)
    for i, file in enumerate(files):
        try:
            picture = pictures.read(file)
        except ValueError as error:
            raise DataUnavailable(str(error)) from None
        images[i] = pictures.on_canvas(picture, (SIDE, SIDE), 3)
        sizes[i] = torch.tensor(picture.size)
    poses = boxes_on_canvas(torch.tensor(boxes), sizes)
    classes = sorted({file.parent.name for file in files})  # 001.Black_footed_Albatross, ...
    names = [name.partition(".")[2].replace("_", " ") for name in classes]
    everything = images, labels, poses
    return ([x[to_train] for x in everything], [x[~to_train] for x in everything]), names


def boxes_on_canvas(boxes: Tensor, sizes: Tensor) -> Tensor:
    """Boxes (N, 4) x, y, width, height in pixels of pictures (N, 2) width, height, as poses.

    A box that overruns its picture is cut off. The picture lies in the middle of a square canvas,
    its longer side as long as the canvas. Returns theta (N, 2, 3); pixel-area.
    """
    first = boxes[:, :2].clamp(min=0)
    last = torch.minimum(boxes[:, :2] + boxes[:, 2:], sizes)
    longer = sizes.amax(dim=1, keepdim=True)
    poses = torch.zeros(len(boxes), 2, 3)
    poses[:, [0, 1], [0, 1]] = (last - first) / longer
    poses[:, :, 2] = (first + last - sizes) / longer
    return poses


def _round_the_bird(poses, random):
    """A square that has a tenth more than the box's longer side."""
    longer = poses[:, [0, 1], [0, 1]].amax(dim=1)
    x, y = poses[:, :, 2].T
    return affine(scale=1.1 * longer, shift_x=x, shift_y=y)


def _anywhere(poses, random):
    share, *places = torch.rand(3, len(poses), generator=random)
    scale = 0.5 + 0.3 * share
    x, y = ((1 - scale) * (2 * place - 1) for place in places)
    return affine(scale=scale, shift_x=x, shift_y=y)


# Worlds that a fixed window has cut out: where it stands, (poses, random) -> theta.
CUTS = {
    "photo-centre": lambda poses, random: affine(scale=torch.full((len(poses),), 0.75)),
    "photo-box": _round_the_bird,
    "photo-random": _anywhere,
}


def cut_out(world: World, name: str) -> World:
    """The World that a fixed window, of CUTS, leaves of one whose poses are known.

    Its pictures are as large as what the classifier sees.
    """
    size = world.output_size

    def cut(split, seed):
        random = torch.Generator().manual_seed(seed)
        look = CUTS[name](split.poses.cpu(), random).to(split.poses)
        seen = [
            warp(split.images[i].float(), look[i], size, "border").round().byte()
            for i in torch.arange(len(split)).split(IN_PART)
        ]
        return Split(torch.cat(seen), split.labels, compose(invert(look), split.poses))

    val = world.val and cut(world.val, VAL_SEED)
    train, test = cut(world.train, TRAIN_SEED), cut(world.test, TEST_SEED)
    return replace(world, name=name, train=train, val=val, test=test)
