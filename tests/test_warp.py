"""warp: scipy and kornia as independent oracles, arithmetic by hand, properties over random numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.geometry import transform as kornia
from scipy import ndimage

from stn_utils.warp import (
    PADDINGS,
    affine,
    compose,
    corners,
    determinant,
    from_pixels,
    identity,
    invert,
    make_grid,
    on_shape,
    outside,
    overlap,
    sample,
    to_pixels,
    warp,
)

SCIPY_MODE = {
    "zeros": "grid-constant",
    "border": "nearest",
    "reflection": "reflect",
    "background": "grid-constant",
}
KORNIA_MODE = {
    "zeros": "zeros",
    "border": "border",
    "background": "fill",
}  # its reflection turns at pixel centres
SIZES = [((7, 7), (7, 7)), ((5, 9), (5, 9)), ((5, 9), (8, 4)), ((8, 6), (3, 11))]
BACKGROUND = -0.4242

few = settings(max_examples=25, deadline=None, derandomize=True, database=None)
number = st.floats(-1, 1).map(lambda v: round(v, 3))
thetas = st.builds(
    lambda angle, scale, *rest: affine(*(torch.tensor([float(n)], dtype=torch.float64) for n in (angle, scale, *rest))),
    st.integers(-180, 180), st.floats(0.3, 2.0), number, number, number,
)  # fmt: skip
sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_thetas(count, seed=0):
    """Any matrix near a reasonable warp: the six numbers free, much of the window outside the image."""
    return identity(count, dtype=torch.float64) + 1.2 * (noise(count, 2, 3, seed=seed) - 0.5)


def close(actual, expected, within=1e-9):
    torch.testing.assert_close(actual, expected, atol=within, rtol=0)


# Oracles


def pixel_matrices_by_hand(theta, in_size, out_size):
    """Where the centres of three output pixels fall in the input, in pixels; the matrix through these points."""
    (hi, wi), (ho, wo) = in_size, out_size
    points = np.array([[0, 0], [wo, 0], [0, ho]])  # (column, row)
    from_edge = (points + 0.5) / [wo, ho]  # 0 at the left or upper edge, 1 at the other
    matrices = []
    for t in theta.numpy():
        found = (2 * from_edge - 1) @ t[:, :2].T + t[:, 2]
        found = (found + 1) / 2 * [wi, hi] - 0.5
        matrices.append(np.c_[(found[1] - found[0]) / wo, (found[2] - found[0]) / ho, found[0]])
    return torch.from_numpy(np.stack(matrices))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("in_size, out_size", SIZES)
def test_warp_agrees_with_scipy(in_size, out_size, padding):
    x, theta = noise(6, 2, *in_size), random_thetas(6)
    actual = warp(x, theta, out_size, padding, BACKGROUND)
    matrices = pixel_matrices_by_hand(theta, in_size, out_size).numpy()
    for image, matrix, result in zip(x, matrices, actual):
        rows_first = matrix[::-1, [1, 0, 2]]  # scipy counts (row, column), the course (x, y)
        for channel, expected in zip(image, result):
            oracle = ndimage.affine_transform(
                channel.numpy(), rows_first[:, :2], rows_first[:, 2], out_size, order=1, mode=SCIPY_MODE[padding],
                cval=BACKGROUND if padding == "background" else 0.0,
            )  # fmt: skip
            close(expected, torch.from_numpy(oracle))


@pytest.mark.parametrize("padding", KORNIA_MODE)
@pytest.mark.parametrize("in_size, out_size", SIZES)
def test_warp_agrees_with_kornia(in_size, out_size, padding):
    x, theta = noise(6, 3, *in_size), random_thetas(6, seed=1)
    forward = invert(
        pixel_matrices_by_hand(theta, in_size, out_size)
    )  # kornia wants input -> output, in pixels
    fill = (
        {"fill_value": torch.full((3,), BACKGROUND, dtype=torch.float64)}
        if padding == "background"
        else {}
    )
    oracle = kornia.warp_affine(
        x, forward, out_size, padding_mode=KORNIA_MODE[padding], align_corners=True, **fill
    )
    close(warp(x, theta, out_size, padding, BACKGROUND), oracle)


@pytest.mark.parametrize("angle", [17.0, -60.0, 135.0])
def test_a_positive_angle_turns_the_picture_counter_clockwise_as_in_kornia(angle):
    x = noise(1, 1, 9, 9)
    close(
        warp(x, affine(torch.tensor([angle], dtype=torch.float64))),
        kornia.rotate(x, torch.tensor(angle).double()),
    )


def test_background_padding_fills_each_channel_with_its_own_value():
    x, theta = noise(3, 2, 6, 8), random_thetas(3)
    values = torch.tensor([-0.5, 2.0], dtype=torch.float64).view(-1, 1, 1)
    actual = warp(x, theta, padding="background", background=values)
    for channel, value in enumerate(values.flatten().tolist()):
        close(
            actual[:, [channel]],
            warp(x[:, [channel]], theta, padding="background", background=value),
        )
    far_away = affine(shift_x=10.0).double()
    close(warp(x, far_away, padding="background", background=values), values.expand(3, 2, 6, 8))


def test_background_padding_keeps_a_plain_picture_plain():
    x = torch.full((4, 1, 5, 9), 0.3, dtype=torch.float64)
    close(warp(x, random_thetas(4), padding="background", background=0.3), x)


# Exact cases


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(28, 28), (5, 9), (1, 1)])
def test_identity_returns_the_picture(size, padding):
    x = noise(2, 3, *size)
    close(warp(x, identity(dtype=torch.float64), padding=padding), x, within=1e-14)


def test_affine_of_nothing_is_identity():
    assert torch.equal(affine(), identity())
    assert identity(3).tolist() == [[[1, 0, 0], [0, 1, 0]]] * 3


@pytest.mark.parametrize("right, down", [(2, 0), (0, 1), (-3, 2)])
def test_a_window_moved_by_whole_pixels_shows_the_picture_moved_the_other_way(right, down):
    height, width = 5, 9
    x = noise(1, 1, height, width)
    theta = affine(
        shift_x=torch.tensor([2 * right / width], dtype=torch.float64), shift_y=2 * down / height
    )
    around = torch.nn.functional.pad(x, (4, 4, 4, 4))
    close(
        warp(x, theta),
        around[..., 4 + down : 4 + down + height, 4 + right : 4 + right + width],
        within=1e-12,
    )


@pytest.mark.parametrize("quarters", [1, 2, 3, -1])
def test_quarter_turns_equal_rot90_counter_clockwise(quarters):
    x = noise(2, 1, 8, 8)
    turned = warp(x, affine(torch.tensor([90.0 * quarters], dtype=torch.float64)))
    close(turned, torch.rot90(x, quarters, dims=(2, 3)), within=1e-12)


def test_scale_below_one_zooms_in_on_the_middle():
    x = noise(1, 1, 8, 12)
    close(warp(x, affine(scale=0.5).double(), size=(4, 6)), x[..., 2:6, 3:9], within=1e-7)


def test_one_theta_serves_the_whole_batch():
    x, theta = noise(3, 1, 6, 6), random_thetas(1)
    assert torch.equal(warp(x, theta), warp(x, theta.expand(3, 2, 3)))


def test_grid_holds_x_then_y_at_pixel_centres():
    grid = make_grid(identity(2, dtype=torch.float64), (2, 4))
    assert grid.shape == (2, 2, 4, 2)
    close(
        grid[0, 0],
        torch.tensor([[-0.75, -0.5], [-0.25, -0.5], [0.25, -0.5], [0.75, -0.5]]).double(),
    )
    close(grid[1, :, 0, 1], torch.tensor([-0.5, 0.5]).double())


def test_sample_reads_halfway_between_two_pixels():
    x = torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]])
    centre, right_edge = torch.tensor([[[[0.0, 0.0], [1.0, -0.5]]]]).split(1, dim=2)
    assert sample(x, centre).item() == 1.0
    assert sample(x, right_edge).item() == 0.5
    assert sample(x, right_edge, "border").item() == 1.0


# The five readable numbers


@given(st.integers(-180, 180), st.floats(0.3, 2.0), number, number, number)
@few
def test_affine_is_shear_then_scale_then_turn_then_move(angle, scale, shift_x, shift_y, shear):
    a = np.deg2rad(angle)
    turn = np.array(
        [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    )  # y points down: clockwise on the screen
    expected = np.c_[turn @ (scale * np.eye(2)) @ [[1, shear], [0, 1]], [shift_x, shift_y]]
    numbers = (
        torch.tensor([float(n)], dtype=torch.float64)
        for n in (angle, scale, shift_x, shift_y, shear)
    )
    close(affine(*numbers)[0], torch.from_numpy(expected))


def test_a_window_turned_by_90_degrees_has_its_first_corner_at_the_top_right():
    top_left, top_right, bottom_right, bottom_left = (
        [-1.0, -1.0],
        [1.0, -1.0],
        [1.0, 1.0],
        [-1.0, 1.0],
    )
    close(corners(identity())[0], torch.tensor([top_left, top_right, bottom_right, bottom_left]))
    close(
        corners(affine(90))[0],
        torch.tensor([top_right, bottom_right, bottom_left, top_left]),
        within=1e-6,
    )


def test_a_positive_shear_pushes_the_lower_edge_of_the_window_to_the_right():
    expected = torch.tensor([[-1.5, -1.0], [0.5, -1.0], [1.5, 1.0], [-0.5, 1.0]])
    close(corners(affine(shear=0.5))[0], expected)


def test_affine_mixes_numbers_and_tensors_and_keeps_dtype():
    theta = affine(torch.tensor([0.0, 90.0], dtype=torch.float64), shift_x=0.5)
    assert theta.dtype == torch.float64
    close(
        theta,
        torch.tensor([[[1, 0, 0.5], [0, 1, 0]], [[0, -1, 0.5], [1, 0, 0]]], dtype=torch.float64),
    )


def test_affine_keeps_fractions_beside_whole_number_tensors():
    close(affine(torch.tensor([0, 0]), scale=0.7), affine(torch.tensor([0.0, 0.0]), scale=0.7))


# Properties


@given(thetas)
@few
def test_invert_undoes_from_both_sides(theta):
    one = identity(dtype=torch.float64)
    close(compose(theta, invert(theta)), one)
    close(compose(invert(theta), theta), one)


def test_invert_refuses_a_flat_window():
    with pytest.raises(RuntimeError):
        invert(torch.zeros(1, 2, 3))


@given(thetas, thetas, thetas)
@few
def test_compose_is_associative_and_follows_the_points(a, b, c):
    close(compose(compose(a, b), c), compose(a, compose(b, c)))
    points = corners(b)[0].numpy()  # what the second window shows, looked up in the first
    expected = points @ a[0, :, :2].numpy().T + a[0, :, 2].numpy()
    close(corners(compose(a, b))[0], torch.from_numpy(expected))


@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(-2, 2), st.integers(0, 3))
@few
def test_compose_agrees_with_two_warps_for_whole_pixel_moves_and_quarter_turns(
    right, down, again, quarters
):
    x = torch.nn.functional.pad(
        noise(1, 1, 4, 4), (10, 10, 10, 10)
    )  # 24x24, empty margin: nothing is cut off
    double = torch.zeros(1, dtype=torch.float64)
    first = affine(shift_x=double + right / 12, shift_y=down / 12)
    then = affine(double + 90 * quarters, shift_x=again / 12)
    close(warp(warp(x, first), then), warp(x, compose(first, then)))
    close(warp(warp(x, then), first), warp(x, compose(then, first)))


@given(st.integers(-180, 180), st.floats(0.3, 2.0), number, number)
@few
def test_determinant_is_scale_squared_and_the_area_of_the_window(angle, scale, shift, shear):
    theta = affine(torch.tensor([float(angle)], dtype=torch.float64), scale, shift, -shift, shear)
    x, y = corners(theta)[0].T
    shoelace = (x * y.roll(-1) - x.roll(-1) * y).sum() / 2
    assert determinant(theta).item() == pytest.approx(scale**2, rel=1e-9)
    assert determinant(theta).item() == pytest.approx(shoelace.item() / 4, rel=1e-9)


def test_determinant_of_a_mirrored_window_is_negative():
    assert determinant(torch.tensor([[[-1.0, 0, 0], [0, 2, 0]]])).item() == -2


@given(st.integers(0, 9), st.integers(0, 5))
@few
def test_outside_counts_the_pixels_that_left(columns, rows):
    theta = affine(
        shift_x=torch.tensor([2 * columns / 9], dtype=torch.float64), shift_y=-2 * rows / 5
    )
    left = 5 * 9 - (5 - rows) * (9 - columns)
    assert outside(theta, (5, 9)).item() == pytest.approx(left / 45)


def test_outside_of_a_window_twice_as_large_is_three_quarters():
    theta = torch.cat([identity(), affine(scale=2.0), affine(scale=0.5), affine(shift_x=3.0)])
    assert outside(theta).tolist() == [0.0, 0.75, 0.0, 1.0]


@pytest.mark.parametrize("padding", PADDINGS)
def test_gradients_with_respect_to_image_and_theta_are_right(padding):
    x, theta = noise(2, 2, 4, 5).requires_grad_(), random_thetas(2, seed=3).requires_grad_()
    torch.autograd.gradcheck(lambda x, theta: warp(x, theta, (3, 4), padding, 0.3), (x, theta))


# Errors


@pytest.mark.parametrize(
    "x, theta, padding, message",
    [
        (
            torch.rand(1, 8, 8),
            identity(),
            "zeros",
            r"x: expected images \(B, C, H, W\), got shape \(1, 8, 8\)",
        ),
        (
            torch.zeros(1, 1, 8, 8, dtype=torch.uint8),
            identity(),
            "zeros",
            "x: .*uint8.*Divide uint8 images by 255",
        ),
        (
            torch.rand(3, 1, 8, 8),
            identity(2),
            "zeros",
            r"theta: expected shape \(3, 2, 3\) or \(1, 2, 3\), got \(2, 2",
        ),
        (torch.rand(1, 1, 8, 8), torch.eye(2, 3), "zeros", r"theta: .*got \(2, 3\)"),
        (torch.rand(1, 1, 8, 8), torch.eye(3)[None], "zeros", r"theta: .*got \(1, 3, 3\)"),
        (torch.rand(1, 1, 8, 8), torch.zeros(1, 6), "zeros", r"theta: .*got \(1, 6\)"),
        (
            torch.rand(1, 1, 8, 8),
            identity().double(),
            "zeros",
            "theta is torch.float64 .* x is torch.float32",
        ),
        (
            torch.rand(1, 1, 8, 8),
            identity(device="meta"),
            "zeros",
            "theta is .* on meta, x is .* on cpu",
        ),
        (torch.rand(1, 1, 8, 8), identity() * float("nan"), "zeros", "theta: holds nan or inf"),
        (torch.rand(1, 1, 8, 8), identity() / 0, "zeros", "theta: holds nan or inf"),
        (
            torch.rand(1, 1, 8, 8),
            identity(),
            "zero",
            "unknown padding 'zero'. Did you mean 'zeros'",
        ),
        (
            torch.rand(1, 1, 8, 8),
            identity(),
            "backgruond",
            "unknown padding .* Did you mean 'background'",
        ),
    ],
)
def test_wrong_arguments_raise_and_the_message_names_them(x, theta, padding, message):
    with pytest.raises(ValueError, match=message):
        warp(x, theta, padding=padding)


def test_affine_takes_the_widest_floating_type_in_whatever_order():
    single, double = torch.ones(1), torch.ones(1, dtype=torch.float64)
    assert affine(single, double).dtype == affine(double, single).dtype == torch.float64
    assert affine(single.to(torch.bfloat16), single).dtype == torch.float32
    assert affine(torch.ones(1, dtype=torch.int64)).dtype == torch.get_default_dtype()


def test_affine_of_whole_numbers_stays_on_their_device():
    assert affine(torch.ones(1, dtype=torch.int64, device="meta")).device.type == "meta"
    assert affine(torch.tensor(3.0), torch.ones(2, device="meta")).device.type == "meta"


# ---- shapes: a turn is a turn ----


def bar(height, width, length, across):
    """A bar of that many pixels through the middle, lying or standing."""
    x = torch.zeros(1, 1, height, width, dtype=torch.float64)
    row, column = height // 2, width // 2
    ends = slice(-(length // 2), length // 2 + 1)
    if across:
        x[0, 0, row, column + ends.start : column + ends.stop] = 1
    else:
        x[0, 0, row + ends.start : row + ends.stop, column] = 1
    return x


@pytest.mark.parametrize("size", [(41, 81), (81, 41), (61, 61)])
def test_a_quarter_turn_lays_a_bar_down_whatever_the_shape(size):
    turned = warp(bar(*size, 41, across=False), affine(90.0, size=size).double())
    close(turned, bar(*size, 41, across=True), 1e-5)


@given(thetas, sizes)
@few
def test_on_a_shape_a_theta_does_in_pixels_what_it_does_on_a_square(theta, size):
    height, width = size
    half = torch.tensor([width, height], dtype=torch.float64) / 2
    square = torch.tensor([1.0, 1.0], dtype=torch.float64) * max(size) / 2
    place = torch.tensor([[0.3, -0.7]], dtype=torch.float64)  # pixels from the middle
    linear = theta.clone()
    linear[:, :, 2] = 0
    moved = [
        (place / side) @ on_shape(linear, shape)[0, :, :2].T * side
        for side, shape in ((half, size), (square, (max(size),) * 2))
    ]
    close(*moved)
    assert torch.equal(on_shape(theta, size)[:, :, 2], theta[:, :, 2])


# ---- pixels: what OpenCV and scipy take ----


@given(st.integers(0, 9), sizes, sizes)
@few
def test_a_pixel_matrix_lets_scipy_read_what_warp_reads(seed, size_in, size_out):
    theta, x = random_thetas(1, seed), noise(1, 1, *size_in, seed=seed)
    matrix = to_pixels(theta, size_in, size_out)[0].numpy()
    read = ndimage.affine_transform(
        x[0, 0].numpy(), matrix[::-1, 1::-1], matrix[::-1, 2], size_out, order=1,
        mode="grid-constant",
    )  # fmt: skip
    close(torch.from_numpy(read), warp(x, theta, size_out)[0, 0])


@pytest.mark.parametrize("size_in, size_out", [((28, 28), (28, 28)), ((24, 40), (31, 17))])
def test_a_pixel_matrix_lets_opencv_read_what_warp_reads(size_in, size_out):
    cv2 = pytest.importorskip("cv2")
    theta, x = affine(25.0, 0.8, 0.1, -0.2, 0.1, size=size_in), noise(1, 1, *size_in).float()
    matrix = to_pixels(theta.double(), size_in, size_out)[0].numpy()
    how = cv2.WARP_INVERSE_MAP | cv2.INTER_LINEAR
    read = cv2.warpAffine(x[0, 0].numpy(), matrix, size_out[::-1], flags=how)
    close(torch.from_numpy(read), warp(x, theta, size_out)[0, 0], 0.04)  # it counts in 32nds


@given(st.integers(0, 9), sizes, sizes)
@few
def test_a_pixel_matrix_of_the_corner_rule_is_torchs_own_with_align_corners(
    seed, size_in, size_out
):
    size_in, size_out = (tuple(side + 1 for side in size) for size in (size_in, size_out))
    theta, x = random_thetas(2, seed), noise(2, 1, *size_in, seed=seed)
    grid = F.affine_grid(theta, [2, 1, *size_out], align_corners=True)
    theirs = F.grid_sample(x, grid, align_corners=True)
    carried = from_pixels(to_pixels(theta, size_in, size_out, True), size_in, size_out)
    close(warp(x, carried, size_out), theirs)


@given(st.integers(0, 9), sizes, sizes)
@few
def test_from_pixels_undoes_to_pixels(seed, size_in, size_out):
    theta = random_thetas(3, seed)
    close(from_pixels(to_pixels(theta, size_in, size_out), size_in, size_out), theta)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_pixel_matrices_and_inverses_keep_half_precision(dtype):
    theta = affine(angle=20.0, scale=0.7, shift_x=0.2).to(dtype)
    for found, wanted in (
        (to_pixels(theta, (20, 30), (28, 28)), to_pixels(theta.float(), (20, 30), (28, 28))),
        (from_pixels(theta, (20, 30), (28, 28)), from_pixels(theta.float(), (20, 30), (28, 28))),
        (invert(theta), invert(theta.float())),
    ):
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), wanted, rtol=0.02, atol=0.06)


def test_a_window_in_whole_pixels_has_a_matrix_of_whole_numbers():
    theta = affine(scale=0.5, shift_x=0.5)  # the right half of the middle rows, of 8 x 8
    assert to_pixels(theta, (8, 8), (4, 4)).tolist() == [[[1, 0, 4], [0, 1, 2]]]


@pytest.mark.parametrize("size, align, least", [((0, 4), False, 1), ((4, 1), True, 2)])
def test_a_picture_too_small_for_its_rule_is_named(size, align, least):
    for call in (to_pixels, from_pixels):
        with pytest.raises(ValueError, match=f"size: expected at least {least} pixels"):
            call(identity(), (4, 4), size, align_corners=align)


# ---- what is no batch of images ----


@pytest.mark.parametrize("count", [0, 1])
def test_a_batch_of_none_and_of_one_are_batches(count):
    x = torch.rand(count, 2, 5, 6)
    assert warp(x, identity(count), (3, 4)).shape == (count, 2, 3, 4)
    assert warp(x, identity(1), padding="background").shape == x.shape


@pytest.mark.parametrize(
    "x, theta, size, text",
    [
        ([1.0], identity(), None, r"x: expected images \(B, C, H, W\), got a list"),
        (torch.rand(1, 1, 0, 4), identity(), None, r"x: expected images .* got shape \(1, 1, 0, 4\)"),
        (torch.rand(1, 1, 4, 4), [[1, 0, 0], [0, 1, 0]], None, "theta: expected a tensor, got a list"),
        (torch.rand(1, 1, 4, 4), np.eye(2, 3), None, "theta: expected a tensor, got a ndarray"),
        (torch.rand(1, 1, 4, 4), identity(), (0, 28), "size: expected a height and a width of at"),
    ],
)  # fmt: skip
def test_what_cannot_be_warped_is_named(x, theta, size, text):
    with pytest.raises(ValueError, match=text):
        warp(x, theta, size)


@pytest.mark.parametrize(
    "look, pose, expected",
    [
        # Two squares, (scale, x, y): half of the one lies in the other, a corner, apart, inside.
        ((0.5, 0, 0), (0.5, 0, 0), 1),
        ((0.5, 0, 0), (0.5, 0.5, 0), 1 / 3),
        ((0.5, 0, 0), (0.5, 0.5, 0.5), 1 / 7),
        ((0.25, -0.5, 0), (0.25, 0.5, 0), 0),
        ((0.25, 0.1, 0.1), (0.5, 0, 0), 1 / 4),
        ((2.0, 0, 0), (1.0, 0, 0), 1 / 4),
    ],
)
def test_the_overlap_of_two_windows_by_hand(look, pose, expected):
    one, other = (affine(scale=s, shift_x=x, shift_y=y) for s, x, y in (look, pose))
    torch.testing.assert_close(
        overlap(one, other), torch.tensor([float(expected)]), atol=0.03, rtol=0
    )
    same_way_round = overlap(other, one)
    torch.testing.assert_close(same_way_round, torch.tensor([float(expected)]), atol=0.03, rtol=0)


def test_a_turned_window_overlaps_itself_and_a_grid_is_taken_as_it_is():
    theta = affine(angle=30.0, scale=0.6, shift_x=0.1)
    assert overlap(theta, theta).item() == 1
    close(overlap(make_grid(theta, (28, 40)), theta), torch.ones(1), 1e-6)
