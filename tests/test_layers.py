"""SpatialTransformer: starts as identity whatever it is given, learns with all its weights, keeps dtype and layout."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stn_utils.experiment import Experiment, choices
from stn_utils.families import FAMILIES
from stn_utils.layers import CoordConv2d, SpatialTransformer, start_at_identity
from stn_utils.models import build, count_parameters
from stn_utils.spec import ImageSpec
from stn_utils.warp import PADDINGS, affine, determinant, grid_of, identity, make_grid, warp


def localization(channels=1):
    """A small localization net for maps of any size."""
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, 8), nn.Tanh(), start_at_identity(nn.Linear(8, 6)),
    )  # fmt: skip


class Constant(nn.Module):
    """A localization net that answers one theta (1, 2, 3)."""

    def __init__(self, theta):
        super().__init__()
        self.register_buffer("answer", theta)

    def forward(self, x):
        return self.answer.flatten(1).expand(len(x), 6)


SHAPES = [(2, 1, 28, 28), (3, 3, 5, 9), (2, 64, 7, 6), (1, 1, 2, 2)]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_new_transformer_passes_its_input_through(shape, padding):
    x = 3 * torch.randn(shape)
    layer = SpatialTransformer(localization(shape[1]), padding=padding, background=0.5)
    assert torch.equal(layer.looks(x)[0], identity(len(x)))
    torch.testing.assert_close(layer(x), x, atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [(14, 14), (3, 11), (40, 20)])
def test_a_new_transformer_with_another_output_size_resizes(size):
    x = torch.rand(2, 3, 28, 20)
    resized = F.interpolate(x, size, mode="bilinear", align_corners=False)
    layer = SpatialTransformer(localization(3), size, padding="border")
    torch.testing.assert_close(layer(x), resized, atol=1e-5, rtol=0)


def test_the_transformer_looks_where_its_localization_says():
    theta = affine(30, 0.8, 0.2, -0.1, 0.1)
    x = torch.rand(3, 2, 5, 9)
    for padding in PADDINGS:
        layer = SpatialTransformer(Constant(theta), (4, 6), padding, background=0.25)
        torch.testing.assert_close(layer(x), warp(x, theta, (4, 6), padding, 0.25))


def test_a_move_by_one_column_reads_the_next_column():
    x = torch.rand(2, 3, 5, 8)
    layer = SpatialTransformer(Constant(affine(shift_x=2 / 8)))
    torch.testing.assert_close(layer(x), F.pad(x[..., 1:], (0, 1)), atol=1e-6, rtol=0)


def test_localization_learns_from_the_second_step_on_and_no_weight_is_dead():
    torch.manual_seed(0)
    x, target = torch.rand(4, 1, 12, 12), torch.rand(4, 1, 12, 12)
    layer = SpatialTransformer(localization())
    *earlier, weight, bias = layer.parameters()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)

    def backward():
        optimizer.zero_grad()
        F.mse_loss(layer(x), target).backward()

    backward()
    assert all(
        p.grad.count_nonzero() == 0 for p in earlier
    )  # its last weights are zero: nothing flows back yet
    assert weight.grad.count_nonzero() and bias.grad.count_nonzero()
    optimizer.step()
    backward()
    assert all(p.grad.count_nonzero() for p in layer.parameters())


def test_gradients_reach_the_image_too():
    x = torch.rand(1, 1, 6, 6, requires_grad=True)
    SpatialTransformer(localization())(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.ones_like(x))


def test_channels_last_changes_nothing_but_the_layout():
    x = torch.rand(2, 8, 10, 12)
    torch.manual_seed(0)
    layer = SpatialTransformer(localization(8))
    nn.init.normal_(layer.localization[-1].weight, std=0.1)
    expected = layer(x)
    last = layer.to(memory_format=torch.channels_last)(
        x.contiguous(memory_format=torch.channels_last)
    )
    torch.testing.assert_close(last, expected)


def test_double_moves_weights_and_background_together():
    background = torch.tensor([0.1, -0.4]).view(-1, 1, 1)
    layer = SpatialTransformer(
        localization(2), padding="background", background=background
    ).double()
    x = torch.rand(2, 2, 5, 9, dtype=torch.float64)
    assert layer.background.dtype == torch.float64
    assert layer(x).dtype == torch.float64
    torch.testing.assert_close(layer(x), x)


def test_background_moves_with_the_layer_and_is_stored_with_it():
    layer = SpatialTransformer(localization(), padding="background", background=-0.42)
    assert layer.background not in set(layer.parameters())
    assert layer.state_dict()["background"].item() == pytest.approx(-0.42)
    assert layer.to("meta").background.device.type == "meta"


def test_a_misspelt_padding_raises_when_the_layer_is_built_and_names_the_nearest():
    with pytest.raises(ValueError, match="unknown padding 'boarder'. Did you mean 'border'"):
        SpatialTransformer(localization(), padding="boarder")


def test_start_at_identity_keeps_the_layer_trainable():
    linear = nn.Linear(5, 6)
    assert start_at_identity(linear) is linear
    assert torch.equal(linear(torch.randn(3, 5)).view(-1, 2, 3), identity(3))
    assert linear.weight.requires_grad and linear.bias.requires_grad


# ---- families ----

SPEC = ImageSpec(1, (28, 28), (28, 28), 10, background=[0.0], mean=[0.1307], std=[0.3081])


class Answer(nn.Module):
    """A localization net that answers these parameters (B, n), whatever it sees."""

    def __init__(self, parameters):
        super().__init__()
        self.parameters_of_all = parameters

    def forward(self, x):
        return self.parameters_of_all


def assert_untouched(look, size):
    """A theta is the identity to the bit; a grid within rounding."""
    if look.ndim == 3:
        assert torch.equal(look, identity(len(look)))
    untouched = make_grid(identity(len(look)), size)
    torch.testing.assert_close(grid_of(look, size), untouched, atol=2e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_start_at_identity_sets_the_bias_to_the_familys_own(family):
    linear = start_at_identity(nn.Linear(5, len(FAMILIES[family].identity)), family)
    layer = SpatialTransformer(nn.Sequential(nn.Flatten(), linear), family=family)
    assert_untouched(layer.looks(torch.randn(3, 1, 1, 5))[0], (1, 5))
    assert not linear.weight.any() and linear.bias.tolist() == [
        float(number) for number in FAMILIES[family].identity
    ]


BY_HAND = {  # parameters of two images, and their thetas
    "affine": (
        [[1, 2, 3, 4, 5, 6], [0, -1, 0, 1, 0, 0.5]],
        [[[1, 2, 3], [4, 5, 6]], [[0, -1, 0], [1, 0, 0.5]]],
    ),
    "rotation": (
        [[math.pi / 2], [math.pi / 6]],
        [[[0, -1, 0], [1, 0, 0]], [[0.75**0.5, -0.5, 0], [0.5, 0.75**0.5, 0]]],
    ),
    "shift-scale": (
        [[0.5, 0.1, -0.2], [2, 0, 1]],
        [[[0.5, 0, 0.1], [0, 0.5, -0.2]], [[2, 0, 0], [0, 2, 1]]],
    ),
    "translation": (
        [[0.1, -0.2], [0, 1]],
        [[[1, 0, 0.1], [0, 1, -0.2]], [[1, 0, 0], [0, 1, 1]]],
    ),
    "similarity": (
        [[0.5, 0, 0.1, -0.2], [0, 2, 0, 1]],
        [[[0.5, 0, 0.1], [0, 0.5, -0.2]], [[0, -2, 0], [2, 0, 1]]],
    ),
}


@pytest.mark.parametrize("family", BY_HAND)
def test_a_layer_of_a_family_looks_where_its_parameters_say(family):
    parameters, thetas = map(torch.tensor, BY_HAND[family])
    layer = SpatialTransformer(Answer(parameters), (4, 6), family=family)
    x = torch.rand(2, 3, 9, 9)
    (theta,) = layer.looks(x)
    torch.testing.assert_close(theta, thetas, atol=1e-6, rtol=0)
    torch.testing.assert_close(layer(x), warp(x, thetas, (4, 6)), atol=1e-5, rtol=0)


def stnet(family, **fields):
    torch.manual_seed(0)
    return build(Experiment(family=family, **fields), SPEC)


def wild(net):
    """The same with weights that move the window far, other images otherwise."""
    torch.manual_seed(1)
    nn.init.normal_(net.transformer.localization[-1].weight, std=3.0)
    nn.init.normal_(net.transformer.localization[-1].bias, std=3.0)
    return net


@pytest.mark.parametrize("family", choices("family"))
@pytest.mark.parametrize("coordconv", ["none", "both"])
def test_a_stnet_of_every_family_starts_at_the_identity(family, coordconv):
    net, x = stnet(family, coordconv=coordconv), torch.rand(4, 1, 28, 28)
    assert_untouched(net.looks(100 * x - 50)[0], (28, 28))
    torch.testing.assert_close(net.warped(x), x, atol=2e-4, rtol=0)


@pytest.mark.parametrize(
    "family, numbers",
    [("affine", 6), ("rotation", 1), ("shift-scale", 3), ("projective", 8), ("tps", 32)],
)
def test_a_stnet_of_a_family_has_as_many_outputs_as_the_family_has_parameters(family, numbers):
    assert count_parameters(stnet(family)) == 27_360 - (6 - numbers) * 33


def test_a_rotation_net_keeps_the_windows_area_and_place_whatever_its_weights():
    net, x = wild(stnet("rotation")), torch.rand(16, 1, 28, 28)
    (theta,) = net.looks(x)
    torch.testing.assert_close(determinant(theta), torch.ones(16))
    assert torch.equal(theta[:, :, 2], torch.zeros(16, 2))
    torch.testing.assert_close(theta[:, :, :2] @ theta[:, :, :2].mT, torch.eye(2).repeat(16, 1, 1))
    assert theta[:, 0, 0].std() > 0.01  # they do turn


def test_a_shift_scale_net_does_not_turn_or_shear_whatever_its_weights():
    (theta,) = wild(stnet("shift-scale")).looks(torch.rand(16, 1, 28, 28))
    assert not theta[:, 0, 1].any() and not theta[:, 1, 0].any()
    assert torch.equal(theta[:, 0, 0], theta[:, 1, 1])
    assert (
        theta[:, 0, 0].std() > 0.01 and theta[:, 0, 2].std() > 0.01 and theta[:, 1, 2].std() > 0.01
    )


@pytest.mark.parametrize("family", choices("family"))
def test_a_stnet_of_every_family_trains_all_its_weights_after_one_step(family):
    net, x, y = stnet(family), torch.rand(6, 1, 28, 28), torch.arange(6)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net.loss(x, y).backward()
        optimizer.step()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize(
    "wrong, near", [("rotatoin", "rotation"), ("shift-zoom", "shift-scale"), ("Affine", "affine")]
)
def test_an_unknown_family_is_refused_and_the_nearest_named(wrong, near):
    for refuse in (
        lambda: SpatialTransformer(localization(), family=wrong),
        lambda: Experiment(family=wrong),
    ):
        with pytest.raises(ValueError, match=f"unknown family '{wrong}'. Did you mean '{near}'"):
            refuse()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_under_autocast_the_grid_keeps_its_precision(kind):
    """Half of it, on 64 pixels, would move what is read by a tenth of a pixel and more."""
    window = affine(angle=10, shift_x=0.1)
    layer = SpatialTransformer(localization()).eval()
    layer.localization[-1].bias.data = window.flatten()
    x = F.avg_pool2d(torch.rand(2, 1, 72, 72), 9, stride=1)
    with torch.no_grad(), torch.autocast("cpu", kind):
        theta, warped = layer.looks(x)[0], layer(x)
    assert theta.dtype == torch.float32
    torch.testing.assert_close(warped.float(), warp(x, theta), atol=1e-5, rtol=0)


# ---- what does not fit is named ----


@pytest.mark.parametrize(
    "family, outputs", [("affine", 5), ("affine", 12), ("rotation", 6), ("shift-scale", 1)]
)
def test_a_localization_net_with_another_number_of_outputs_is_named(family, outputs):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))
    layer = SpatialTransformer(net, family=family)
    with pytest.raises(ValueError, match=r"localization: expected \d numbers an image, got shape"):
        layer(torch.rand(2, 1, 8, 8))


def test_a_last_layer_that_cannot_start_at_the_identity_is_named():
    for linear in (nn.Linear(4, 5), nn.Linear(4, 6, bias=False)):
        with pytest.raises(ValueError, match="linear: affine wants 6 outputs and a bias, got"):
            start_at_identity(linear)
    with pytest.raises(ValueError, match="Did you mean 'affine'"):
        start_at_identity(nn.Linear(4, 6), "afine")


def test_a_coordconv_has_one_group():
    with pytest.raises(ValueError, match="groups: a CoordConv2d has one, got 2"):
        CoordConv2d(4, 8, 3, groups=2)


@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.parametrize(
    "x, text",
    [
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "Divide uint8 images by 255 first"),
        (torch.rand(2, 28, 28, 1), r"expected images \(B, 1, 28, 28\), got \(2, 28, 28, 1\)"),
        (torch.rand(2, 28, 28), r"expected images \(B, C, H, W\), got shape \(2, 28, 28\)"),
        (torch.rand(2, 3, 28, 28), r"expected images \(B, 1, 28, 28\), got \(2, 3, 28, 28\)"),
        (torch.rand(2, 1, 32, 32), r"expected images \(B, 1, 28, 28\), got \(2, 1, 32, 32\)"),
    ],
    ids=["uint8", "H, W, C", "no channel", "colour", "another size"],
)
def test_what_a_network_was_not_built_for_is_named(model, x, text):
    net = build(Experiment(model=model), SPEC)
    for call in (net, net.looks, net.trace, lambda x: net.loss(x, torch.tensor([0, 1]))):
        with pytest.raises(ValueError, match=text):
            call(x)


@pytest.mark.parametrize("model", choices("model"))
@pytest.mark.parametrize("count", [0, 1])
def test_a_network_takes_batches_of_none_and_of_one(model, count):
    net = build(Experiment(model=model), SPEC).eval()
    assert net(torch.rand(count, 1, 28, 28)).shape == (count, 10)


def test_a_rotation_is_one_on_every_shape():
    layer = SpatialTransformer(Answer(torch.tensor([[0.3]])), family="rotation")
    x = torch.rand(1, 1, 20, 40)
    (theta,) = layer.looks(x)
    torch.testing.assert_close(theta, affine(0.3 * 180 / math.pi, size=(20, 40)))
