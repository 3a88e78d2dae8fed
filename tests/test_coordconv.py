"""CoordConv2d: a plain convolution over an image with its coordinates, in nn.Conv2d's place wherever that may stand."""

import copy
import math
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stn_utils.layers import CoordConv2d, coordinates


def test_coordinates_run_from_corner_to_corner_x_along_the_row_and_y_down_the_column():
    x, y = coordinates(3, 5)
    assert x.tolist() == [[-1, -0.5, 0, 0.5, 1]] * 3
    assert y.tolist() == [[-1] * 5, [0] * 5, [1] * 5]


@pytest.mark.parametrize("height, width", [(2, 2), (3, 5), (5, 3), (28, 42), (41, 2)])
def test_coordinates_are_those_that_a_sampler_with_aligned_corners_reads_at_each_pixel(
    height, width
):
    still = torch.eye(2, 3, dtype=torch.float64)[None]
    grid = F.affine_grid(still, (1, 1, height, width), align_corners=True)[0]
    torch.testing.assert_close(
        coordinates(height, width, dtype=torch.float64), grid.permute(2, 0, 1)
    )


def test_the_radius_is_0_in_the_centre_and_the_root_of_2_in_every_corner_whatever_the_shape():
    for height, width in ((3, 3), (3, 7), (9, 5)):
        x, y, radius = coordinates(height, width, radius=True)
        assert radius[height // 2, width // 2].item() == pytest.approx(0, abs=1e-6)
        corners = [radius[i, j].item() for i in (0, -1) for j in (0, -1)]
        assert corners == pytest.approx([math.sqrt(2)] * 4)
        torch.testing.assert_close(radius, torch.hypot(x, y))
        assert torch.equal(torch.stack([x, y]), coordinates(height, width))


@pytest.mark.parametrize("radius", [False, True])
def test_a_single_column_or_row_is_the_centre(radius):
    assert coordinates(4, 1, radius)[0].tolist() == [[0]] * 4
    assert coordinates(1, 4, radius)[1].tolist() == [[0] * 4]
    assert not coordinates(1, 1, radius).any()


def with_place(x, radius=False):
    """Images (B, C, H, W) with their coordinates behind them, a pixel at a time: no code of the layer in it."""
    height, width = x.shape[-2:]
    added = torch.zeros(len(x), 2 + radius, height, width, dtype=x.dtype)
    for row in range(height):
        for column in range(width):
            across = 2 * column / (width - 1) - 1 if width > 1 else 0.0
            down = 2 * row / (height - 1) - 1 if height > 1 else 0.0
            place = [across, down, math.hypot(across, down)][: 2 + radius]
            added[:, :, row, column] = torch.tensor(place, dtype=x.dtype)
    return torch.cat([x, added], dim=1)


OPTIONS = {
    "plain": {}, "stride": {"stride": 2}, "padding": {"padding": 2}, "dilation": {"dilation": 2}, "no bias": {"bias": False},
    "all of them": {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "bias": False}, "same": {"padding": "same"},
}  # fmt: skip


@pytest.mark.parametrize("radius", [False, True])
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_coordconv_is_a_convolution_over_the_image_and_its_coordinates(options, radius):
    layer = CoordConv2d(3, 4, 3, radius=radius, **options)
    x = torch.randn(2, 3, 9, 7)
    assert layer.weight.shape == (4, 5 + radius, 3, 3)
    assert (layer.bias is not None) == options.get("bias", True)
    rest = {name: value for name, value in options.items() if name != "bias"}
    torch.testing.assert_close(
        layer(x), F.conv2d(with_place(x, radius), layer.weight, layer.bias, **rest)
    )


@pytest.mark.parametrize(
    "options", [{"padding": 1, "padding_mode": "reflect"}, {"stride": 2}], ids=["reflect", "stride"]
)
def test_what_else_a_convolution_takes_is_handed_on_to_it(options):
    layer, plain = CoordConv2d(2, 6, 3, **options), nn.Conv2d(4, 6, 3, **options)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(2, 2, 6, 8)
    torch.testing.assert_close(layer(x), plain(with_place(x)))


@pytest.mark.parametrize("shape", [(2, 3, 1, 9), (2, 3, 9, 1), (1, 3, 1, 1), (0, 3, 4, 4)])
def test_coordconv_of_pictures_a_pixel_wide_high_or_none_at_all(shape):
    layer = CoordConv2d(3, 4, 1, radius=True)
    x = torch.randn(shape)
    torch.testing.assert_close(
        layer(x), F.conv2d(with_place(x, radius=True), layer.weight, layer.bias)
    )


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("radius", [False, True])
def test_without_weights_on_the_coordinates_it_is_the_plain_convolution(options, radius):
    layer, plain = (
        CoordConv2d(3, 4, 3, radius=radius, **options).double(),
        nn.Conv2d(3, 4, 3, **options).double(),
    )
    with torch.no_grad():
        layer.weight[:, 3:] = 0
        plain.weight.copy_(layer.weight[:, :3])
        if plain.bias is not None:
            plain.bias.copy_(layer.bias)
    x = torch.randn(2, 3, 9, 7, dtype=torch.float64)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    out, expected = layer(ours), plain(theirs)
    torch.testing.assert_close(out, expected)
    out.square().sum().backward(), expected.square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_one_weight_on_x_or_on_y_answers_with_the_place_in_the_picture():
    layer = CoordConv2d(1, 2, 1, bias=False)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 1] = layer.weight[1, 2] = 1.0
    (across, down), *_ = layer(torch.randn(1, 1, 3, 5))
    assert across.tolist() == [[-1, -0.5, 0, 0.5, 1]] * 3
    assert down.tolist() == [[-1] * 5, [0] * 5, [1] * 5]


