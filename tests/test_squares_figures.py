"""Chapter 05's maps of a number per place, and its recorded runs at 32x32."""

import json

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from stn_utils import show, study
from stn_utils.exercises import published, squares
from stn_utils.show.sheets import GAP, TOP

CANVAS = 32


def panel(how):
    known, held_out = squares.split(squares.centres(CANVAS), how, CANVAS)
    points = torch.cat([known, held_out])
    return points, torch.full((len(points),), 0.25), torch.arange(len(points)) >= len(known)


def test_a_box_outlines_held_out_places_that_lie_in_one_block():
    figure = squares.certainty({"block": panel("quadrant"), "strewn": panel("uniform")}, CANVAS)
    block, strewn, scale = figure.axes
    (box,) = block.patches
    assert (box.get_xy(), box.get_width(), box.get_height()) == ((16.5, 16.5), 11, 11)
    assert not strewn.patches and "probability" in scale.get_ylabel()
    shown = block.images[0]
    assert shown.get_clim() == (0, 1)
    assert np.ma.is_masked(shown.get_array()[0, 0]) and shown.get_array()[27, 27] == 0.25


def test_the_drawn_map_has_that_box_and_a_tint_where_no_place_is():
    pixels = np.asarray(squares.place_map({"block": panel("quadrant")}, CANVAS, "where?"))
    row, column = 2 * TOP - 5 + 17 * 8 - 1, GAP + 20 * 8  # just above the quadrant
    orange = np.array(to_rgb(show.WINDOW)) * 255
    assert np.abs(pixels[row, column] - orange).max() <= 1
    assert 200 < pixels[2 * TOP - 5 + 4, GAP + 4].max() < 255  # tinted


@pytest.mark.parametrize("how", squares.SPLITS)
def test_ten_seeds_were_recorded_and_none_of_them_ended_early(how):
    lines = (study.FOLDER / "squares.jsonl").read_text().splitlines()
    runs = [r for r in map(json.loads, lines) if r["settings"].get("canvas") == CANVAS]
    runs = [r for r in runs if r["split"] == how]
    assert [r["seed"] for r in runs] == list(range(1000, 1010))
    held_out = squares.split(squares.centres(CANVAS), "quadrant", CANVAS)[1]
    for r in runs:
        assert r["history"]["epoch"] == list(range(1, 21)) and "until_perfect" not in r["settings"]
        assert len(r["chances"]) == sum(r["points"]) == 576 and max(r["chances"]) <= 1
        if how == "quadrant":
            inside = (squares.centres(CANVAS) > CANVAS / 2).all(dim=1)
            mean = torch.tensor(r["chances"])[inside].mean().item()
            assert inside.sum() == len(held_out) == r["points"][1]
            assert mean == pytest.approx(r["history"]["certain"][-1], abs=1e-3)


def test_what_others_published_stands_beside_our_runs():
    text = published.after_five(study.load("coordconv"))
    assert "none" in text and "98.36" in text and "falls by more than a point" in text
    text = published.by_epochs(study.load("layers_by_epochs"))
    assert all(f"epoch {epoch}" in text for epoch in published.EPOCHS) and "-0.73" in text
