"""Worlds: a data set under known distortions, with the true pose of every image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..families import FAMILIES, LATTICE, homography, is_convex, undo_projective
from ..spec import Device, ImageSpec, Size
from ..warp import affine, compose, corners, grid_of, invert, sample

# What is to train, and what is to test: images and labels, and where known the poses of both.
Raw = tuple[Sequence[Tensor], Sequence[Tensor]]
CROPS: dict[str, Any] = dict(scatter=True, crops=6)  # clutter: pieces of other digits
PHOTO: dict[str, Any] = dict(canvas=160, output_size=96)  # cut out by a window, or whole
TURNED: dict[str, Any] = dict(scales=(0.7, 1.2), scatter=True)
RTS: dict[str, Any] = dict(canvas=42, output_size=28, **TURNED)
# canvas: side of the images; output_size: side of what the classifier sees, both in pixels; test:
# what is otherwise in the test part; the rest goes to `distort`.
WORLDS: dict[str, dict[str, Any]] = {
    "clean28": dict(canvas=28, output_size=28),
    "rotated28": dict(canvas=28, output_size=28, max_angle=90.0),
    "translated42": dict(canvas=42, output_size=28, scatter=True),
    "rts42": dict(**RTS, max_angle=45.0),
    "rts42-15": dict(**RTS, max_angle=15.0),
    "rts42-15-45": dict(**RTS, max_angle=15.0, test=dict(max_angle=45.0)),
    "rts42-15-90": dict(**RTS, max_angle=15.0, test=dict(max_angle=90.0)),
    "projective42": dict(canvas=42, output_size=28, scales=(0.75, 1.0), corner_noise=5.0),
    "elastic28": dict(canvas=28, output_size=28, bend_noise=1.5),
    "cluttered40": dict(canvas=40, output_size=40, **CROPS, crop_sides=(6, 8), mix="max"),
    "cluttered60": dict(canvas=60, output_size=30, **CROPS, crop_sides=(6, 6), mix="sum"),
    "addition42": dict(**RTS, max_angle=45.0, pairs=True),
    "clean32": dict(canvas=32, output_size=32),
    "rts32": dict(canvas=32, output_size=32, **TURNED, max_angle=45.0, padding="reflection"),
    "photo160": PHOTO,
    "photo-centre": PHOTO,
    "photo-box": PHOTO,
    "photo-random": PHOTO,
    "s3": dict(canvas=60, output_size=28, **CROPS, crop_sides=(6, 6), mix="over", binary=True),
}
OWN = "own"  # the name of every World that is a reader's own pictures
# Fixed: every Experiment sees the same pictures.
SPLIT_SEED, TRAIN_SEED, VAL_SEED, TEST_SEED = 0, 1, 2, 3
PARTNERS = 10  # added to the seed that draws the second picture of each pair
RANDOM = {"max_angle", "scales", "scatter", "crops", "corner_noise", "bend_noise"}
IN_PART = 5000  # images distorted at a time, to bound the memory


def distortion(name: str) -> dict[str, Any]:
    """What `distort` is given for the world of that name."""
    others = ("output_size", "pairs", "test")
    return {k: value for k, value in WORLDS[name].items() if k not in others}


def is_random(name: str) -> bool:
    """Whether the pictures of the world of that name can be drawn anew, by another seed."""
    world = WORLDS.get(name, {})
    return "pairs" not in world and not RANDOM.isdisjoint(world)


@dataclass
class Split:
    """Images uint8 (N, C, H, W), labels (N,), and poses (N, 2, 3), None where they are not known.

    A pose is the theta that undoes the distortion: it maps the upright digit (h, w) to the place in
    the image where it lies, so warp(image, pose, size=(h, w)) gives the digit back. Where no matrix
    does, it is the projective parameters (N, 8) that do, or, since nothing undoes a spline exactly,
    those (N, 32) of the one that drew the image. Pairs have two poses each, (N, 2, 2, 3).
    """

    images: Tensor
    labels: Tensor
    poses: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: Tensor | slice) -> tuple[Tensor, Tensor]:
        """Images as floats in [0, 1], and labels, at the given indices."""
        return self.images[index].float() / 255, self.labels[index]

    def head(self, count: int | None) -> "Split":
        """The first `count` images; None stands for all. Raises ValueError if there are fewer."""
        if count is not None and not 0 <= count <= len(self):
            raise ValueError(f"n_train: {count:,} images asked for, {len(self):,} are there.")
        return self._each(lambda values: values[:count])

    def to(self, device: Device) -> "Split":
        """The same on the device."""
        return self._each(lambda values: values.to(device))

    def _each(self, change):
        poses = None if self.poses is None else change(self.poses)
        return Split(change(self.images), change(self.labels), poses)


@dataclass
class World:
    """Training, validation and test split, resident on one device, and what is known of the images.

    mean and std are those of the training images, one per channel; background is the value around
    the digit. A replica's training split is all 60,000 images, and its validation split is None.
    output_size: (h, w) of what the classifier sees. names: of the classes. upright, order: the data
    set's own images, and which of them were distorted to make the training images.
    """

    dataset: str
    name: str
    train: Split
    val: Split | None
    test: Split
    output_size: Size
    background: list[float]
    mean: list[float]
    std: list[float]
    source: str
    names: list[str]
    upright: Tensor
    order: Tensor

    def to(self, device: Device) -> "World":
        """The same World, resident on the device."""
        parts = {n: part.to(device) for n, part in vars(self).items() if hasattr(part, "to")}
        return replace(self, **parts)

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.names)

    @property
    def title(self) -> str:
        """Data set and world, as titles of pictures and records name them."""
        return f"{self.dataset}, {self.name}"

    @property
    def spec(self) -> ImageSpec:
        """What a network must know of the images."""
        _, channels, height, width = self.train.images.shape
        statistics = self.background, self.mean, self.std
        return ImageSpec(channels, (height, width), self.output_size, self.classes, *statistics)

    def augmented(self, seed: int, count: int | None = None) -> Split:
        """The first `count` training images (default all), distorted anew by that seed.

        Raises ValueError for a world in which nothing is random.
        """
        if not is_random(self.name):
            why = (
                "it has pairs"
                if "pairs" in WORLDS.get(self.name, {})
                else "nothing in it is random"
            )
            raise ValueError(f"{self.name}: {why}, so no picture can be drawn anew.")
        train = self.train.head(count)
        upright = self.upright[self.order[: len(train)]]
        images, poses = distort(upright, seed, **distortion(self.name))
        return Split(images, train.labels, poses)


def distort(
    images: Tensor,
    seed: int,
    canvas: int | Size = 28,
    max_angle: float = 0.0,
    scales: tuple[float, float] = (1.0, 1.0),
    scatter: bool = False,
    crops: int = 0,
    crop_sides: tuple[int, int] = (6, 6),
    mix: str = "max",
    binary: bool = False,
    padding: str = "zeros",
    corner_noise: float = 0.0,
    bend_noise: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Turn, scale and place uint8 images (N, C, h, w) on a canvas, then clutter it.

    canvas: (H, W) in pixels, or the side of a square.

    Each is turned by a uniform angle within +-max_angle degrees, scaled by a uniform factor from
    `scales` (Jaderberg's R and RTS), and with `scatter` put at a uniform place, else in the centre;
    a place is a whole pixel unless the image is scaled. All of this is in pixels: a turn is a turn
    on every shape. corner_noise: then each corner of the image is moved by so many pixels, standard
    deviation, and the image with them (Jaderberg's P); corners that make no convex shape are drawn
    again. bend_noise: instead, 4x4 control points of a thin-plate spline are, and the whole canvas
    is bent (his E). Then `crops` pieces of the other images, with sides from crop_sides in pixels,
    are strewn over the canvas and mixed as `add_crops` says. binary: every pixel above 0 becomes
    255. padding: what lies beyond an image, see `warp.sample`. Returns images (N, C, H, W) and
    poses, see `Split`. The same seed gives the same pictures on one machine.
    """
    count, _, height, width = images.shape
    high, wide = (canvas, canvas) if isinstance(canvas, int) else canvas
    random = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers for every device
    angle = max_angle * (2 * torch.rand(count, generator=random) - 1)
    upright, whole = torch.tensor([width, height]), torch.tensor([wide, high])  # x before y
    size, place = _sizes_and_places(count, upright, whole, scales, scatter, random)
    poses = affine(angle)
    poses[:, :, :2] *= size[:, None] / whole[:, None]  # from pixels to halves of either picture
    poses[:, :, 2] = (2 * place + size) / whole - 1
    if corner_noise:
        poses = homography(_moved(corners(poses), 2 * corner_noise / whole, random))
    elif bend_noise:
        bends = 2 * bend_noise / whole * torch.randn(count, len(LATTICE), 2, generator=random)
        poses = (LATTICE + bends).flatten(1)
    poses = poses.to(images.device)
    images = (images > 0).to(torch.uint8) * 255 if binary else images
    changed = max_angle or crops or corner_noise or bend_noise or scales != (1.0, 1.0)
    if (high, wide) == (height, width) and not changed:
        return images, poses
    parts = []
    for part in torch.arange(count).split(IN_PART):
        grid = grid_of(_drawing(poses[part], (high, wide)), (high, wide))
        placed = sample(images[part].float(), grid, padding).round()
        if crops:
            placed = add_crops(placed, images, part, random, crops, crop_sides, mix)
        parts.append(placed.to(torch.uint8))
    return torch.cat(parts), poses


