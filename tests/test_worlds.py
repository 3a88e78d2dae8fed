"""Worlds and glyphs: true poses, fixed splits, clutter from other digits, digits drawn from fonts."""

import hashlib
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.interpolate import RBFInterpolator

from stn_utils import data
from stn_utils.data import distort, glyphs
from stn_utils.data.worlds import (
    TRAIN_SEED,
    WORLDS,
    add_crops,
    distortion,
    is_random,
    make_world,
    statistics,
)
from stn_utils.experiment import choices
from stn_utils.families import FAMILIES, LATTICE, is_convex
from stn_utils.warp import affine, determinant, identity, invert, sample, warp

TRAIN, TEST = 24, 6
OF_ONE = [name for name in WORLDS if "pairs" not in WORLDS[name]]  # one digit a picture


def noise(count, side=28, seed=0):
    return torch.randint(
        256,
        (count, 1, side, side),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(seed),
    )


def raw(train=TRAIN, test=TEST):
    """Made-up ((images, labels), (test images, labels)); each image holds its number in its first pixels."""
    parts = []
    for count, seed in ((train, 0), (test, 1)):
        images = noise(count, seed=seed)
        images[:, 0, 0, 0] = torch.arange(count)
        parts.append((images, torch.arange(count) % 10))
    return tuple(parts)


# Worlds


def smooth_digits(count):
    """Flat blobs off the middle, unlike their mirror images and black at the edge: they survive a turn."""
    y, x = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    centres = 12 + 4 * torch.rand(2, count, 1, 1, 1, generator=torch.Generator().manual_seed(4))
    blob = torch.exp(-((x - centres[0]) ** 2 / 24 + (y - centres[1]) ** 2 / 12))
    return (255 * blob).round().to(torch.uint8)


def test_the_names_of_worlds_are_those_of_the_experiment():
    assert (*WORLDS, "own") == choices("world")
    assert (*data.DATASETS, "own") == choices("dataset")


def test_poses_of_translated42_give_the_digits_back_exactly():
    digits = noise(40)
    images, poses = distort(digits, 5, **distortion("translated42"))
    assert images.shape == (40, 1, 42, 42) and images.dtype == torch.uint8
    back = warp(images.double(), poses.double(), size=(28, 28))
    assert torch.equal(back.round().to(torch.uint8), digits)


def test_poses_of_rotated28_give_the_digits_back_but_for_blur():
    digits = smooth_digits(20)
    images, poses = distort(digits, 5, **distortion("rotated28"))
    assert (images.float() - digits.float()).abs().amax(
        dim=(1, 2, 3)
    ).median() > 60  # they did turn
    back = warp(images.float(), poses)
    assert (
        back - digits.float()
    ).abs().max() < 17  # two samplings of at most h^2/8 (|f_xx| + |f_yy|) = 8


def draws(seed, count, room, max_angle):
    """The generator's draws, as studies have stored them: angles first, then places, columns before rows."""
    random = torch.Generator().manual_seed(seed)
    angle = max_angle * (2 * torch.rand(count, generator=random) - 1)
    return angle.tolist(), torch.randint(room + 1, (count, 2), generator=random).tolist()


def test_translated42_puts_each_digit_where_the_seed_says():
    digits = noise(20)
    images, _ = distort(digits, 7, **distortion("translated42"))
    for digit, image, (column, row) in zip(digits, images, draws(7, 20, 14, 0)[1]):
        expected = torch.zeros(1, 42, 42, dtype=torch.uint8)
        expected[:, row : row + 28, column : column + 28] = digit
        assert torch.equal(image, expected)


def test_rotated28_turns_each_digit_clockwise_by_the_angle_the_seed_says():
    digits = smooth_digits(8)
    images, _ = distort(digits, 7, **distortion("rotated28"))
    for digit, image, angle in zip(digits, images, draws(7, 8, 0, 90)[0]):
        oracle = ndimage.rotate(
            digit[0].double(), -angle, reshape=False, order=1, mode="grid-constant"
        )
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


