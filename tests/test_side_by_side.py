"""Several windows side by side: each is a window of its own, in the layer, in a network, in a Run and in its pictures."""

import pytest
import torch
from test_models import batch, spec
from tiny_run import fitted
from torch import nn

from stn_utils import diagnose, show
from stn_utils.board import _numbers
from stn_utils.experiment import Experiment
from stn_utils.families import FAMILIES
from stn_utils.layers import SpatialTransformer, start_at_identity
from stn_utils.models import build
from stn_utils.run import Run
from stn_utils.show.draw import COLOURS, reach
from stn_utils.show.style import PAPER
from stn_utils.warp import affine, grid_of, overlap, warp, windows_of


@pytest.fixture(scope="module")
def run():
    return fitted(world="translated42", windows=2, lr=0.02)


def localization(family, windows):
    linear = start_at_identity(
        nn.Linear(64, windows * len(FAMILIES[family].identity)), family, windows
    )
    return nn.Sequential(nn.Flatten(), linear)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("count", [2, 3])
def test_side_by_side_stands_what_layers_of_one_window_show(family, count):
    x, size, n = torch.rand(4, 1, 8, 8), (5, 6), len(FAMILIES[family].identity)
    layer = SpatialTransformer(localization(family, count), size, family=family, windows=count)
    linear = layer.localization[1]
    linear.weight.data.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    views = layer(x).split(size[1], dim=3)
    assert len(views) == count == len(windows_of(layer.looks(x)[0]))
    for k, view in enumerate(views):
        alone = SpatialTransformer(localization(family, 1), size, family=family)
        alone.localization[1].weight.data = linear.weight[k * n : (k + 1) * n]
        alone.localization[1].bias.data = linear.bias[k * n : (k + 1) * n]
        torch.testing.assert_close(view, alone(x))


@pytest.mark.parametrize("family", FAMILIES)
def test_before_training_every_window_shows_the_untouched_picture(family):
    x = torch.rand(2, 1, 8, 8)
    layer = SpatialTransformer(localization(family, 2), family=family, windows=2)
    torch.testing.assert_close(layer(x), torch.cat([x, x], dim=3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("outputs, said", [(7, "those of 2 windows"), (14, r"\d numbers an image")])
def test_another_number_of_outputs_is_named(outputs, said):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))
    with pytest.raises(ValueError, match=f"localization: expected {said}, got shape"):
        SpatialTransformer(net, windows=2)(torch.rand(2, 1, 8, 8))


def test_grids_stand_side_by_side_too():
    grids = torch.rand(3, 2, 4, 5, 2)
    assert grid_of(grids, (4, 5)).equal(torch.cat([grids[:, 0], grids[:, 1]], dim=2))
    with pytest.raises(ValueError, match="asked for is"):
        grid_of(grids, (4, 12))


def test_they_are_described_by_the_mean_of_each():
    x, thetas = (
        torch.rand(4, 1, 9, 9),
        [affine(scale=torch.rand(4) + s, shift_x=0.2) for s in (0.2, 1)],
    )
    views = [warp(x, theta, (6, 7)) for theta in thetas]
    found = diagnose.describe(torch.stack(thetas, dim=1), x, torch.cat(views, dim=3))
    one, other = (diagnose.describe(theta, x, view) for theta, view in zip(thetas, views))
    for name, values in found.items():
        torch.testing.assert_close(values, (one[name] + other[name]) / 2)


@pytest.mark.parametrize("classifier", ["cnn", "fcn"])
def test_the_courses_own_classifiers_read_one_wide_picture(classifier):
    net = build(Experiment(world="rts42", classifier=classifier, windows=2), spec("rts42")).eval()
    x, _ = batch("rts42")
    assert net.trace(x).x_warped.shape == (6, 1, 28, 56) and net(x).shape == (6, 10)


@pytest.mark.parametrize("at", ["conv1", "conv2", "conv1+conv2"])
def test_a_transformer_of_a_map_has_one_window(at):
    with pytest.raises(ValueError, match="windows=2 belongs to at='input' or 'shared'"):
        Experiment(at=at, windows=2)


def test_a_run_keeps_both_and_finds_them_again(run, tmp_path):
    run.save(tmp_path)
    looks, model = Run.load(tmp_path).looks, run.model()
    x = run.probe["images"].float() / 255
    assert looks.shape == (run.epochs + 1, len(x), 2, 2, 3)
    torch.testing.assert_close(looks[-1], model.looks(x)[0])
    assert not looks[-1][:, 0].allclose(looks[-1][:, 1])  # they part, though they start as one
    assert len(_numbers(run)) == 12


def test_the_overlap_is_the_mean_of_each(run):
    split, model = run.test_split(), run.model()
    (look,) = model.looks(split.batch(torch.arange(len(split)))[0])
    each = [overlap(window, split.poses).mean().item() for window in windows_of(look)]
    assert run.test["overlap"] == pytest.approx(sum(each) / 2, abs=1e-5)


def test_of_two_digits_the_overlap_of_each_window_with_each_is_kept():
    run = fitted(world="addition42", windows=2, lr=0.02, epochs=1)
    split, model = run.test_split(), run.model()
    (look,) = model.looks(split.batch(slice(None))[0])
    for window, found in zip(windows_of(look), run.test["overlaps"], strict=True):
        for pose, value in zip(split.poses.unbind(1), found, strict=True):
            assert value == pytest.approx(overlap(window, pose).mean().item(), abs=1e-5)
    assert run.spec.classes == 19 and show.frames(run)


def test_two_channels_are_drawn_red_and_blue():
    image = torch.rand(2, 3, 4)
    drawn = show.plane(image)
    assert drawn.shape == (3, 4, 3) and not drawn[..., 1].any()
    assert (drawn[..., 0] == image[0].numpy()).all() and (drawn[..., 2] == image[1].numpy()).all()


def test_both_are_drawn_each_in_its_colour(run):
    from PIL import Image

    picture = Image.new("RGB", (100, 100), PAPER)
    look = torch.stack([affine(scale=0.5, shift_x=-0.4), affine(scale=0.3, shift_x=0.6)], dim=1)
    show.window(picture, look, (0, 0, 100, 100), line=3, dot=4)
    for colour, left in zip(COLOURS, (5, 65)):
        rgb = tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))
        assert picture.getpixel((left, 50)) == rgb
    assert reach(look).item() == pytest.approx(0.9)
    assert show.frames(run) and show.filmstrip(run) and show.before_after(run).axes
