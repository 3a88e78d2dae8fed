"""Pictures of your own as a World: a folder with a folder of pictures per class, or two tensors."""

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..spec import Folder, Size
from .worlds import OWN, SPLIT_SEED, Split, World, statistics

SHARE = 0.15  # of every class, at least one picture: to validate, and as much again to test
MOST = 4_000_000_000  # bytes of pictures in memory


def from_tensors(
    images: Tensor,
    labels: Tensor,
    names: Sequence[str] | None = None,
    output_size: Size | None = None,
    title: str = "tensors",
    source: str = "tensors",
) -> World:
    """Return a World of images (N, C, H, W) or (N, H, W) with whole labels (N,) from 0 on.

    images: uint8, or floats in [0, 1]. Of every class 70 % are to train, 15 % to validate and 15 %
    to test, drawn by a fixed seed; mean, deviation and background are those of the training images.
    names: of the classes; default their numbers. output_size: (h, w) of what the classifier sees;
    default all. title: what pictures and tables call it. True poses are not known: `poses` is None.
    Raises ValueError, saying what came, for anything else, and for a class of less than 3 pictures.
    """
    images, labels = _checked(images, labels)
    counts = torch.bincount(labels)
    names = [str(number) for number in range(len(counts))] if names is None else list(names)
    if len(counts) < 2 or len(names) != len(counts):
        what = f"expected at least 2 classes and a name for each, got {len(counts)}"
        raise ValueError(f"labels: {what} and {len(names)} names.")
    few = [f"{name} has {count}" for name, count in zip(names, counts.tolist()) if count < 3]
    if few:
        raise ValueError(f"labels: expected at least 3 pictures of every class; {', '.join(few)}.")
    parts = _parted(labels)
    train, val, test = (Split(images[part], labels[part]) for part in parts)
    mean, std = statistics(train.images)
    content = images.numpy().tobytes() + labels.numpy().tobytes()
    digest = hashlib.sha1(content).hexdigest()[:8]
    return World(
        f"{title} {digest}",
        OWN,
        train,
        val,
        test,
        output_size or (images.shape[2], images.shape[3]),
        background=_rim(train.images),
        mean=mean,
        std=std,
        source=source,
        names=names,
        upright=images,
        order=parts[0],
    )


def _checked(images, labels):
    """Both as uint8 (N, C, H, W) and int64 (N,), on the CPU."""
    for name, value in (("images", images), ("labels", labels)):
        if not torch.is_tensor(value):
            raise ValueError(f"{name}: expected a tensor, got a {type(value).__name__}.")
    images, labels = images.cpu(), labels.cpu()
    images = images[:, None] if images.ndim == 3 else images
    if images.ndim != 4 or 0 in images.shape or labels.shape != images.shape[:1]:
        shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
        expected = "expected images (N, C, H, W) or (N, H, W), and labels (N,)"
        raise ValueError(f"images and labels: {expected}; got {shapes}.")
    if images.is_floating_point():
        if not (images >= 0).all() or images.max() > 1:
            span = f"{images.min():.3g} to {images.max():.3g}"
            raise ValueError(f"images: floats have to lie from 0 to 1, these lie from {span}.")
        images = (255 * images).round().to(torch.uint8)
    if images.dtype != torch.uint8 or labels.is_floating_point() or labels.min() < 0:
        kinds = f"{images.dtype} and {labels.dtype} from {labels.min()} on"
        raise ValueError(f"images and labels: expected uint8 and whole numbers, got {kinds}.")
    if labels.max() >= len(labels):
        raise ValueError(
            f"labels: class {labels.max()} of {len(labels)} pictures; count from 0 on."
        )
    return images.contiguous(), labels.long()


def _parted(labels):
    """Indices to train, to validate and to test; every class is shared out alike."""
    random = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(labels), generator=random)
    parts = [], [], []
    for c in range(int(labels.max()) + 1):
        own = order[labels[order] == c]
        each = max(1, round(SHARE * len(own)))
        for part, index in zip(parts, own.split([len(own) - 2 * each, each, each])):
            part.append(index)
    return [torch.cat(part).sort().values for part in parts]


def _rim(images):
    """The middle value of every channel round the images' edges, in [0, 1]."""
    rows, columns = images[:, :, [0, -1]].flatten(2), images[..., [0, -1]].flatten(2)
    rim = torch.cat([rows, columns], dim=2).transpose(0, 1).flatten(1)
    return (rim.float().median(dim=1).values / 255).tolist()


def from_folder(
    path: Folder, canvas: int | Size | None = None, output_size: Size | None = None
) -> World:
    """Read a folder that holds a folder of pictures per class, as torchvision's ImageFolder does.

    canvas: (H, W) in pixels, or the side of a square; every picture is scaled to fit on it, its
    shape kept. Without it, all have to be of one size. If all are grey, the World is. The rest as
    in `from_tensors`; `World.source` holds the folder, `World.title` a checksum of what it held. A
    file that is no picture is left out, which a warning says. Raises ValueError, naming the folder,
    where there is nothing to learn from.
    """
    from . import pictures  # PIL and scipy take a while

    root = Path(path)
    folders = sorted(p for p in root.glob("*") if p.is_dir() and p.name[0] != ".")
    if len(folders) < 2:
        wants = "expected a folder of pictures per class, at least two"
        raise ValueError(f"{root}: {wants}; found {len(folders)}.")
    found, labels = [], []
    unread: list[str] = []
    for label, folder in enumerate(folders):
        for file in sorted(folder.rglob("*")):
            if file.is_dir() or file.name[0] == ".":
                continue
            try:
                found.append(pictures.read(file))
                labels.append(label)
            except ValueError as error:
                unread.append(str(error))
        if label not in labels:
            raise ValueError(f"{folder}: no picture in it. {' '.join(unread[:1])}")
    if unread:
        warnings.warn(f"{len(unread)} files left out. {unread[0]}", stacklevel=2)
    channels = 1 if all(picture.mode == "L" for picture in found) else 3
    size = _common_size(root, found) if canvas is None else canvas
    size = (size, size) if isinstance(size, int) else size
    if channels * size[0] * size[1] * len(found) > MOST:
        raise ValueError(f"{root}: {len(found):,} pictures of {size[0]}x{size[1]} fill the memory.")
    images = torch.stack([pictures.on_canvas(picture, size, channels) for picture in found])
    names = [folder.name for folder in folders]
    return from_tensors(
        images, torch.tensor(labels), names, output_size, root.resolve().name, str(root)
    )


def _common_size(root, found):
    sizes = sorted({(picture.height, picture.width) for picture in found})
    if len(sizes) > 1:
        some = ", ".join(f"{height}x{width}" for height, width in sizes[:3])
        cure = "Say canvas=(height, width), and each is scaled onto it"
        raise ValueError(f"{root}: pictures of {len(sizes)} sizes, {some}. {cure}.")
    return sizes[0]