def test_a_convolution_does_not_see_where_a_dot_lies_and_a_coordconv_does():
    torch.manual_seed(0)
    x = torch.zeros(2, 1, 9, 9)
    x[0, 0, 2, 2] = x[1, 0, 5, 6] = 1.0
    blind, aware = (
        layer(x).flatten(1).sort().values for layer in (nn.Conv2d(1, 3, 3), CoordConv2d(1, 3, 3))
    )
    torch.testing.assert_close(blind[0], blind[1])
    assert not torch.allclose(aware[0], aware[1], atol=1e-3)


@pytest.mark.parametrize("radius", [False, True])
def test_an_image_without_a_batch_gives_what_it_gives_in_one(radius):
    layer = CoordConv2d(3, 4, 3, padding=1, radius=radius)
    x = torch.randn(3, 6, 8)
    assert layer(x).shape == (4, 6, 8)
    torch.testing.assert_close(layer(x), layer(x[None])[0])


@pytest.mark.parametrize("radius", [False, True])
def test_no_weight_of_a_coordconv_is_dead_after_one_backward(radius):
    layer = CoordConv2d(2, 4, 3, radius=radius)
    layer(torch.rand(2, 2, 7, 7)).square().sum().backward()
    assert layer.weight.grad.count_nonzero() == layer.weight.numel()
    assert layer.bias.grad.count_nonzero() == 4


def test_coordconv_stands_where_a_convolution_stood_called_by_position_or_by_name():
    for arguments, names in (
        ((1, 8, 7), {}),
        ((1, 8, 5, 2, 1), {}),
        ((), dict(in_channels=1, out_channels=8, kernel_size=3)),
    ):
        plain, layer = nn.Conv2d(*arguments, **names), CoordConv2d(*arguments, **names)
        x = torch.rand(2, 1, 28, 20)
        assert layer(x).shape == plain(x).shape
        assert isinstance(layer, nn.Conv2d)