@pytest.mark.parametrize("world", sorted(filter(is_random, WORLDS)))
def test_same_seed_same_images_other_seed_other_images(world):
    digits = noise(10)
    first, again, other = (distort(digits, seed, **distortion(world)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def as_in_the_first_three_worlds(digits, seed, canvas, max_angle=0.0, scatter=False):
    """`distort` as it was before it could scale and clutter; stored results were made with it."""
    count, side, room = len(digits), digits.shape[-1], canvas - digits.shape[-1]
    random = torch.Generator().manual_seed(seed)
    angle = max_angle * (2 * torch.rand(count, generator=random) - 1)
    place = (
        torch.randint(room + 1, (count, 2), generator=random)
        if scatter
        else torch.full((count, 2), room // 2)
    )
    shift = (2 * place + side) / canvas - 1
    poses = affine(angle, side / canvas, shift[:, 0], shift[:, 1])
    images = warp(digits.float(), invert(poses), size=(canvas, canvas)).round().to(torch.uint8)
    return (images if max_angle or scatter else digits), poses


@pytest.mark.parametrize("world", ["clean28", "rotated28", "translated42"])
def test_the_first_three_worlds_have_kept_every_bit(world):
    digits = noise(50)
    now, before = (
        make(digits, 11, **distortion(world)) for make in (distort, as_in_the_first_three_worlds)
    )
    assert torch.equal(now[0], before[0]) and torch.equal(now[1], before[1])


# Scales


def test_poses_of_rts42_give_the_digits_back_but_for_blur():
    digits = smooth_digits(40)
    images, poses = distort(digits, 5, **distortion("rts42"))
    assert images.shape == (40, 1, 42, 42) and images.dtype == torch.uint8
    back = warp(images.float(), poses, size=(28, 28))
    assert (
        back - digits.float()
    ).abs().max() < 25  # two samplings: 8 as above, and 8 / 0.7^2 on the smallest


def test_rts42_turns_and_scales_within_its_range_and_leaves_no_part_of_the_range_out():
    _, poses = distort(noise(500, side=2), 0, **{**distortion("rts42"), "canvas": 3})
    scales = determinant(poses).sqrt() * 3 / 2
    angles = torch.rad2deg(torch.atan2(poses[:, 1, 0], poses[:, 0, 0]))
    assert 0.7 <= scales.min() < 0.71 and 1.19 < scales.max() < 1.2001
    assert -45.001 < angles.min() < -44 and 44 < angles.max() < 45.001


def test_the_whole_window_of_a_scaled_digit_lies_on_the_canvas_and_goes_up_to_its_edges():
    _, poses = distort(noise(500, side=28), 0, **distortion("rts42"))
    half = determinant(poses).sqrt()  # of the window before it was turned, in half canvases
    edges = [poses[:, :, 2] - half[:, None], poses[:, :, 2] + half[:, None]]
    assert -1.0001 < edges[0].min() < -0.99 and 0.99 < edges[1].max() < 1.0001


def test_a_scaled_digit_is_scaled_even_where_the_canvas_is_as_large_as_the_digit():
    digits = torch.full((1, 1, 28, 28), 200, dtype=torch.uint8)
    images, poses = distort(digits, 0, canvas=28, scales=(0.5, 0.5))
    assert torch.equal(images, torch.nn.functional.pad(digits[..., :14, :14], (7, 7, 7, 7)))
    assert poses.tolist() == [[[0.5, 0, 0], [0, 0.5, 0]]]


# Bent


def test_a_projective_pose_gives_the_digit_back_but_for_blur():
    digits = smooth_digits(40)
    images, poses = distort(digits, 5, canvas=42, scales=(0.75, 1.0), corner_noise=2.0)
    assert images.shape == (40, 1, 42, 42) and poses.shape == (40, 8)
    grid = FAMILIES["projective"].look(poses, (42, 42), (28, 28))
    off = (sample(images.float(), grid) - digits.float()).abs().amax(dim=(1, 2, 3))
    assert off.median() < 25 and off.max() < 60  # a corner may be squeezed to a third


def test_corners_move_by_the_noise_and_stay_convex():
    _, poses = distort(noise(800, side=28), 0, canvas=42, corner_noise=1.5)
    square = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    moved = FAMILIES["projective"].points(poses, square) - 28 / 42 * square
    assert moved.std().item() * 42 / 2 == pytest.approx(1.5, rel=0.05)
    assert moved.mean().abs() * 42 / 2 < 0.1
    _, wild = distort(noise(800, side=28), 0, canvas=42, corner_noise=9.0)  # many are drawn again
    assert is_convex(FAMILIES["projective"].points(wild, square)).all()


def test_elastic28_bends_each_digit_along_scipys_spline():
    digits = smooth_digits(6)
    images, poses = distort(digits, 5, **distortion("elastic28"))
    bends = (poses.view(6, 16, 2) - LATTICE) * 28 / 2
    assert bends.std().item() == pytest.approx(1.5, rel=0.2)
    centres = np.linspace(-1, 1, 4)
    lattice = np.array([(x, y) for y in centres for x in centres])
    places = np.array(
        [((2 * x + 1) / 28 - 1, (2 * y + 1) / 28 - 1) for y in range(28) for x in range(28)]
    )
    for digit, image, pose in zip(digits, images, poses):
        spline = RBFInterpolator(
            lattice, pose.view(16, 2).double().numpy(), kernel="thin_plate_spline"
        )
        x, y = ((spline(places) + 1) * 28 - 1).T / 2
        oracle = ndimage.map_coordinates(
            digit[0].double().numpy(), [y, x], order=1, mode="grid-constant"
        )
        assert abs(image[0].numpy().ravel() - oracle).max() < 0.52  # rounding


# Tested farther than trained


@pytest.mark.parametrize("name, far", [("rts42-15", 15), ("rts42-15-45", 45), ("rts42-15-90", 90)])
def test_a_world_may_be_tested_on_turns_that_it_does_not_train(name, far):
    count = 400
    digits, labels = smooth_digits(10).repeat(count // 10, 1, 1, 1), torch.arange(count) % 10
    world = make_world("mnist", name, ((digits, labels), (digits, labels)), "", False, "cpu")
    for split, most in ((world.train, 15), (world.val, 15), (world.test, far)):
        a, b = split.poses[:, 0, 0], split.poses[:, 1, 0]
        angles = torch.rad2deg(torch.atan2(b, a)).abs()
        assert 0.9 * most < angles.max() <= most + 1e-3, split
    assert world.augmented(1).poses[:, 1, 0].abs().max() < 1.2 * math.sin(math.radians(15.1))


# Pairs


def test_addition42_has_a_digit_a_channel_their_sum_and_both_poses():
    digits, labels = smooth_digits(10), torch.arange(10)
    world = make_world(
        "mnist", "addition42", ((digits, labels), (digits, labels)), "", False, "cpu"
    )
    images, poses = world.test.images, world.test.poses
    assert images.shape == (10, 2, 42, 42) and poses.shape == (10, 2, 2, 3)
    assert world.names == [str(number) for number in range(19)] and world.spec.channels == 2
    found = []
    for channel in range(2):
        back = warp(images[:, [channel]].float(), poses[:, channel], size=(28, 28))
        off = (back[:, None] - digits.float()[None]).square().mean(dim=(2, 3, 4))
        assert off.amin(dim=1).max() < 16
        found.append(labels[off.argmin(dim=1)])
    assert world.test.labels.equal(sum(found)) and not found[0].equal(found[1])
    assert not poses[:, 0].equal(poses[:, 1])


def test_what_cannot_be_added_up_is_refused():
    with pytest.raises(
        ValueError, match="world='addition42': it adds digits up, and fashion-mnist"
    ):
        make_world("fashion-mnist", "addition42", raw(), "", False, "cpu", ["shirt"] * 10)
    with pytest.raises(
        ValueError, match="addition42: it has pairs, so no picture can be drawn anew"
    ):
        make_world("mnist", "addition42", raw(), "", False, "cpu").augmented(1)


# Clutter

CLUTTERED = ["cluttered40", "cluttered60", "s3"]


def cluttered(digits, seed, canvas, crops, crop_sides, mix, binary=False, scatter=True):
    """Pictures of digits (N, side, side) at whole pixels, piece by piece; float32 draws, in the generator's order."""
    random = torch.Generator().manual_seed(seed)
    digits = 255 * (digits > 0) if binary else digits.astype(int)
    count, side, _ = digits.shape
    torch.rand(count, generator=random)  # the angles
    places = torch.randint(canvas - side + 1, (count, 2), generator=random).tolist()
    pictures = []
    for start in range(0, count, 5000):
        own = range(start, min(count, start + 5000))
        layers = {i: np.zeros((canvas, canvas), int) for i in own}
        for _ in range(crops):
            shares = [torch.rand(len(own), n, generator=random).numpy() for n in (1, 1, 2, 2)]
            for i, (size,), (which,), (row, column), (top, left) in zip(own, *shares):
                size = crop_sides[0] + int(size * (crop_sides[1] - crop_sides[0] + 1))
                other = [j for j in (*range(i + 1, count), *range(i))][int(which * (count - 1))]
                row, column = int(row * (side - size + 1)), int(column * (side - size + 1))
                top, left = int(top * (canvas - size + 1)), int(left * (canvas - size + 1))
                piece = digits[other, row : row + size, column : column + size]
                under = layers[i][top : top + size, left : left + size]
                under[:] = {"max": np.maximum(under, piece), "sum": under + piece, "over": piece}[
                    mix
                ]
        for i in own:
            placed = np.zeros((canvas, canvas), int)
            column, row = places[i]
            placed[row : row + side, column : column + side] = digits[i]
            pictures.append(
                np.maximum(placed, layers[i])
                if mix == "max"
                else np.minimum(placed + layers[i], 255)
            )
    return np.stack(pictures)


@pytest.mark.parametrize("world", CLUTTERED)
def test_clutter_is_what_a_slow_loop_over_the_same_draws_makes(world):
    digits = noise(30) * (noise(30, seed=1) < 100)  # dark in places, as digits are
    images, _ = distort(digits, 7, **distortion(world))
    assert (images[:, 0].numpy() == cluttered(digits[:, 0].numpy(), 7, **distortion(world))).all()


def test_images_beyond_the_first_part_get_pieces_of_any_other_image_too():
    digits = noise(5003, side=2)
    recipe = dict(canvas=4, scatter=True, crops=1, crop_sides=(1, 2), mix="sum")
    wanted = cluttered(digits[:, 0].numpy(), 7, **recipe)
    assert (distort(digits, 7, **recipe)[0][:, 0].numpy() == wanted).all()


def greys(count):
    """Images that are each one grey of their own: 1, 2, 3."""
    return (
        torch.arange(1, count + 1, dtype=torch.uint8)
        .view(-1, 1, 1, 1)
        .expand(-1, 1, 28, 28)
        .contiguous()
    )


def strewn(images, canvas=40, crops=1, sides=(6, 6), mix="max", seed=0):
    """Pieces of images strewn on black: (N, canvas, canvas)."""
    black = torch.zeros(len(images), 1, canvas, canvas)
    random = torch.Generator().manual_seed(seed)
    return add_crops(black, images, torch.arange(len(images)), random, crops, sides, mix)[:, 0]


@pytest.mark.parametrize("mix", ["max", "over"])
def test_pieces_come_from_every_image_but_the_own(mix):
    images = greys(12)
    seen = [
        set(strewn(images, crops=6, mix=mix, seed=seed)[4].unique().tolist()) for seed in range(60)
    ]
    assert set.union(*seen) == {0, *range(1, 13)} - {5}


@pytest.mark.parametrize("sides", [(6, 6), (6, 8)])
def test_a_piece_is_a_square_of_one_grey_with_a_side_in_its_range(sides):
    found = set()
    for picture in strewn(greys(200), sides=sides):
        rows, columns = picture.nonzero().T
        side = len(rows.unique())
        assert len(columns.unique()) == side and len(rows) == side**2 and len(picture.unique()) == 2
        found.add(side)
    assert found == set(range(sides[0], sides[1] + 1))


@pytest.mark.parametrize("canvas", [40, 60])
def test_every_piece_lies_wholly_on_the_canvas_and_every_row_and_column_gets_some(canvas):
    ones = torch.ones(400, 1, 28, 28, dtype=torch.uint8)
    pictures = strewn(ones, canvas, crops=6, mix="sum")
    assert (pictures.sum(dim=(1, 2)) == 6 * 6**2).all()  # no more pieces, no fewer, none cut off
    assert pictures.sum(dim=(0, 1)).all() and pictures.sum(dim=(0, 2)).all()


def test_a_piece_may_come_from_anywhere_in_its_image_and_holds_neighbours():
    columns = torch.arange(1, 29, dtype=torch.uint8).expand(300, 1, 28, 28)
    for images in (columns, columns.mT):
        pieces = [picture[picture > 0].view(6, 6) for picture in strewn(images.contiguous())]
        lines = torch.stack([piece if images is columns else piece.T for piece in pieces])
        assert (lines == lines[:, :1, :1] + torch.arange(6)).all()
        assert set(lines[:, 0, 0].tolist()) == set(range(1, 24))


@pytest.mark.parametrize("world", CLUTTERED)
def test_clutter_darkens_no_pixel_of_the_digit_and_leaves_its_pose(world):
    digits = noise(40)
    recipe = distortion(world)
    images, poses = distort(digits, 3, **recipe)
    placed, places = distort(digits, 3, **{**recipe, "crops": 0})
    assert (images >= placed).all() and (images > placed).flatten(1).any(dim=1).all()
    assert torch.equal(poses, places)


def test_with_max_every_pixel_around_the_digit_is_black_or_a_pixel_of_another_image():
    digits = greys(100)
    images, poses = distort(digits, 0, **distortion("cluttered40"))
    placed, _ = distort(digits, 0, **{**distortion("cluttered40"), "crops": 0})
    for own, image, digit in zip(range(1, 101), images, placed):
        assert own not in image[digit == 0]
        assert (image[digit > 0] >= own).all() and image.max() <= 100


def test_with_sum_pieces_and_digit_add_up_to_white_and_no_further():
    digits = torch.full((60, 1, 28, 28), 100, dtype=torch.uint8)
    images, _ = distort(digits, 0, **distortion("cluttered60"))
    assert images.unique().tolist() == [0, 100, 200, 255]


def test_s3_is_black_and_white():
    images, poses = distort(noise(40) * (noise(40, seed=1) < 100), 0, **distortion("s3"))
    assert images.unique().tolist() == [0, 255]
    plain, _ = distort(noise(40), 0, **{**distortion("s3"), "crops": 0})
    back = warp(plain.float(), poses, size=(28, 28)).round()
    assert torch.equal(back, 255.0 * (noise(40) > 0))


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
    assert torch.equal(world.test.images, test_images) and torch.equal(
        world.test.labels, test_labels
    )


@pytest.mark.parametrize("name", OF_ONE)
def test_split_is_eleven_to_one_disjoint_and_the_same_in_every_world(name):
    world, clean = world_of(name, train=48), world_of(train=48)
    assert (len(world.train), len(world.val), len(world.test)) == (44, 4, TEST)
    assert sorted(serials(clean.train) + serials(clean.val)) == list(range(48))
    assert torch.equal(world.train.labels, clean.train.labels) and torch.equal(
        world.val.labels, clean.val.labels
    )
    assert serials(clean.train) != sorted(serials(clean.train))  # drawn, not cut off


def test_a_replica_merges_training_and_validation():
    world, split = world_of(replica=True), world_of()
    assert world.val is None
    assert serials(world.train) == serials(split.train) + serials(split.val)
    assert torch.equal(world.test.images, split.test.images)


def test_parts_are_distorted_by_seeds_of_their_own():
    same = noise(1).expand(24, 1, 28, 28)
    labels = torch.zeros(24, dtype=torch.int64)
    world = make_world(
        "mnist", "rotated28", ((same, labels), (same[:2], labels[:2])), "made up", False, "cpu"
    )
    starts = [part.poses[:2].tolist() for part in (world.train, world.val, world.test)]
    assert starts[0] != starts[1] != starts[2] != starts[0]


@pytest.mark.parametrize("name", OF_ONE)
def test_spec_describes_the_training_images(name):
    world = world_of(name)
    pixels = world.train.images.double().numpy() / 255
    spec = world.spec
    sizes = [(WORLDS[name][key],) * 2 for key in ("canvas", "output_size")]
    assert spec[:4] == (1, *sizes, 10)
    assert spec.background == [0.0]
    assert spec.mean == pytest.approx([pixels.mean()], rel=1e-5)
    assert spec.std == pytest.approx([pixels.std()], rel=1e-3)


def test_batch_gives_floats_from_0_to_1_and_their_labels():
    part = world_of().train
    part.images[3, 0, 5, 5], part.images[1, 0, 5, 5] = 255, 0
    x, y = part.batch([3, 1])
    assert x.dtype == torch.float32 and x[:, 0, 5, 5].tolist() == [1.0, 0.0]
    assert y.tolist() == part.labels[[3, 1]].tolist()


def test_head_takes_the_first_images_and_refuses_more_than_there_are():
    part = world_of().train
    assert serials(part.head(5)) == serials(part)[:5] and len(part.head(None)) == 22
    with pytest.raises(ValueError, match="n_train: 23 images asked for, 22 are there"):
        part.head(23)


@pytest.mark.parametrize("name", ["rts42", "cluttered40"])
@pytest.mark.parametrize("replica", [False, True])
def test_augmented_are_the_training_digits_with_their_labels_in_other_pictures(name, replica):
    world = world_of(name, replica)
    new, again, other = (world.augmented(seed) for seed in (50, 50, 51))
    assert torch.equal(new.labels, world.train.labels)
    assert torch.equal(new.images, again.images) and torch.equal(new.poses, again.poses)
    for part in (world.train, other):
        assert not any(torch.equal(ours, theirs) for ours, theirs in zip(new.images, part.images))
        assert not torch.equal(new.poses, part.poses)
    assert torch.equal(
        world.augmented(TRAIN_SEED).images, world.train.images
    )  # the same digits, then


def test_augmented_can_be_the_first_few_and_refuses_more_than_there_are():
    world = world_of("translated42")
    part = world.augmented(50, 5)
    assert torch.equal(part.labels, world.train.labels[:5])
    assert torch.equal(
        warp(part.images.float(), part.poses, size=(28, 28)).round(),
        world.upright[world.order[:5]].float(),
    )
    with pytest.raises(ValueError, match="n_train: 23 images asked for, 22 are there"):
        world.augmented(50, 23)


@pytest.mark.parametrize("name", OF_ONE)
def test_a_world_is_random_if_another_seed_draws_other_pictures(name):
    digits = noise(4)
    ours, theirs = (distort(digits, seed, **distortion(name))[0] for seed in (1, 2))
    assert is_random(name) != torch.equal(ours, theirs)


def test_where_nothing_is_random_no_picture_is_drawn_anew():
    with pytest.raises(ValueError, match="clean28: nothing in it is random"):
        world_of().augmented(50)


def test_statistics_have_a_number_a_channel():
    images = torch.cat([noise(50, seed=seed) // (1 + seed) for seed in range(3)], dim=1)
    mean, std = statistics(images)
    pixels = images.double().numpy() / 255
    assert mean == pytest.approx(pixels.mean(axis=(0, 2, 3)).tolist(), rel=1e-5)
    assert std == pytest.approx(pixels.std(axis=(0, 2, 3)).tolist(), rel=1e-4)


# Pictures that are not square


def smooth_bar(height, width):
    """A soft bar off the middle, black at the edge: (1, 1, height, width), uint8."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    bar = torch.exp(-(((x - 0.55 * width) / 5) ** 2) - ((y - 0.45 * height) / 3) ** 2)
    return (255 * bar).round().to(torch.uint8)[None, None]


def test_a_box_that_is_only_moved_keeps_its_sides():
    box = torch.zeros(30, 1, 28, 40, dtype=torch.uint8)
    box[..., 10:18, 10:30] = 255
    images, poses = distort(box, 0, canvas=(60, 50), scatter=True)
    assert images.shape == (30, 1, 60, 50)
    for image in images[:, 0] > 127:
        assert (image.any(dim=1).sum(), image.any(dim=0).sum()) == (8, 20)
    back = warp(images.double(), poses.double(), size=(28, 40))
    assert torch.equal(back.round().to(torch.uint8), box)


def test_places_on_a_canvas_that_is_not_square_cover_it():
    _, poses = distort(noise(300, side=2), 0, canvas=(3, 5), scatter=True)
    places = {(round(x, 4), round(y, 4)) for x, y in poses[:, :, 2].tolist()}
    rows, columns = (-1 / 3, 1 / 3), (-0.6, -0.2, 0.2, 0.6)
    assert places == {(round(x, 4), round(y, 4)) for y in rows for x in columns}


@pytest.mark.parametrize("height, width", [(41, 61), (61, 41)])
def test_a_turn_is_a_turn_on_every_shape(height, width):
    picture = smooth_bar(height, width).expand(6, -1, -1, -1)
    images, _ = distort(picture, 7, canvas=(height, width), max_angle=90.0)
    for image, angle in zip(images, draws(7, 6, 0, 90)[0]):
        options = dict(reshape=False, order=1, mode="grid-constant")
        oracle = ndimage.rotate(picture[0, 0].double(), -angle, **options)
        assert abs(image[0].numpy() - oracle).max() < 0.51  # rounding


@pytest.mark.parametrize("canvas", [(60, 90), (90, 60), 80])
def test_poses_undo_turn_scale_and_place_on_every_shape(canvas):
    picture = smooth_bar(40, 50).expand(20, 2, -1, -1)
    options = dict(max_angle=45.0, scales=(0.7, 1.1), scatter=True)
    images, poses = distort(picture, 3, canvas=canvas, **options)
    back = warp(images.float(), poses, size=(40, 50))
    assert (back - picture.float()).abs().max() < 26  # two samplings


def test_clutter_strews_square_pieces_over_the_whole_of_any_canvas():
    ones = torch.ones(400, 1, 20, 30, dtype=torch.uint8)
    random = torch.Generator().manual_seed(0)
    black = torch.zeros(400, 1, 24, 44)
    strewn_ = add_crops(black, ones, torch.arange(400), random, 6, (6, 6), "sum")[:, 0]
    assert (strewn_.sum(dim=(1, 2)) == 6 * 6**2).all()
    assert strewn_.sum(dim=(0, 1)).all() and strewn_.sum(dim=(0, 2)).all()


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
    files = [
        Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf" for font in train + test
    ]
    sums = {hashlib.md5(path.read_bytes()).hexdigest() for path in files}
    assert len(sums) == len(train) + len(test) == len({*train, *test})


def test_test_glyphs_are_drawn_from_the_test_fonts_by_a_seed_of_their_own(monkeypatch):
    monkeypatch.setattr(glyphs, "draw", lambda fonts, count, seed: (fonts, count, seed))
    (fonts, count, seed), (test_fonts, test_count, test_seed) = glyphs.glyphs()
    assert (count, test_count) == (60_000, 10_000)
    assert seed != test_seed and not set(fonts) & set(test_fonts)


def test_labels_say_what_the_glyphs_show():
    (images, labels), (test_images, test_labels) = glyphs.glyphs(600, 300)
    means = torch.stack(
        [images[labels == digit].float().mean(dim=0) for digit in range(10)]
    ).flatten(1)
    nearest = torch.cdist(test_images.float().flatten(1), means).argmin(dim=1)
    assert (
        nearest == test_labels
    ).float().mean() > 0.6  # fonts never seen; by chance it would be 0.1
