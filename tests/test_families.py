"""Families of warps: what their parameters mean, and that grid, outline, area and the rest follow from points alone."""

import kornia
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator
from tiny_run import fitted
from torch import nn

from stn_utils import diagnose, show
from stn_utils.data.worlds import Split
from stn_utils.experiment import choices
from stn_utils.families import (
    BEYOND,
    FAMILIES,
    LATTICE,
    homography,
    is_convex,
    pixel_centres,
    thin_plate,
    undo_projective,
)
from stn_utils.layers import SpatialTransformer, start_at_identity
from stn_utils.models import Net
from stn_utils.run import Run
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

WITH_THETA = [name for name, family in FAMILIES.items() if family.to_theta]
BENT = {name: family for name, family in FAMILIES.items() if not family.to_theta}
few = settings(max_examples=30, deadline=None)
number = st.floats(-2, 2)


def noise(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=random, dtype=torch.float64)


def close(ours, theirs, within=1e-10):
    torch.testing.assert_close(ours, theirs, atol=within, rtol=0)


@pytest.mark.parametrize("name", WITH_THETA)
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


@pytest.mark.parametrize("name", WITH_THETA)
def test_gradients_with_respect_to_a_familys_parameters_are_right(name):
    start, _, theta_of, _ = FAMILIES[name]
    parameters = (torch.tensor(start) + noise(3, len(start), seed=5) - 0.5).requires_grad_()
    assert parameters.dtype == torch.float64
    torch.autograd.gradcheck(theta_of, (parameters,))
    torch.autograd.gradcheck(lambda p: warp(noise(3, 1, 4, 5), theta_of(p), (3, 4)), (parameters,))


@pytest.mark.parametrize("name", WITH_THETA)
def test_every_image_has_parameters_of_its_own(name):
    start, _, theta_of, _ = FAMILIES[name]
    parameters = noise(5, len(start))
    together = theta_of(parameters)
    assert together.shape == (5, 2, 3)
    for image in range(5):
        close(together[[image]], theta_of(parameters[[image]]))


@pytest.mark.parametrize("name", WITH_THETA)
def test_points_of_a_family_with_a_theta_are_those_of_its_grid(name):
    start, points, theta_of, _ = FAMILIES[name]
    parameters = torch.tensor(start) + noise(3, len(start), seed=2) - 0.5
    grid = make_grid(theta_of(parameters), (5, 9))
    close(points(parameters, pixel_centres((5, 9), parameters)).unflatten(1, (5, 9)), grid)
    square = parameters.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    close(points(parameters, square), corners(theta_of(parameters)))


# Families that no matrix can describe


@pytest.fixture(params=BENT)
def bent(request):
    """The name of a family without a theta."""
    return request.param


SQUARE = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)


def four_corners(count=6, spread=0.5, seed=0):
    return SQUARE + spread * (noise(count, 4, 2, seed=seed) - 0.5)


def test_a_homography_is_kornias_and_its_window_has_the_corners():
    corners = four_corners()
    parameters = homography(corners)
    theirs = kornia.geometry.transform.get_perspective_transform(SQUARE.expand(6, 4, 2), corners)
    close(parameters, theirs.flatten(1)[:, :8])
    close(FAMILIES["projective"].points(parameters, SQUARE), corners)
    close(FAMILIES["projective"].points(homography(SQUARE[None]), SQUARE), SQUARE[None])


def test_what_a_homography_shows_is_what_kornia_shows():
    x, parameters = noise(6, 2, 9, 12), homography(four_corners(seed=3))
    ours = sample(x, FAMILIES["projective"].look(parameters, (9, 12), (7, 11)))
    matrices = torch.cat([parameters, parameters.new_ones(6, 1)], dim=1).view(6, 3, 3)
    places = kornia.geometry.transform_points(matrices, pixel_centres((7, 11), x).expand(6, -1, -1))
    theirs = nn.functional.grid_sample(x, places.view(6, 7, 11, 2), align_corners=False)
    close(ours, theirs)


def test_a_projective_warp_is_undone():
    parameters = homography(four_corners(seed=1))
    there = FAMILIES["projective"].points(parameters, SQUARE)
    for image in range(6):
        back = FAMILIES["projective"].points(undo_projective(parameters[[image]]), there[image])
        close(back, SQUARE[None])