def _sizes_and_places(count, upright, whole, scales, scatter, random):
    """In pixels, (x, y): how large each image is on its canvas, and where its corner lies there."""
    if scales == (1.0, 1.0):
        room = whole - upright
        place = room // 2
        if scatter and room[0] == room[1]:  # as the pictures of published studies were drawn
            place = torch.randint(int(room[0]) + 1, (count, 2), generator=random)
        elif scatter:
            place = (torch.rand(count, 2, generator=random) * (room + 1)).long()
        return upright.expand(count, 2).float(), place
    least, most = scales
    size = upright * (least + (most - least) * torch.rand(count, 1, generator=random))
    return size, (whole - size) * (torch.rand(count, 2, generator=random) if scatter else 0.5)


def _moved(corners, deviation, random):
    """Corners (N, 4, 2) and noise; those that make no convex shape are drawn again."""
    moved, wrong = corners.clone(), torch.ones(len(corners), dtype=torch.bool)
    while wrong.any():
        noise = torch.randn(int(wrong.sum()), 4, 2, generator=random)
        moved[wrong] = corners[wrong] + deviation * noise
        wrong = ~is_convex(moved)
    return moved


def _drawing(poses, size):
    """The look at upright images that draws them in their poses, on a canvas of that size."""
    if poses.ndim == 3:
        return invert(poses)
    if poses.shape[1] == len(FAMILIES["projective"].identity):
        return FAMILIES["projective"].look(undo_projective(poses), size, size)
    return FAMILIES["tps"].look(poses, size, size)


