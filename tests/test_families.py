"""Families of warps: what their parameters mean, and that grid, outline, area and the rest follow from points alone.

Two families that no matrix can describe are made here, a projective one and a thin plate, to hold the door open.
"""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from torch import nn

from stn_utils import diagnose
from stn_utils.data.worlds import Split
from stn_utils.experiment import choices
from stn_utils.families import FAMILIES, Family, pixel_centres
from stn_utils.layers import SpatialTransformer, start_at_identity
from stn_utils.models import Net
from stn_utils.train import follow
from stn_utils.warp import (
    affine,
    area,
    centre,
    corners,
    determinant,
    grid_of,
    identity,
    make_grid,
    outline,
    outside,
    sample,
    warp,
)

few = settings(max_examples=30, deadline=None)
number = st.floats(-2, 2)


def noise(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=random, dtype=torch.float64)


def close(ours, theirs, within=1e-10):
    torch.testing.assert_close(ours, theirs, atol=within, rtol=0)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_identity_parameters_of_a_family_give_the_identity_for_every_image(name, dtype):
    parameters, _, theta_of, _ = FAMILIES[name]
    theta = theta_of(torch.tensor(parameters, dtype=dtype).repeat(3, 1))
    assert theta.dtype == dtype
    assert torch.equal(theta, identity(3, dtype=dtype))


def test_the_families_are_those_of_the_experiment():
    assert tuple(FAMILIES) == choices("family")


def test_an_affine_family_reads_theta_row_by_row():
    parameters = noise(4, 6)
    theta = FAMILIES["affine"].to_theta(parameters)
    for image in range(4):
        assert theta[image].tolist() == [
            parameters[image, :3].tolist(),
            parameters[image, 3:].tolist(),
        ]


@given(st.floats(-7, 7))
@few
def test_a_rotation_is_by_radians_and_affine_by_degrees(radians):
    theta = FAMILIES["rotation"].to_theta(torch.tensor([[radians]], dtype=torch.float64))
    cos, sin = np.cos(radians), np.sin(radians)
    close(theta, torch.tensor([[[cos, -sin, 0], [sin, cos, 0]]], dtype=torch.float64))
    close(theta, affine(torch.tensor([np.rad2deg(radians)])))