def test_what_lies_behind_the_horizon_is_read_outside():
    """w = 1 + 2 x: 0 at x = -0.5, negative to the left of it."""
    tilted = torch.tensor([[1.0, 0, 0, 0, 1, 0, 2, 0]], requires_grad=True)
    places = torch.tensor([[-0.9, 0.0], [-0.5, 0.0], [-0.4, 0.0], [1.0, 0.0]])
    read = FAMILIES["projective"].points(tilted, places)[0]
    assert (read[:2] == BEYOND).all()
    torch.testing.assert_close(read[2:, 0], torch.tensor([-0.4 / 0.2, 1 / 3]))
    read.sum().backward()
    assert tilted.grad.isfinite().all()
    grid = FAMILIES["projective"].look(tilted, (8, 8), (8, 8))
    assert (sample(torch.ones(1, 1, 8, 8), grid)[..., :2] == 0).all() and outside(
        grid, (8, 8)
    ) >= 0.25


@pytest.mark.parametrize(
    "order", [(0, 2, 1, 3), (3, 2, 1, 0)], ids=["crossed", "the other way round"]
)
def test_corners_through_which_a_horizon_would_pass_are_named(order):
    corners = torch.stack([SQUARE, SQUARE[list(order)]])
    assert is_convex(corners).tolist() == [True, False]
    with pytest.raises(ValueError, match="corners: those of window 1 .* a horizon would pass"):
        homography(corners)


@pytest.mark.parametrize("centres", [LATTICE, noise(7, 2) * 2 - 1], ids=["lattice", "anywhere"])
def test_a_thin_plate_is_scipys(centres):
    """Not kornia's: there a bend is as large as what is read lies from another point, not as points lie apart."""
    centres = centres.double()
    family, count = thin_plate(centres), len(centres)
    reads, places = centres + noise(3, count, 2, seed=1) - 0.5, 2 * noise(40, 2, seed=2) - 1
    ours = family.points(reads.flatten(1), places)
    for image in range(3):
        spline = RBFInterpolator(centres.numpy(), reads[image].numpy(), kernel="thin_plate_spline")
        close(ours[image], torch.from_numpy(spline(places.numpy())), 1e-9)
    close(family.points(reads.flatten(1), centres), reads, 1e-9)  # a control point reads its own


@pytest.mark.parametrize(
    "centres, fault",
    [
        (LATTICE[:2], "got 2"),
        (LATTICE[[0, 1, 4, 1]], "two of them coincide"),
        (LATTICE[:4], "on one line"),
    ],
)
def test_control_points_that_make_no_plate_are_named(centres, fault):
    with pytest.raises(ValueError, match=f"centres: .*{fault}"):
        thin_plate(centres)


def test_a_similarity_is_a_turn_a_scale_and_a_shift_on_every_shape():
    angle, scale = 0.3, 0.7
    parameters = torch.tensor([[scale * np.cos(angle), scale * np.sin(angle), 0.2, -0.1]])
    for size in ((28, 28), (20, 44)):
        theta = FAMILIES["similarity"].look(parameters, size, size)
        expected = affine(np.rad2deg(angle), scale, 0.2, -0.1, size=size)
        close(theta, expected.double(), 1e-6)


def test_a_translation_moves_and_nothing_else():
    theta = FAMILIES["translation"].to_theta(torch.tensor([[0.2, -0.5]]))
    assert theta.equal(torch.tensor([[[1, 0, 0.2], [0, 1, -0.5]]]))


def test_gradients_of_bent_families_are_right(bent):
    family = BENT[bent]
    start = torch.tensor(family.identity, dtype=torch.float64)
    parameters = (start + 0.2 * noise(2, len(start), seed=5) - 0.1).requires_grad_()
    x = noise(2, 1, 4, 5)
    assert torch.autograd.gradcheck(lambda p: sample(x, family.look(p, (4, 5), (3, 4))), parameters)


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


def test_a_run_of_a_bent_family_is_kept_shown_and_read_again(bent, tmp_path):
    run = fitted(world="translated42", family=bent)
    run.save(tmp_path)
    again = Run.load(tmp_path)
    assert again.looks.shape == (run.epochs + 1, 20, 28, 28, 2)
    assert 0 < run.test["overlap"] <= 1 and again.probe["parameters"][-1].std(dim=0).max() > 0
    x = run.probe["images"].float() / 255
    torch.testing.assert_close(again.looks[-1], run.model().looks(x)[0])
    assert show.frames(run) and show.filmstrip(run) and show.before_after(run).axes
