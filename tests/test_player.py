"""The sliders: as a page without a kernel, and as widgets."""

import base64
import io
import itertools
import json
import re

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import EPOCHS, colours
from tiny_widgets import widgets_of

from stn_utils import player, show
from stn_utils.exercises import explorer
from stn_utils.warp import affine, corners, warp

# ---- the player without a kernel ----


def embedded(page):
    return [
        base64.b64decode(uri)
        for uri in re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page)
    ]


@pytest.fixture
def page():
    return player.player_html(colours(3), still=Image.new("RGB", (44, 22), "red"))


def test_the_page_holds_the_still_and_every_frame_in_order(page):
    pictures = [Image.open(io.BytesIO(content)).convert("RGB") for content in embedded(page)]
    assert [picture.size for picture in pictures] == [(44, 22)] + [(40, 20)] * 3
    for picture, wanted in zip(pictures[1:], colours(3)):
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(wanted)).max() <= 8  # webp


def test_the_still_stands_outside_the_script_where_a_reader_without_scripts_sees_it(page):
    before_script = page.split("<script>")[0]
    assert len(embedded(before_script)) == 1


@pytest.mark.parametrize("kind", ["player", "explorer"])
def test_a_page_fetches_nothing_and_has_no_gap_in_its_template(page, kind):
    text = page if kind == "player" else explorer.explore_html(torch.rand(1, 8, 8))
    assert not re.search(r"https?:|//[a-z]+\.|@import|src=\"(?!data:)", text)
    assert not re.search(r"__[A-Z]+__", text)


def test_equal_players_are_equal_text_and_different_ones_have_different_ids(page):
    again = player.player_html(colours(3), still=Image.new("RGB", (44, 22), "red"))
    other = player.player_html(colours(3), still=Image.new("RGB", (44, 22), "blue"))
    assert again == page
    assert len({re.search(r'id="(stn-\w+)"', text)[1] for text in (page, other)}) == 2


def test_play_has_a_frame_an_epoch_from_0_on(run, displayed):
    player.play(run, count=2)
    (shown,) = displayed
    assert len(embedded(shown.data)) == 1 + EPOCHS + 1


# ---- the widgets ----


def test_the_sliders_value_chooses_the_picture_of_the_widget():
    root = explorer.player_widget(colours(3))
    (slider,), (image,) = widgets_of(root, ipywidgets.IntSlider), widgets_of(root, ipywidgets.Image)
    (button,) = widgets_of(root, ipywidgets.Play)
    assert (slider.min, slider.value, slider.max) == (0, 2, 2)
    for i in (2, 0, 1):
        slider.value = i
        assert image.value == show.encode(colours(3)[i])
        assert button.value == i
    button.value = 2
    assert slider.value == 2


def test_the_widget_of_a_run_shows_its_frames(run):
    root = explorer.play_widget(run, count=2)
    (image,), (slider,) = widgets_of(root, ipywidgets.Image), widgets_of(root, ipywidgets.IntSlider)
    assert (image.value, slider.value, slider.description) == (
        show.encode(show.frames(run, 2)[-1]),
        EPOCHS,
        "epoch",
    )


@pytest.mark.parametrize(
    "name, value", [("angle", 90), ("scale", 0.5), ("shift_x", 0.3), ("shift_y", -1), ("shear", 1)]
)
def test_every_slider_of_the_explorer_moves_picture_and_matrix(name, value):
    root = explorer.explore_widget(torch.rand(1, 8, 8))
    sliders = {slider.description: slider for slider in widgets_of(root, ipywidgets.FloatSlider)}
    (picture,), (matrix,) = widgets_of(root, ipywidgets.Image), widgets_of(root, ipywidgets.HTML)
    before = picture.value
    sliders[name].value = value
    assert picture.value != before
    theta = [float(number) for number in re.findall(r"[+-]\d\.\d\d", matrix.value)]
    assert theta == pytest.approx(affine(**{name: float(value)}).flatten().tolist(), abs=0.0051)


# ---- the explorer's still ----


