"""Worlds: a data set under known distortions, with the true pose of every image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ..warp import affine, invert, warp

CROPS = dict(scatter=True, crops=6)  # clutter: pieces of other digits
WORLDS = {  # canvas: side of the images; view: side of what the classifier sees; the rest goes to `distort`
    "clean28": dict(canvas=28, view=28),
    "rotated28": dict(canvas=28, view=28, max_angle=90.0),
    "translated42": dict(canvas=42, view=28, scatter=True),
    "rts42": dict(canvas=42, view=28, max_angle=45.0, scales=(0.7, 1.2), scatter=True),
    "cluttered40": dict(canvas=40, view=40, **CROPS, crop_sides=(6, 8), mix="max"),
    "cluttered60": dict(canvas=60, view=30, **CROPS, crop_sides=(6, 6), mix="sum"),
    "s3": dict(canvas=60, view=28, **CROPS, crop_sides=(6, 6), mix="over", binary=True),
}
SPLIT_SEED, TRAIN_SEED, VAL_SEED, TEST_SEED = 0, 1, 2, 3  # fixed: every Experiment sees the same pictures


def distortion(name):
    """What `distort` is given for the world of that name."""
    return {key: value for key, value in WORLDS[name].items() if key != "view"}


@dataclass
class Part:
    """Images uint8 (N, C, H, W), labels (N,), and poses (N, 2, 3).

    A pose is the theta that undoes the distortion: it maps the upright 28x28 digit to the place in the image
    where it lies, so warp(image, pose, size=(28, 28)) gives the digit back.
    """

    images: torch.Tensor
    labels: torch.Tensor
    poses: torch.Tensor

    def __len__(self):
        return len(self.labels)

    def batch(self, index):
        """Images as floats in [0, 1], and labels, at the given indices."""
        return self.images[index].float() / 255, self.labels[index]

    def first(self, count):
        """The part's first `count` images; None stands for all. Raises ValueError if there are fewer."""
        if count is not None and count > len(self):
            raise ValueError(f"n_train: {count:,} images asked for, {len(self):,} are there.")
        return Part(self.images[:count], self.labels[:count], self.poses[:count])


@dataclass
class World:
    """Training, validation and test part, resident on one device, and what is known of the images.

    mean and std are those of the training images, one per channel; background is the value around the digit.
    A replica's training part is all 60,000 images, and its validation part is None.
    """

    dataset: str
    name: str
    train: Part
    val: Part | None
    test: Part
    view: int
    background: list
    mean: list
    std: list
    source: str
    digits: torch.Tensor  # the training images before they were distorted
    classes: int = 10

    @property
    def title(self):
        return f"{self.dataset}, {self.name}"

    @property
    def spec(self):
        """What a network must know of the images, as plain numbers."""
        _, channels, canvas, _ = self.train.images.shape
        return dict(channels=channels, canvas=canvas, view=self.view, classes=self.classes,
                    background=self.background, mean=self.mean, std=self.std)  # fmt: skip

    def drawn_anew(self, seed, count=None):
        """The first `count` training images (default all), distorted anew by that seed: a Part."""
        train = self.train.first(count)
        images, poses = distort(self.digits[: len(train)], seed, **distortion(self.name))
        return Part(images, train.labels, poses)


