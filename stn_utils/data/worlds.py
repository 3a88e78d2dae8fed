"""Worlds: a data set under known distortions, with the true pose of every image."""

from dataclasses import dataclass

import torch

from ..warp import affine, invert, warp

WORLDS = {  # canvas: side of the images; view: side of what the classifier sees; the rest goes to `distort`
    "clean28": dict(canvas=28, view=28),
    "rotated28": dict(canvas=28, view=28, max_angle=90.0),
    "translated42": dict(canvas=42, view=28, scatter=True),
}
SPLIT_SEED, TRAIN_SEED, VAL_SEED, TEST_SEED = 0, 1, 2, 3  # fixed: every Experiment sees the same pictures


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


def distort(images, seed, canvas=28, max_angle=0.0, scatter=False):
    """Turn, then place square uint8 images (N, C, side, side) on a canvas; returns (images, poses).

    Each is turned by a uniform angle within +-max_angle degrees (Jaderberg's R), and with `scatter` put at a
    uniform whole-pixel place, else in the centre. The same seed gives the same pictures on one machine.
    """
    count, _, side, _ = images.shape
    random = torch.Generator().manual_seed(seed)
    angle = max_angle * (2 * torch.rand(count, generator=random) - 1)
    room = canvas - side
    place = torch.randint(room + 1, (count, 2), generator=random) if scatter else torch.full((count, 2), room // 2)
    shift = (2 * place + side) / canvas - 1
    poses = affine(angle, side / canvas, shift[:, 0], shift[:, 1])
    if not max_angle and canvas == side:
        return images, poses
    parts = []
    for part in torch.arange(count).split(5000):  # in parts, to bound the memory
        placed = warp(images[part].float(), invert(poses[part]), size=(canvas, canvas))
        parts.append(placed.round().to(torch.uint8))
    return torch.cat(parts), poses


def make_world(dataset, name, raw, source, replica, device):
    """Split, distort and move a data set to the device; raw is ((images, labels), (test images, labels))."""
    (images, labels), (test_images, test_labels) = raw
    options = {key: value for key, value in WORLDS[name].items() if key != "view"}
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(SPLIT_SEED))
    cut = len(order) if replica else len(order) * 11 // 12  # 55,000 of 60,000

    def part(images, labels, seed):
        distorted, poses = distort(images, seed, **options)
        return Part(distorted.to(device), labels.to(device), poses.to(device))

    train = part(images[order[:cut]], labels[order[:cut]], TRAIN_SEED)
    val = None if replica else part(images[order[cut:]], labels[order[cut:]], VAL_SEED)
    pixels = train.images.float() / 255
    return World(
        dataset, name, train, val, part(test_images, test_labels, TEST_SEED), WORLDS[name]["view"],
        background=[0.0] * pixels.shape[1], mean=pixels.mean(dim=(0, 2, 3)).tolist(),
        std=pixels.std(dim=(0, 2, 3)).tolist(), source=source,
    )  # fmt: skip
