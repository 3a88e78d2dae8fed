"""Worlds and glyphs: true poses, fixed splits, digits drawn from fonts."""

import hashlib
import itertools
from pathlib import Path

import pytest
import torch
from scipy import ndimage

from stn_utils import data
from stn_utils.data import distort, glyphs
from stn_utils.data.worlds import WORLDS, make_world
from stn_utils.experiment import choices
from stn_utils.warp import determinant, identity, warp

TRAIN, TEST = 24, 6


def noise(count, side=28, seed=0):
    return torch.randint(256, (count, 1, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def raw(train=TRAIN, test=TEST):
    """Made-up ((images, labels), (test images, labels)); each image holds its number in its first pixels."""
    parts = []
    for count, seed in ((train, 0), (test, 1)):
        images = noise(count, seed=seed)
        images[:, 0, 0, 0] = torch.arange(count)
        parts.append((images, torch.arange(count) % 10))
    return tuple(parts)


# Worlds


def options(world):
    return {key: value for key, value in WORLDS[world].items() if key != "view"}


def smooth_digits(count):
    """Flat blobs off the middle, unlike their mirror images and black at the edge: they survive a turn."""
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    centres = 12 + 4 * torch.rand(2, count, 1, 1, 1, generator=torch.Generator().manual_seed(4))
    blob = torch.exp(-((x - centres[0]) ** 2 / 24 + (y - centres[1]) ** 2 / 12))
    return (255 * blob).round().to(torch.uint8)


def test_the_names_of_worlds_are_those_of_the_experiment():
    assert tuple(WORLDS) == choices("world")
    assert data.DATASETS == choices("dataset")


def test_poses_of_translated42_give_the_digits_back_exactly():
    digits = noise(40)
    images, poses = distort(digits, 5, **options("translated42"))
    assert images.shape == (40, 1, 42, 42) and images.dtype == torch.uint8
    back = warp(images.double(), poses.double(), size=(28, 28))
    assert torch.equal(back.round().to(torch.uint8), digits)


def test_poses_of_rotated28_give_the_digits_back_but_for_blur():
    digits = smooth_digits(20)
    images, poses = distort(digits, 5, **options("rotated28"))
    assert (images.float() - digits.float()).abs().amax(dim=(1, 2, 3)).median() > 60  # they did turn
    back = warp(images.float(), poses)
    assert (back - digits.float()).abs().max() < 17  # two samplings of at most h^2/8 (|f_xx| + |f_yy|) = 8


def draws(seed, count, room, max_angle):
    """The generator's draws, as studies have stored them: angles first, then places, columns before rows."""
    random = torch.Generator().manual_seed(seed)
    angle = max_angle * (2 * torch.rand(count, generator=random) - 1)
    return angle.tolist(), torch.randint(room + 1, (count, 2), generator=random).tolist()


def test_translated42_puts_each_digit_where_the_seed_says():
    digits = noise(20)
    images, _ = distort(digits, 7, **options("translated42"))
    for digit, image, (column, row) in zip(digits, images, draws(7, 20, 14, 0)[1]):
        expected = torch.zeros(1, 42, 42, dtype=torch.uint8)
        expected[:, row : row + 28, column : column + 28] = digit
        assert torch.equal(image, expected)


def test_rotated28_turns_each_digit_clockwise_by_the_angle_the_seed_says():
    digits = smooth_digits(8)
    images, _ = distort(digits, 7, **options("rotated28"))
    for digit, image, angle in zip(digits, images, draws(7, 8, 0, 90)[0]):
        oracle = ndimage.rotate(digit[0].double(), -angle, reshape=False, order=1, mode="grid-constant")
        assert abs(image[0].numpy() - oracle).max() < 0.51  # rounding


def test_places_and_angles_cover_their_range():
    _, poses = distort(noise(400, side=2), 0, canvas=4, scatter=True)
    centres = {tuple(centre) for centre in poses[:, :, 2].tolist()}
    assert centres == set(itertools.product((-0.5, 0.0, 0.5), repeat=2))
    _, poses = distort(noise(400, side=2), 0, canvas=2, max_angle=90)
    angles = torch.rad2deg(torch.atan2(poses[:, 1, 0], poses[:, 0, 0]))
    assert -90 <= angles.min() < -80 and 80 < angles.max() <= 90
    torch.testing.assert_close(determinant(poses), torch.ones(400))


def test_without_scatter_the_digit_lies_in_the_middle():
    digits = noise(3, side=4)
    images, poses = distort(digits, 0, canvas=8)
    assert torch.equal(images, torch.nn.functional.pad(digits, (2, 2, 2, 2)))
    assert poses.tolist() == [[[0.5, 0, 0], [0, 0.5, 0]]] * 3


@pytest.mark.parametrize("world", ["rotated28", "translated42"])
def test_same_seed_same_images_other_seed_other_images(world):
    digits = noise(10)
    first, again, other = (distort(digits, seed, **options(world)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def world_of(name="clean28", replica=False, train=TRAIN):
    return make_world("mnist", name, raw(train), "made up", replica, "cpu")


def serials(part):
    """Which of the raw images these are: the number in the first pixel."""
    return part.images[:, 0, 0, 0].tolist()


def test_clean28_leaves_images_as_they_are_with_their_labels():
    world, ((images, labels), (test_images, test_labels)) = world_of(), raw()
    for part in (world.train, world.val):
        assert torch.equal(part.images, images[serials(part)])
        assert torch.equal(part.labels, labels[serials(part)])
        assert torch.equal(part.poses, identity(len(part)))
    assert torch.equal(world.test.images, test_images) and torch.equal(world.test.labels, test_labels)


@pytest.mark.parametrize("name", WORLDS)
def test_split_is_eleven_to_one_disjoint_and_the_same_in_every_world(name):
    world, clean = world_of(name, train=48), world_of(train=48)
    assert (len(world.train), len(world.val), len(world.test)) == (44, 4, TEST)
    assert sorted(serials(clean.train) + serials(clean.val)) == list(range(48))
    assert torch.equal(world.train.labels, clean.train.labels) and torch.equal(world.val.labels, clean.val.labels)
    assert serials(clean.train) != sorted(serials(clean.train))  # drawn, not cut off


def test_a_replica_merges_training_and_validation():
    world, split = world_of(replica=True), world_of()
    assert world.val is None
    assert serials(world.train) == serials(split.train) + serials(split.val)
    assert torch.equal(world.test.images, split.test.images)


def test_parts_are_distorted_by_seeds_of_their_own():
    same = noise(1).expand(24, 1, 28, 28)
    labels = torch.zeros(24, dtype=torch.int64)
    world = make_world("mnist", "rotated28", ((same, labels), (same[:2], labels[:2])), "made up", False, "cpu")
    starts = [part.poses[:2].tolist() for part in (world.train, world.val, world.test)]
    assert starts[0] != starts[1] != starts[2] != starts[0]


@pytest.mark.parametrize("name", WORLDS)
def test_spec_describes_the_training_images(name):
    world = world_of(name)
    pixels = world.train.images.double().numpy() / 255
    spec = world.spec
    assert (spec["channels"], spec["canvas"], spec["view"], spec["classes"]) == (
        1,
        *(WORLDS[name][k] for k in ("canvas", "view")),
        10,
    )
    assert spec["background"] == [0.0]
    assert spec["mean"] == pytest.approx([pixels.mean()], rel=1e-5)
    assert spec["std"] == pytest.approx([pixels.std()], rel=1e-3)


def test_batch_gives_floats_from_0_to_1_and_their_labels():
    part = world_of().train
    part.images[3, 0, 5, 5], part.images[1, 0, 5, 5] = 255, 0
    x, y = part.batch([3, 1])
    assert x.dtype == torch.float32 and x[:, 0, 5, 5].tolist() == [1.0, 0.0]
    assert y.tolist() == part.labels[[3, 1]].tolist()


def test_first_takes_the_first_images_and_refuses_more_than_there_are():
    part = world_of().train
    assert serials(part.first(5)) == serials(part)[:5] and len(part.first(None)) == 22
    with pytest.raises(ValueError, match="n_train: 23 images asked for, 22 are there"):
        part.first(23)


# Glyphs


def test_glyphs_are_uint8_pictures_of_all_ten_classes_in_both_sets():
    for (images, labels), count in zip(glyphs.glyphs(200, 100), (200, 100)):
        assert images.shape == (count, 1, 28, 28) and images.dtype == torch.uint8
        assert labels.shape == (count,) and sorted(set(labels.tolist())) == list(range(10))
        assert images.amax(dim=(1, 2, 3)).min() > 100  # each shows something, on black
        assert images[..., 0].max() == 0 and (images == 0).float().mean() > 0.5


def test_glyphs_are_the_same_each_time_and_differ_between_seeds():
    first, again, other = (glyphs.draw(glyphs.FONTS[1], 50, seed) for seed in (3, 3, 4))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_fonts_of_training_and_test_are_different_and_come_with_matplotlib():
    import matplotlib

    train, test = glyphs.FONTS
    files = [Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf" for font in train + test]
    sums = {hashlib.md5(path.read_bytes()).hexdigest() for path in files}
    assert len(sums) == len(train) + len(test) == len({*train, *test})


def test_test_glyphs_are_drawn_from_the_test_fonts_by_a_seed_of_their_own(monkeypatch):
    monkeypatch.setattr(glyphs, "draw", lambda fonts, count, seed: (fonts, count, seed))
    (fonts, count, seed), (test_fonts, test_count, test_seed) = glyphs.glyphs()
    assert (count, test_count) == (60_000, 10_000)
    assert seed != test_seed and not set(fonts) & set(test_fonts)


def test_labels_say_what_the_glyphs_show():
    (images, labels), (test_images, test_labels) = glyphs.glyphs(600, 300)
    means = torch.stack([images[labels == digit].float().mean(dim=0) for digit in range(10)]).flatten(1)
    nearest = torch.cdist(test_images.float().flatten(1), means).argmin(dim=1)
    assert (nearest == test_labels).float().mean() > 0.6  # fonts never seen; by chance it would be 0.1