def test_the_still_shows_the_image_with_its_window_and_beside_it_what_the_window_shows():
    image, theta = (
        torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0)),
        affine(scale=0.5, shift_x=0.25),
    )
    side = round(explorer.SIDE / 1.28)
    edge = (explorer.SIDE - side) // 2
    pixels = np.asarray(explorer.explorer_still(image, theta))
    middles = [edge + round((i + 0.5) * side / 28) for i in range(28)]
    right = pixels[np.ix_(middles, [explorer.SIDE + middle for middle in middles])][..., 0]
    assert np.abs(right - (255 * warp(image[None], theta)[0, 0]).numpy()).max() <= 1
    down, across = (np.abs(pixels.astype(int) - (232, 89, 12)).sum(axis=2) < 30).nonzero()
    corners = [edge + (at + 1) / 2 * side for at in (-0.25, 0.75, -0.5, 0.5)]
    assert [across.min(), across.max(), down.min(), down.max()] == pytest.approx(
        corners, abs=7
    )  # the line, and the dot


@pytest.mark.parametrize("height, width", [(20, 40), (40, 20)])
def test_the_still_of_a_colour_picture_keeps_its_shape_its_colours_and_shows_the_grid(
    height, width
):
    image = torch.tensor([0.1, 0.2, 0.8]).view(3, 1, 1).expand(3, height, width)
    still = np.asarray(explorer.explorer_still(image, affine(scale=0.5))).astype(int)
    blue = (np.abs(still - (26, 51, 204)).max(axis=2) <= 1).nonzero()
    long = explorer.SIDE / 1.28
    sides = [round(long * side / max(height, width)) for side in (height, width)]
    edges = [(explorer.SIDE - side) // 2 for side in sides]
    assert still.shape[:2] == (explorer.SIDE, 2 * explorer.SIDE)
    assert (blue[0].min(), blue[0].max()) == (edges[0], edges[0] + sides[0] - 1)
    for i, j in itertools.product(range(10), repeat=2):  # at the centres of 10x10 pixels
        x, y = ((0.5 * ((2 * k + 1) / 10 - 1) + 1) / 2 for k in (i, j))
        at = round(edges[0] + y * sides[0]), round(edges[1] + x * sides[1])
        assert np.abs(still[at] - (232, 89, 12)).max() <= 2


@pytest.mark.parametrize(
    "setting", [dict(scale=2.0, angle=35.0), dict(angle=135.0), dict(shift_x=1.0, scale=2.0)]
)
def test_the_still_shows_a_window_wherever_it_is(setting):
    still = np.asarray(explorer.explorer_still(torch.zeros(1, 28, 28), affine(**setting))).astype(
        int
    )
    orange = np.abs(still - (232, 89, 12)).max(axis=2) <= 2
    rows, columns = orange.nonzero()
    reach = max(1.28, 1.05 * warp_corners(**setting))
    for where in (rows, columns):
        assert where.min() > 0 and where.max() < explorer.SIDE - 1
    widest = (columns.max() - columns.min()) / explorer.SIDE * 2 * reach  # in half images
    xs = corners_of(**setting)[0, :, 0]
    assert widest == pytest.approx((xs.max() - xs.min()).item(), abs=0.15)


def corners_of(**setting):
    return corners(affine(**setting))


def warp_corners(**setting):
    return corners_of(**setting).abs().max().item()


def test_the_microscope_is_one_page_with_its_picture():
    image = torch.arange(16).view(4, 4)
    page = explorer.microscope_html(image)
    assert json.loads(re.search(r"const pixels = (\[.*?\]), n", page)[1]) == image.tolist()
    assert "__" not in re.sub(r"base64,[^\"]*", "", page) and "<img alt=" in page


def test_the_page_of_a_colour_picture_holds_all_three_channels():
    page = explorer.explore_html(torch.rand(3, 4, 6))
    pixels = json.loads(re.search(r"const pixels = (\[.*?\]), high", page)[1])
    assert np.shape(pixels) == (4, 6, 3)