def add_crops(
    placed: Tensor,
    images: Tensor,
    own: Tensor,
    random: torch.Generator,
    crops: int,
    sides: tuple[int, int],
    mix: str,
) -> Tensor:
    """Strew pieces of `images` over `placed` (n, C, H, W), floats in 0..255; returns the like.

    own (n,): which of the images was placed where; a piece comes from another one. mix: `max` and
    `sum` (clipped at 255) hold for pieces and digit alike; with `over` a piece covers the pieces
    before it, and the digit is added.
    """
    count, _, height, width = placed.shape
    near, far = sides
    window = torch.arange(far, device=placed.device)
    layer = F.pad(torch.zeros_like(placed), (0, far, 0, far))  # no window leaves it
    source = F.pad(images, (0, far, 0, far))

    def draw(below):
        return (torch.rand(below.shape, generator=random) * below).long()

    for _ in range(crops):
        side = near + draw(torch.full((count, 1), far - near + 1))
        other = (own + 1 + draw(torch.full((count,), len(images) - 1))) % len(images)
        corner = draw(torch.tensor(images.shape[2:]) - side + 1)
        pieces = window_at(other, corner, window)
        corner = draw(torch.tensor((height, width)) - side + 1)
        places = window_at(torch.arange(count), corner, window)
        inside = window < side.to(placed.device)
        inside = (inside[:, :, None] & inside[:, None, :])[..., None]
        there, piece = layer[places], source[pieces].float()
        mixed = {"max": torch.maximum(there, piece), "sum": there + piece, "over": piece}[mix]
        layer[places] = torch.where(inside, mixed, there)
    layer = layer[..., :height, :width]
    return torch.maximum(placed, layer) if mix == "max" else (placed + layer).clamp(max=255)