def distort(
    images, seed, canvas=28, max_angle=0.0, scales=(1.0, 1.0), scatter=False,
    crops=0, crop_sides=(6, 6), mix="max", binary=False,
):  # fmt: skip
    """Turn, scale and place square uint8 images (N, C, side, side) on a canvas, then clutter it.

    Each is turned by a uniform angle within +-max_angle degrees, scaled by a uniform factor from `scales`
    (Jaderberg's R and RTS), and with `scatter` put at a uniform place, else in the centre; a place is a whole pixel
    unless the image is scaled. Then `crops` pieces of the other images, with sides from crop_sides in pixels, are
    strewn over the canvas and mixed as `add_crops` says. binary: every pixel above 0 becomes 255.
    Returns (images (N, C, canvas, canvas), poses (N, 2, 3)). The same seed gives the same pictures on one machine.
    """
    count, _, side, _ = images.shape
    random = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers for every device
    angle = max_angle * (2 * torch.rand(count, generator=random) - 1)
    if scales == (1.0, 1.0):
        size, room = torch.full((count, 1), float(side)), canvas - side
        place = torch.randint(room + 1, (count, 2), generator=random) if scatter else torch.full((count, 2), room // 2)
    else:
        low, high = scales
        size = side * (low + (high - low) * torch.rand(count, 1, generator=random))
        place = (canvas - size) * (torch.rand(count, 2, generator=random) if scatter else torch.full((count, 2), 0.5))
    shift = (2 * place + size) / canvas - 1
    poses = affine(angle, size[:, 0] / canvas, shift[:, 0], shift[:, 1]).to(images.device)
    images = (images > 0).to(torch.uint8) * 255 if binary else images
    if canvas == side and scales == (1.0, 1.0) and not (max_angle or crops):
        return images, poses
    parts = []
    for part in torch.arange(count).split(5000):  # in parts, to bound the memory
        placed = warp(images[part].float(), invert(poses[part]), size=(canvas, canvas)).round()
        if crops:
            placed = add_crops(placed, images, part, random, crops, crop_sides, mix)
        parts.append(placed.to(torch.uint8))
    return torch.cat(parts), poses


def add_crops(placed, images, own, random, crops, sides, mix):
    """Strew pieces of `images` over `placed` (n, C, canvas, canvas), floats in 0..255; returns the like.

    own (n,): which of the images was placed where; a piece comes from another one. mix: `max` and `sum` (clipped at
    255) hold for pieces and digit alike; with `over` a piece covers the pieces before it, and the digit is added.
    """
    count, _, canvas, _ = placed.shape
    near, far = sides
    device = placed.device
    window = torch.arange(far, device=device)
    layer = F.pad(torch.zeros_like(placed), (0, far, 0, far))  # with a margin, so that no window leaves the picture
    source = F.pad(images, (0, far, 0, far))

    def draw(below):
        return (torch.rand(below.shape, generator=random) * below).long()

    for _ in range(crops):
        side = near + draw(torch.full((count, 1), far - near + 1))
        other = (own + 1 + draw(torch.full((count,), len(images) - 1))) % len(images)
        pieces = window_at(other, draw((images.shape[-1] - side + 1).expand(count, 2)), window)
        places = window_at(torch.arange(count), draw((canvas - side + 1).expand(count, 2)), window)
        inside = window < side.to(device)
        inside = (inside[:, :, None] & inside[:, None, :])[..., None]
        there, piece = layer[places], source[pieces].float()
        mixed = {"max": torch.maximum(there, piece), "sum": there + piece, "over": piece}[mix]
        layer[places] = torch.where(inside, mixed, there)
    layer = layer[..., :canvas, :canvas]
    return torch.maximum(placed, layer) if mix == "max" else (placed + layer).clamp(max=255)


def window_at(which, corner, window):
    """The index of a square window in each of the images `which`, at its corner (n, 2): row, column."""
    which, corner = which.to(window.device), corner.to(window.device)
    rows, columns = corner[:, :1] + window, corner[:, 1:] + window
    return which[:, None, None], slice(None), rows[:, :, None], columns[:, None, :]


def make_world(dataset, name, raw, source, replica, device):
    """Split, distort and move a data set to the device; raw is ((images, labels), (test images, labels))."""
    (images, labels), (test_images, test_labels) = [[tensor.to(device) for tensor in part] for part in raw]
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    cut = len(order) if replica else len(order) * 11 // 12  # 55,000 of 60,000

    def part(images, labels, seed):
        distorted, poses = distort(images, seed, **distortion(name))
        return Part(distorted, labels, poses)

    digits = images[order[:cut]]
    train = part(digits, labels[order[:cut]], TRAIN_SEED)
    val = None if replica else part(images[order[cut:]], labels[order[cut:]], VAL_SEED)
    pixels = train.images.float().div_(255)  # a second copy of cluttered60 would be 0.8 GB
    return World(
        dataset, name, train, val, part(test_images, test_labels, TEST_SEED), WORLDS[name]["view"],
        background=[0.0] * pixels.shape[1], mean=pixels.mean(dim=(0, 2, 3)).tolist(),
        std=pixels.std(dim=(0, 2, 3)).tolist(), source=source, digits=digits,
    )  # fmt: skip
