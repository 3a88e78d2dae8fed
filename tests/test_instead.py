"""What stands instead of a transformer: computed poses, moving taps, turned filters."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage
from test_models import spec
from tiny_run import fitted, images_tested
from torch import nn

from stn_utils import Experiment, warp
from stn_utils._torchvision import torchvision
from stn_utils.layers import SpatialTransformer
from stn_utils.models import Resize, build, transformers
from stn_utils.models.instead import (
    SPREAD,
    Canonical,
    DeformableConv2d,
    Moments,
    RotationConv2d,
)
from stn_utils.train import make_optimizer


def random(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def picture(*pixels, size=(4, 4), value=1.0):
    x = torch.zeros(1, 1, *size, dtype=torch.float64)
    for row, column in pixels:
        x[0, 0, row, column] = value
    return x


def angle_of(theta):
    return torch.rad2deg(torch.atan2(theta[:, 1, 0], theta[:, 0, 0]))


def test_moments_of_a_picture_on_paper():
    """Two pixels of four by four, in the second row: columns 1 and 3, at x = -0.25 and 0.75."""
    theta = Moments().double()(picture((1, 1), (1, 3)))
    scale = 0.5 / SPREAD  # both lie 0.5 from their middle, across, and 0 down
    wanted = torch.tensor([[[scale, 0, 0.25], [0, scale, -0.25]]], dtype=torch.float64)
    torch.testing.assert_close(theta, wanted)


def test_ink_is_what_differs_from_the_background_whatever_the_sign_and_the_channel():
    one = picture((0, 1), (2, 3), (3, 3))
    theta = Moments().double()(one)
    torch.testing.assert_close(Moments(0.5).double()(0.5 - one), theta)  # dark ink on grey
    torch.testing.assert_close(Moments().double()(one.expand(1, 3, 4, 4)), theta)
    ground = torch.tensor([0.2, 0.4]).view(2, 1, 1)  # a colour
    coloured = ground + torch.cat([one, torch.zeros_like(one)], dim=1)
    torch.testing.assert_close(Moments(ground).double()(coloured.double()), theta)


@pytest.mark.parametrize("upright", [False, True])
def test_without_ink_a_picture_is_left_as_it_is(upright):
    blank = torch.full((2, 3, 5, 7), 0.3)
    torch.testing.assert_close(Moments(0.3, upright)(blank), warp.identity(2))


def blob(angle=0.0, scale=1.0, shift=(0.0, 0.0), size=(60, 60)):
    """A long smooth spot that stands upright, then is turned, scaled, moved: no pixel is cut."""
    x, y = warp.pixel_centres(size, torch.zeros(1, dtype=torch.float64)).T
    there = warp.invert(warp.affine(angle, scale, *shift, size=size).double())[0]
    u, v = there @ torch.stack([x, y, torch.ones_like(x)])
    unit = torch.tensor(size) / max(size)
    spot = -((u * unit[1] / 0.07) ** 2 + (v * unit[0] / 0.15) ** 2) / 2
    return spot.exp().view(1, 1, *size)


@pytest.mark.parametrize("size", [(60, 60), (50, 70)])
@pytest.mark.parametrize("angle", [0.0, 25.0, -70.0])
def test_a_moved_scaled_turned_spot_is_brought_back(size, angle):
    plain = Moments(upright=True).double()(blob(size=size))
    moved = Moments(upright=True).double()(blob(angle, 0.8, (0.1, -0.15), size))
    torch.testing.assert_close(
        moved[:, :, 2], torch.tensor([[0.1, -0.15]]).double(), atol=1e-3, rtol=0
    )
    wanted = warp.affine(angle, 0.8, 0.1, -0.15, size=size).double()
    torch.testing.assert_close(moved, warp.compose(wanted, plain), atol=2e-3, rtol=0)
    assert angle_of(Moments().double()(blob(angle)))[0] == 0  # without the axis nothing is turned


def test_a_pose_is_corrected_and_the_picture_sampled_once():
    x = random(2, 1, 12, 12).abs()
    correction = warp.affine(angle=20.0, scale=0.9).double()
    answer = nn.Sequential(nn.Flatten(), nn.Linear(144, 6)).double()
    nn.init.zeros_(answer[1].weight)
    answer[1].bias.data = correction.flatten().clone()
    pose = Moments().double()
    both = Canonical(pose, SpatialTransformer(answer, (8, 8)))
    looks = both.looks(x)
    torch.testing.assert_close(looks[0], pose(x))
    torch.testing.assert_close(looks[1], warp.compose(pose(x), correction.expand(2, 2, 3)))
    torch.testing.assert_close(both(x), warp.warp(x, looks[1], (8, 8)))
    alone = Canonical(pose, Resize((8, 8)))
    torch.testing.assert_close(alone(x), warp.warp(x, pose(x), (8, 8)))
    assert len(alone.looks(x)) == 1


def test_taps_that_have_not_moved_are_a_convolution():
    layer = DeformableConv2d(3, 4, 3).double()
    x = random(2, 3, 9, 11)
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight, layer.bias))


def test_moved_taps_read_where_scipy_reads():
    layer = DeformableConv2d(2, 3, 3).double()
    layer.offsets.weight.data = 0.2 * random(*layer.offsets.weight.shape, seed=1)
    layer.offsets.bias.data = random(*layer.offsets.bias.shape, seed=2)
    x = random(1, 2, 7, 8)
    moved = layer.offsets(x)[0].unflatten(0, (9, 2)).detach()
    wanted = layer.bias.detach().view(3, 1, 1).expand(3, 5, 6).clone()
    for tap in range(9):
        for row, column in np.ndindex(5, 6):
            right, down = moved[tap, :, row, column].tolist()
            at = [[row + tap // 3 + down], [column + tap % 3 + right]]
            read = [
                ndimage.map_coordinates(plane, at, order=1, mode="grid-constant").item()
                for plane in x[0].numpy()
            ]
            wanted[:, row, column] += (
                layer.weight.detach().flatten(2)[:, :, tap] @ torch.tensor(read).double()
            )
    torch.testing.assert_close(layer(x)[0], wanted)


def test_moved_taps_are_torchvisions_where_its_operator_loads():
    layer = DeformableConv2d(2, 3, 3).double()
    layer.offsets.bias.data = random(18)
    x = random(2, 2, 9, 8)
    offsets = layer.offsets(x).unflatten(1, (9, 2)).flip(2).flatten(1, 2)  # it wants y first
    ops = torchvision().ops
    try:
        ops.nms(torch.zeros(0, 4), torch.zeros(0), 0.5)  # any compiled one: not beside a CPU torch
    except (RuntimeError, NotImplementedError) as error:
        pytest.skip(f"torchvision's operators do not load: {error}")
    wanted = ops.deform_conv2d(x, offsets, layer.weight, layer.bias)
    torch.testing.assert_close(layer(x), wanted)


def rotating(rotations):
    torch.manual_seed(0)
    first = RotationConv2d(2, 3, 5, rotations, lifts=True).double()
    return first, RotationConv2d(3, 4, 3, rotations).double()


@pytest.mark.parametrize("rotations", [4, 8])
def test_answers_turn_along_with_a_quarter_turn(rotations):
    first, second = rotating(rotations)

    def answers(x):
        return second(F.max_pool2d(first(x), 2).relu()).unflatten(1, (-1, rotations))

    x = random(2, 2, 20, 20)
    turned = answers(torch.rot90(x, 1, (-2, -1)))
    wanted = torch.rot90(answers(x), 1, (-2, -1)).roll(rotations // 4, dims=2)
    torch.testing.assert_close(turned, wanted, rtol=0, atol=1e-12)
    strongest = F.max_pool3d(turned.flatten(1, 2), (rotations, 1, 1))
    torch.testing.assert_close(strongest, torch.rot90(answers(x).amax(dim=2), 1, (-2, -1)))


def test_filters_in_four_turns_are_those_that_are_turned_by_hand():
    first, second = rotating(4)
    for turn in range(4):
        by_hand = torch.rot90(first.weight, turn, (-2, -1))
        torch.testing.assert_close(first.filters()[turn::4], by_hand)
        shifted = second.weight.unflatten(1, (-1, 4)).roll(turn, dims=2).flatten(1, 2)
        torch.testing.assert_close(second.filters()[turn::4], torch.rot90(shifted, turn, (-2, -1)))


@pytest.mark.parametrize(
    "fields",
    [
        dict(model="convnet", pose="moments"),
        dict(pose="axis"),
        dict(model="sequential", pose="moments", steps=3),
        dict(model="convnet", classifier="deformable", width=0.5),
        dict(model="convnet", classifier="rotations", width=0.5),
    ],
)
def test_each_trains_and_has_the_looks_that_it_says(fields):
    run = fitted(world="rts42", epochs=1, **fields)
    net, experiment = run.model(), run.experiment
    x, _ = images_tested(run).batch(slice(0, 4))
    looks = {"convnet": 0, "stnet": 1, "sequential": experiment.steps}[experiment.model]
    assert len(net.looks(x)) == looks + (experiment.pose != "none")
    assert net(x).isfinite().all()


@pytest.mark.parametrize("classifier", ["cnn", "cnn-no-dropout", "rotations"])
def test_only_the_tutorials_net_drops_anything(classifier):
    experiment = Experiment(world="rts42", model="convnet", classifier=classifier)
    torch.manual_seed(0)
    net, x = build(experiment, spec("rts42")), torch.rand(2, 1, 42, 42)
    assert torch.equal(net.train()(x), net.eval()(x)) == (classifier != "cnn")


def test_a_cnn_without_dropout_starts_from_the_same_weights():
    nets = []
    for classifier in ("cnn", "cnn-no-dropout"):
        torch.manual_seed(0)
        nets.append(build(Experiment(classifier=classifier, at="conv1"), spec("clean28")).eval())
    x = torch.rand(2, 1, 28, 28)
    assert torch.equal(nets[0](x), nets[1](x))


def test_a_pose_moves_no_weight_and_has_none():
    plain, posed = (
        build(Experiment(world="rts42", model="convnet", pose=pose), spec("rts42"))
        for pose in ("none", "moments")
    )
    assert [p.shape for p in plain.parameters()] == [p.shape for p in posed.parameters()]


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(pose="moment"), "unknown pose .moment.. Did you mean 'moments'"),
        (dict(model="reinforced", pose="moments"), "belongs to convnet or stnet or sequential"),
        (dict(pose="moments", family="tps"), "belongs to one window of a theta"),
        (dict(pose="moments", windows=2), "belongs to one window of a theta"),
        (dict(pose="axis", at="conv1"), "belongs to one window of a theta"),
        (dict(pose="axis", model="sequential", resample=True), "resample=True belongs to pose"),
        (dict(classifier="rotations", coordconv="both"), "has no convolutions to change"),
        (dict(classifier="deformable", at="conv1"), "has no such map"),
    ],
)
def test_what_does_not_fit_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Experiment(**fields)


def test_a_transformer_after_a_pose_has_the_localization_rate_once():
    net = build(Experiment(world="rts42", pose="moments"), spec("rts42"))
    assert transformers(net) == [net.transformer] and net.transformer.then in net.modules()
    groups = make_optimizer(net, Experiment(pose="moments", loc_lr_ratio=0.1)).param_groups
    slow = sum(p.numel() for p in net.transformer.parameters())
    assert [sum(p.numel() for p in group["params"]) for group in groups] == [21_840, slow]