def window_at(which: Tensor, corner: Tensor, window: Tensor) -> tuple[Any, ...]:
    """The index of a square window in each of the images `which`, its corner (n, 2) row, column."""
    which, corner = which.to(window.device), corner.to(window.device)
    rows, columns = corner[:, :1] + window, corner[:, 1:] + window
    return which[:, None, None], slice(None), rows[:, :, None], columns[:, None, :]


def make_world(
    dataset: str,
    name: str,
    raw: Raw,
    source: str,
    replica: bool,
    device: Device,
    names: list[str] | None = None,
) -> World:
    """Split, distort and move a data set to the device; names: of its classes, default numbers."""
    known, test = [[x.to(device) for x in part] for part in raw]
    images, labels = known[:2]
    largest, canvas = max(images.shape[2:]), WORLDS[name]["canvas"]
    if largest > canvas:
        fit = [other for other, world in WORLDS.items() if world["canvas"] >= largest]
        what = f"its canvas of {canvas} pixels is too small for {dataset}, {largest} pixels"
        raise ValueError(f"world={name!r}: {what}. Valid: {', '.join(fit)}.")
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    cut = len(order) if replica else len(order) * 11 // 12  # 55,000 of 60,000

    pairs = "pairs" in WORLDS[name]
    if pairs and (names or images.shape[1] > 1):
        raise ValueError(f"world={name!r}: it adds digits up, and {dataset} has none.")

    ours, theirs = order[:cut], order[cut:]
    train = _split(name, TRAIN_SEED, *(x[ours] for x in known))
    mean, std = statistics(train.images)
    side = WORLDS[name]["output_size"]
    return World(
        dataset,
        name,
        train,
        None if replica else _split(name, VAL_SEED, *(x[theirs] for x in known)),
        _split(name, TEST_SEED, *test),
        (side, side),
        background=mean if len(mean) == 3 else [0.0],  # photographs have none: their mean colour
        mean=mean,
        std=std,
        source=source,
        names=names or [str(number) for number in range((1 + pairs) * int(labels.max()) + 1)],
        upright=images,
        order=ours,
    )


def _split(name, seed, images, labels, *poses):
    """Upright images, labels, and where known the poses that they have already, as a world's."""
    numbers = distortion(name)
    if seed == TEST_SEED:
        numbers |= WORLDS[name].get("test", {})
    distorted, placed = distort(images, seed, **numbers)
    if "pairs" not in WORLDS[name]:
        return Split(distorted, labels, compose(placed, *poses) if poses else placed)
    partner = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    partner = partner.to(labels.device)
    second, theirs = distort(images[partner], PARTNERS + seed, **numbers)
    both = torch.cat([distorted, second], dim=1)
    return Split(both, labels + labels[partner], torch.stack([placed, theirs], dim=1))


def statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of every channel of uint8 images (N, C, H, W), from 0 to 1."""
    means, deviations = [], []
    for channel in images.split(1, dim=1):  # one at a time: in floats a channel may be 0.8 GB
        pixels = channel.float().div_(255)
        means += pixels.mean(dim=(0, 2, 3)).tolist()
        deviations += pixels.std(dim=(0, 2, 3)).tolist()
    return means, deviations