@pytest.mark.parametrize("radius", [False, True])
def test_a_coordconv_stores_its_weight_and_bias_and_nothing_else(radius):
    layer = CoordConv2d(2, 4, 3, radius=radius)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert not list(layer.buffers())
    again = CoordConv2d(2, 4, 3, radius=radius)
    again.load_state_dict(layer.state_dict())
    x = torch.rand(1, 2, 5, 5)
    assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["deepcopy", "pickle"],
)
def test_a_copied_coordconv_answers_alike_and_has_weights_of_its_own(twin):
    layer = CoordConv2d(2, 4, 3, stride=2, radius=True)
    again, x = twin(layer), torch.rand(2, 2, 9, 9)
    before = layer(x)
    assert torch.equal(again(x), before)
    nn.init.zeros_(again.weight)
    assert torch.equal(layer(x), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_coordconv_follows_the_type_of_its_input_and_its_coordinates_have_that_precision(dtype):
    layer = CoordConv2d(1, 2, 1, radius=True).to(dtype)
    x = torch.zeros(1, 1, 4, 7, dtype=dtype)
    out = layer(x)
    assert out.dtype == dtype == coordinates(4, 7, dtype=dtype).dtype
    expected = F.conv2d(
        with_place(x.double(), radius=True), layer.weight.double(), layer.bias.double()
    )
    tolerance = (
        1e-12 if dtype == torch.float64 else 0.05
    )  # thirds and root 2 rounded to single precision are 1e-8 away
    torch.testing.assert_close(out.double(), expected, atol=tolerance, rtol=0)


def test_coordconv_computes_where_its_input_is():
    layer = CoordConv2d(3, 4, 3, radius=True, device="meta", dtype=torch.float64)
    out = layer(torch.empty(2, 3, 8, 9, device="meta", dtype=torch.float64))
    assert (out.shape, out.dtype, out.device.type) == ((2, 4, 6, 7), torch.float64, "meta")
    assert coordinates(2, 3, device="meta").device.type == "meta"


def in_layout(module_or_tensor, last):
    """The same, with channels last or as it was."""
    return module_or_tensor.to(memory_format=torch.channels_last) if last else module_or_tensor


@pytest.mark.parametrize("weights_last", [False, True])
@pytest.mark.parametrize("images_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_layout_of_images_and_weights_does_not_change_what_a_coordconv_answers(
    channels, images_last, weights_last
):
    layer, x = CoordConv2d(channels, 8, 3), torch.rand(2, channels, 9, 7)
    expected = layer(x)
    torch.testing.assert_close(in_layout(layer, weights_last)(in_layout(x, images_last)), expected)


def layouts_of(kind, channels, images_last, weights_last):
    """Which layouts the output of a convolution has; that of an image of one channel may have several."""
    out = in_layout(kind(channels, 8, 3), weights_last)(
        in_layout(torch.rand(2, channels, 9, 7), images_last)
    )
    return [
        layout
        for layout in (torch.contiguous_format, torch.channels_last)
        if out.is_contiguous(memory_format=layout)
    ]


@pytest.mark.parametrize("images_last", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_coordconv_with_weights_of_channels_last_answers_in_that_layout(channels, images_last):
    assert layouts_of(CoordConv2d, channels, images_last, weights_last=True) == [
        torch.channels_last
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_coordconv_keeps_the_usual_layout(channels):
    assert layouts_of(CoordConv2d, channels, images_last=False, weights_last=False) == [
        torch.contiguous_format
    ]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_coordconv_keeps_channels_last_of_its_images_where_a_plain_convolution_keeps_it(channels):
    wanted = layouts_of(nn.Conv2d, channels, images_last=True, weights_last=False)
    assert layouts_of(CoordConv2d, channels, images_last=True, weights_last=False) == wanted


@pytest.mark.parametrize("radius, added", [(False, 2), (True, 3)])
@pytest.mark.parametrize(
    "shape",
    [(2, 1, 5, 6), (2, 5, 5, 6), (2, 6, 5, 6), (4, 5, 6), (5, 6), (3, 6), (1, 2, 3, 5, 6)],
    ids=str,
)
def test_another_number_of_channels_raises_and_names_what_was_expected_and_given(
    shape, radius, added
):
    with pytest.raises(ValueError) as error:
        CoordConv2d(3, 4, 3, radius=radius)(torch.rand(shape))
    assert f"expected (B, 3, H, W), got {shape}" in str(error.value)
    assert f"adds {added}" in str(error.value)
