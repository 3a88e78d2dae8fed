"""SpatialTransformer: starts as identity whatever it is given, learns with all its weights, keeps dtype and layout."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stn_utils.layers import SpatialTransformer, start_at_identity
from stn_utils.warp import PADDINGS, affine, identity, warp


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
    assert torch.equal(layer.theta(x), identity(len(x)))
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
    assert all(p.grad.count_nonzero() == 0 for p in earlier)  # its last weights are zero: nothing flows back yet
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
    last = layer.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected)


def test_double_moves_weights_and_background_together():
    background = torch.tensor([0.1, -0.4]).view(-1, 1, 1)
    layer = SpatialTransformer(localization(2), padding="background", background=background).double()
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