@given(st.floats(-2, 2), number, number)
@few
def test_shift_scale_is_one_zoom_and_two_shifts(scale, right, down):
    theta = FAMILIES["shift-scale"].to_theta(
        torch.tensor([[scale, right, down]], dtype=torch.float64)
    )
    close(
        theta,
        torch.tensor([[[scale, 0, right], [0, scale, down]]], dtype=torch.float64),
        within=1e-14,
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients_with_respect_to_a_familys_parameters_are_right(name):
    start, _, theta_of, _ = FAMILIES[name]
    parameters = (torch.tensor(start) + noise(3, len(start), seed=5) - 0.5).requires_grad_()
    assert parameters.dtype == torch.float64
    torch.autograd.gradcheck(theta_of, (parameters,))
    torch.autograd.gradcheck(lambda p: warp(noise(3, 1, 4, 5), theta_of(p), (3, 4)), (parameters,))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_image_has_parameters_of_its_own(name):
    start, _, theta_of, _ = FAMILIES[name]
    parameters = noise(5, len(start))
    together = theta_of(parameters)
    assert together.shape == (5, 2, 3)
    for image in range(5):
        close(together[[image]], theta_of(parameters[[image]]))


@pytest.mark.parametrize("name", FAMILIES)
def test_points_of_a_family_with_a_theta_are_those_of_its_grid(name):
    start, points, theta_of, _ = FAMILIES[name]
    parameters = torch.tensor(start) + noise(3, len(start), seed=2) - 0.5
    grid = make_grid(theta_of(parameters), (5, 9))
    close(points(parameters, pixel_centres((5, 9), parameters)).unflatten(1, (5, 9)), grid)
    square = parameters.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    close(points(parameters, square), corners(theta_of(parameters)))


# Families that no matrix can describe


def projective_points(parameters, places):
    full = torch.cat([parameters, torch.ones_like(parameters[:, :1])], dim=1).view(-1, 3, 3)
    read = places @ full[:, :, :2].mT + full[:, None, :, 2]
    return read[..., :2] / read[..., 2:]


LATTICE = torch.cartesian_prod(*[torch.linspace(-1, 1, 4, dtype=torch.float64)] * 2).flip(1)


@functools.cache
def bends(places):
    """A thin plate over 4x4 control points is linear in where they go: (P, 16) for places ((x, y), ...)."""
    spline = RBFInterpolator(LATTICE.numpy(), np.eye(16), kernel="thin_plate_spline")
    return torch.from_numpy(spline(np.array(places)))


def thin_plate_points(parameters, places):
    return bends(tuple(map(tuple, places.tolist()))).to(parameters) @ parameters.view(-1, 16, 2)


BENT = {
    "projective": Family((1.0, 0, 0, 0, 1, 0, 0, 0), projective_points),
    "thin-plate": Family(tuple(LATTICE.flatten().tolist()), thin_plate_points),
}


@pytest.fixture(params=BENT)
def bent(request, monkeypatch):
    """The name of a family without a theta, which the course knows for the length of a test."""
    monkeypatch.setitem(FAMILIES, request.param, BENT[request.param])
    return request.param


def bent_look(name, count=3, size=(9, 14), spread=0.1):
    family = BENT[name]
    parameters = torch.tensor(family.identity) + spread * (noise(count, len(family.identity)) - 0.5)
    return family.look(parameters, (28, 28), size)


def test_the_identity_of_a_bent_family_reads_every_pixel_where_it_is(bent):
    look = BENT[bent].look(torch.tensor(BENT[bent].identity).double()[None], (6, 7), (6, 7))
    close(look, make_grid(identity(dtype=torch.float64), (6, 7)), 1e-6)
    x = noise(1, 2, 6, 7)
    close(sample(x, look), x, 1e-6)


@given(st.tuples(*[number] * 6))
@few
def test_what_is_told_of_a_grid_is_what_is_told_of_its_theta(entries):
    theta = torch.tensor(entries, dtype=torch.float64).view(1, 2, 3)
    grid = make_grid(theta, (7, 5))
    rim = outline(grid)
    assert rim.shape == (1, 2 * (7 + 5) + 4, 2)
    close(rim[0, [0, 6, 14, 20]], corners(theta)[0])
    close(area(grid), determinant(theta).abs())
    close(centre(grid), centre(theta))
    assert outside(grid, (7, 5)).item() == outside(theta, (7, 5)).item()


def test_the_outline_of_a_grid_goes_round_its_outermost_points(bent):
    """Every point of the grid lies within the outline, and the outline close to the grid."""
    from matplotlib.path import Path

    look = bent_look(bent, size=(9, 14))
    for grid, rim in zip(look, outline(look)):
        assert Path(rim.numpy()).contains_points(grid.reshape(-1, 2).numpy()).all()
        gaps = torch.cdist(rim, grid.reshape(-1, 2)).min(dim=1).values
        assert gaps.max() < 0.2  # half a step, 1/9, aslant in a corner


def test_the_area_of_a_bent_window_is_that_of_its_pixels(bent):
    look = bent_look(bent, size=(60, 60))
    inner = bent_look(bent, size=(61, 61))
    right, down = look[:, :, 1:] - look[:, :, :-1], look[:, 1:] - look[:, :-1]
    cells = right[:, 1:, :, 0] * down[:, :, 1:, 1] - right[:, 1:, :, 1] * down[:, :, 1:, 0]
    close(area(look), cells.mean(dim=(1, 2)) * 60 * 60 / 4, 1e-2)
    close(area(look), area(inner), 1e-3)  # of whatever size


def test_a_grid_is_taken_at_its_own_size_alone():
    grid = make_grid(identity(2), (4, 6))
    assert grid_of(grid, (4, 6)) is grid
    with pytest.raises(
        ValueError, match=r"look: its grid has size \(4, 6\), asked for is \(6, 4\)"
    ):
        grid_of(grid, (6, 4))


def test_describe_says_of_a_grid_what_it_says_of_its_theta():
    theta = torch.cat([affine(20.0, 0.8, 0.1), affine(shift_x=1.5)])
    x = noise(2, 3, 8, 6).float()
    grid = make_grid(theta, (8, 6))
    ours, theirs = (diagnose.describe(look, x, sample(x, grid)) for look in (grid, theta))
    assert ours.keys() == theirs.keys()
    for name in ("det", "shift", "outside", "contrast"):
        close(ours[name], theirs[name], 1e-6)
    close(ours["distance"][1], torch.tensor(1.5), 1e-6)  # every point lies 1.5 off


def test_check_takes_a_grid(bent, capsys):
    x = noise(3, 1, 9, 14)
    diagnose.check(lambda x: bent_look(bent), x)
    assert "verdict: well" in capsys.readouterr().out
    diagnose.check(lambda x: bent_look(bent) + 3, x)
    assert "verdict: thrown" in capsys.readouterr().out


def test_a_bent_transformer_starts_at_the_identity_and_learns(bent):
    torch.manual_seed(0)
    linear = start_at_identity(nn.Linear(3 * 8 * 6, len(BENT[bent].identity)), bent)
    layer = SpatialTransformer(nn.Sequential(nn.Flatten(), linear), size=(8, 6), family=bent)
    x = noise(2, 3, 8, 6).float()
    torch.testing.assert_close(layer(x), x, atol=1e-5, rtol=0)
    (look,) = layer.looks(x)
    assert look.shape == (2, 8, 6, 2)
    layer(x).square().sum().backward()
    assert linear.weight.grad.abs().sum() > 0


def test_a_network_with_a_bent_transformer_is_followed_like_any_other(bent):
    torch.manual_seed(0)
    linear = start_at_identity(nn.Linear(8 * 6, len(BENT[bent].identity)), bent)
    transformer = SpatialTransformer(nn.Sequential(nn.Flatten(), linear), (8, 6), family=bent)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(8 * 6, 4))
    net = Net(nn.Identity(), transformer, nn.Identity(), classifier)
    images = (255 * noise(20, 1, 8, 6)).to(torch.uint8)
    logits, numbers = follow(net, Split(images, torch.arange(20) % 4, identity(20)))
    assert logits.shape == (20, 4)
    assert numbers["det"] == pytest.approx(1, abs=1e-4) and numbers["outside"] == 0
    assert numbers["distance"] == pytest.approx(0, abs=1e-5)
    x = images.float() / 255
    pushed = net.looks(x)[0] + 2
    assert net.warped(x, pushed).abs().max() == 0
    assert torch.equal(net.logits_through(x, net.looks(x)[0]), net(x))
