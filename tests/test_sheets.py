"""Pictures epoch by epoch and look by look: the same frames as film strip and GIF."""

import base64
import dataclasses
import html.parser
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import EPOCHS, LOOKING, colours, fitted, looking

from stn_utils import show
from stn_utils.warp import affine, identity, warp


def test_there_is_a_frame_before_training_and_one_an_epoch_all_of_one_size(run):
    pictures = show.frames(run, count=4)
    assert len(pictures) == EPOCHS + 1
    assert len({picture.size for picture in pictures}) == 1
    assert len({picture.tobytes() for picture in pictures}) == EPOCHS + 1


def test_a_frames_heading_tells_its_own_epochs_score(run):
    run_scores = run.history["val_top1"]
    assert show.epoch_label(run, 0).endswith("epoch 0   untrained")
    for epoch, score in enumerate(run_scores, 1):
        assert show.epoch_label(run, epoch).endswith(f"epoch {epoch}   {100 * score:.1f} % right")


@pytest.mark.parametrize("trained, epochs", [(1, 2), (2, 3), (6, 5)])
def test_a_filmstrip_has_the_input_and_at_most_five_epochs(trained, epochs):
    run = fitted(epochs=trained)
    strip, frame = show.filmstrip(run, 4), show.frames(run, 4)[0]
    assert strip.width == frame.width
    assert (strip.height - frame.height) / (
        show.sheets.TILE + show.sheets.GAP
    ) == 1 + epochs - 2  # a frame has two rows


def test_the_first_digits_shown_are_one_of_each_class(run):
    probe, looks, chosen = show.shown(run, 10)
    assert probe["labels"][chosen].tolist() == list(range(10))


def test_one_of_each_class_comes_first_also_where_a_class_has_one_picture_alone(run):
    labels = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4, 5, 6])
    few = dataclasses.replace(run, probe={**run.probe, "labels": labels})
    _, _, chosen = show.shown(few, 10)
    assert labels[chosen].tolist() == [0, 1, 2, 3, 4, 5, 6, 0, 1, 2]


def test_more_runs_than_digits_are_refused_by_name(run):
    with pytest.raises(ValueError, match="runs: at most 10 side by side, got 11"):
        show.frames({str(i): run for i in range(11)})


def test_a_title_with_marks_in_it_stays_text(run, tmp_path, displayed):
    show.gif({'a "<b>" & c': run}, tmp_path / "a.gif")
    tag, attributes = Tags(displayed[0].data).found[-1]
    assert tag == "img" and attributes["alt"].startswith('a "<b>" & c: the warp')


# ---- colour, and pictures that are not square ----

BLUE, GREEN = (30, 60, 220), (40, 160, 60)


def test_colours_stay_in_gif_and_png():
    picture = Image.new("RGB", (80, 40), BLUE)
    picture.paste(GREEN, (40, 0, 80, 40))
    for content in (show.encode_gif([picture, picture]), show.encode(picture)):
        kept = Image.open(io.BytesIO(content))
        for at, colour in (((9, 9), BLUE), ((60, 9), GREEN)):
            assert np.abs(np.subtract(kept.convert("RGB").getpixel(at), colour)).max() <= 4


def test_muted_colours_of_a_small_part_stay_as_well():
    picture = Image.new("RGB", (100, 40), (128, 128, 128))
    picture.paste((120, 100, 70), (0, 0, 4, 40))  # a brown bird on a grey sky, 4 % of the picture
    for content in (show.encode_gif([picture, picture]), show.encode(picture)):
        kept = Image.open(io.BytesIO(content)).convert("RGB").getpixel((2, 9))
        assert np.abs(np.subtract(kept, (120, 100, 70))).max() <= 4


def test_a_sheet_of_greys_keeps_the_fixed_palette_so_that_nothing_flickers(run):
    pictures = show.frames(run, 3)
    palettes = {tuple(p.getpalette()) for p in show.sheets._few_colours(pictures)}
    assert palettes == {tuple(show.sheets._grey_palette().getpalette())}


@pytest.mark.parametrize("height, width", [(20, 40), (40, 20), (30, 30)])
def test_a_tile_keeps_the_pictures_shape_and_colour(height, width):
    picture = torch.tensor(BLUE, dtype=torch.uint8).view(3, 1, 1).expand(3, height, width)
    tile = np.asarray(show.sheets._tile(picture))
    down, across = (tile == BLUE).all(axis=2).nonzero()
    size = down.max() - down.min() + 1, across.max() - across.min() + 1
    longest = 2 * show.sheets.TILE
    assert size == (longest * height // max(height, width), longest * width // max(height, width))


def test_a_window_on_a_wide_picture_is_drawn_on_the_picture_alone():
    theta = affine(scale=0.5)
    tile = np.asarray(show.sheets._tile(torch.zeros(1, 20, 40, dtype=torch.uint8), theta))
    down, across = (np.abs(tile.astype(int) - (232, 89, 12)).sum(axis=2) < 30).nonzero()
    middle, quarter = show.sheets.TILE, show.sheets.TILE / 2
    wanted = [middle - quarter - 6, middle + quarter + 2]
    assert [across.min(), across.max()] == pytest.approx(wanted, abs=2)
    wanted = [middle - quarter / 2 - 6, middle + quarter / 2 + 2]
    assert [down.min(), down.max()] == pytest.approx(wanted, abs=2)


def test_a_gif_turns_three_times_at_the_times_asked_for_and_stays_on_the_last(run):
    content = show.encode_gif(show.frames(run, 3), milliseconds=300, limit=50_000)
    with Image.open(io.BytesIO(content)) as gif:
        durations = [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)]
        assert gif.info["loop"] == 3
    assert durations == [300, 300, 1200]
    assert len(content) <= 50_000


def test_a_gifs_frames_are_the_pictures_in_order(run):
    pictures = [np.asarray(picture).astype(int) for picture in show.frames(run, 3)]
    with Image.open(io.BytesIO(show.encode_gif(show.frames(run, 3)))) as gif:
        for i in range(gif.n_frames):
            gif.seek(i)
            away = [np.abs(np.asarray(gif.convert("RGB")) - picture).mean() for picture in pictures]
            assert np.argmin(away) == i and away[i] < 3


def test_a_gif_too_large_is_refused():
    with pytest.raises(ValueError, match="pictures: [0-9,]+ bytes as a GIF, more than 100"):
        show.encode_gif(colours(4), limit=100)


def test_gif_shows_the_file_as_data_and_a_still_filmstrip_beside_it(run, tmp_path, displayed):
    show.gif(run, tmp_path / "a.gif", count=4)
    moving, still = displayed
    uri = re.search(r'src="data:image/gif;base64,([^"]+)"', moving.data)[1]
    assert base64.b64decode(uri) == (tmp_path / "a.gif").read_bytes()
    assert Image.open(io.BytesIO(still.data)).size == show.filmstrip(run, 4).size


def test_two_runs_stand_side_by_side_and_the_shorter_one_waits_on_its_last_picture(run):
    short = fitted(epochs=1)
    pictures = show.frames({"long": run, "short": short}, count=2)
    alone = {
        title: show.frames({title: r}, count=2) for title, r in (("long", run), ("short", short))
    }
    assert len(pictures) == EPOCHS + 1 and len(alone["short"]) == 2
    width = alone["long"][0].width
    for i, picture in enumerate(pictures):
        left, right = (
            picture.crop((0, 0, width, picture.height)),
            picture.crop((width, 0, *picture.size)),
        )
        assert left.tobytes() == alone["long"][i].tobytes()
        assert right.tobytes() == alone["short"][min(i, 1)].tobytes()


def test_a_pair_shares_the_ten_digits_and_its_titles_stand_in_the_text_of_its_gif(
    run, tmp_path, displayed
):
    pair = {"one": run, "other": run}
    assert show.filmstrip(pair).width == 2 * show.filmstrip(run, 5).width
    show.gif(pair, tmp_path / "a.gif")
    assert "one beside other" in displayed[0].data


# ---- a picture a look ----


@pytest.fixture
def rows(monkeypatch):
    """What a picture is made of: (images, thetas) of every row drawn, and every heading."""
    found, headings = [], []

    def row(pictures, thetas=None, rim=0, original=show.sheets._tile_row):
        found.append((pictures, thetas))
        return original(pictures, thetas, rim)

    def sheet(rows, heading, original=show.sheets._sheet):
        headings.append(heading)
        return original(rows, heading)

    monkeypatch.setattr(show.sheets, "_tile_row", row)
    monkeypatch.setattr(show.sheets, "_sheet", sheet)
    return found, headings


def test_every_frame_has_its_own_epochs_windows_and_warped_pictures(run, rows):
    found, _ = rows
    show.frames(run, 3)
    probe, looks, chosen = show.shown(run, 3)
    assert len(found) == 2 * (EPOCHS + 1)
    for epoch, ((inputs, thetas), (warped, no_theta)) in enumerate(zip(found[::2], found[1::2])):
        assert torch.equal(inputs, probe["images"][chosen]) and torch.equal(
            thetas, looks[epoch][chosen]
        )
        assert torch.equal(warped, probe["warped"][epoch][chosen]) and no_theta is None


def test_a_filmstrip_has_the_last_windows_and_the_warped_pictures_of_epochs_spread_evenly(rows):
    found, _ = rows
    run = fitted(epochs=6, world="translated42")
    show.filmstrip(run, 3)
    probe, looks, chosen = show.shown(run, 3)
    (inputs, thetas), *strip = found
    assert torch.equal(inputs, probe["images"][chosen]) and torch.equal(thetas, looks[-1][chosen])
    epochs = (0, 2, 3, 4, 6)  # 1.5 and 4.5 are rounded to the even number
    for epoch, (warped, _) in zip(epochs, strip, strict=True):
        assert torch.equal(warped, probe["warped"][epoch][chosen])


@pytest.mark.parametrize("name", LOOKING)
def test_an_episode_has_a_picture_before_the_first_look_and_one_a_look_all_of_one_size(name, rows):
    run, count = looking(name)
    pictures = show.episode(run, 3)
    assert len(pictures) == count + 1
    assert len({picture.size for picture in pictures}) == 1
    assert len({picture.tobytes() for picture in pictures}) == count + 1
    after = [f"{run.title}   after look {number}" for number in range(1, count + 1)]
    assert rows[1] == [f"{run.title}   before the first look", *after]
    show.episode(run, 3, step="move")
    assert rows[1][count + 1 :] == [
        heading.replace("look", "move") for heading in rows[1][: count + 1]
    ]


@pytest.mark.parametrize("padding", ["background", "zeros", "border"])
@pytest.mark.parametrize("name", LOOKING)
def test_an_episode_shows_the_windows_so_far_and_at_its_end_what_the_classifier_saw(
    name, padding, rows
):
    run, _ = looking(name, padding=padding)
    show.episode(run, 4)
    probe, looks, chosen = show.shown(run, 4)
    x, net = probe["images"][chosen] / 255, run.model()
    with torch.no_grad():
        thetas, seen = [identity(4), *net.looks(x)], net.warped(x)
    assert thetas[-1][:, :, 2].abs().max() > 0.2
    inputs, views = rows[0][::2], rows[0][1::2]
    for theta, (images, window), (_, no_window) in zip(thetas, inputs, views, strict=True):
        assert torch.equal(images, probe["images"][chosen]) and no_window is None
        torch.testing.assert_close(window, theta)
    first, *_, last = [view.float() for view, _ in views]
    torch.testing.assert_close(first, 255 * warp(x, identity(), (28, 28)), atol=1.01, rtol=0)
    torch.testing.assert_close(last, 255 * seen.clamp(0, 1), atol=1.01, rtol=0)


def test_an_episode_shows_as_many_digits_as_asked_for_and_ten_by_default(rows):
    run, _ = looking("stnet")
    show.episode(run, 2), show.episode(run)
    assert [len(images) for images, _ in rows[0]] == [2] * 4 + [10] * 4


def test_an_episode_of_a_net_without_looks_is_refused_by_name():
    with pytest.raises(ValueError, match="convnet has no looks"):
        show.episode(fitted(model="convnet"))


class Tags(html.parser.HTMLParser):
    """The attributes of every tag of a page."""

    def __init__(self, page):
        super().__init__()
        self.found = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_moving_pictures_are_written_and_shown_as_data_with_a_still_for_readers_that_do_not_move_them(
    tmp_path, displayed
):
    path, still = tmp_path / "new folder" / "a.gif", Image.new("RGB", (44, 22), "red")
    greys = [Image.new("RGB", (40, 20), (90 * i,) * 3) for i in range(3)]
    show.show_animation(greys, path, still, "three greys", milliseconds=200)
    moved, shown = displayed
    fold, _, (tag, attributes) = Tags(moved.data).found
    assert fold[0] == "details" and "open" in fold[1]  # who is disturbed folds it
    assert tag == "img" and attributes["alt"] == "three greys"
    assert (
        base64.b64decode(attributes["src"].removeprefix("data:image/gif;base64,"))
        == path.read_bytes()
    )
    with Image.open(path) as gif:
        assert [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)] == [200, 200, 800]
    assert Image.open(io.BytesIO(shown.data)).size == (44, 22)
    assert shown.metadata["alt"].endswith("three greys") and shown.metadata["alt"] != "three greys"


def test_moving_pictures_that_are_too_large_are_refused_and_nothing_is_written_or_shown(
    tmp_path, displayed
):
    with pytest.raises(ValueError, match="more than 100"):
        show.show_animation(colours(4), tmp_path / "a.gif", colours(1)[0], "four", limit=100)
    assert not displayed and not list(tmp_path.iterdir())


def test_a_stack_is_the_pictures_one_below_the_other_as_they_were():
    pictures = [colours(3, (40, height))[number] for number, height in enumerate((20, 5, 31))]
    sheet = show.stack(pictures)
    assert sheet.size == (40, 56)
    for picture, (top, bottom) in zip(pictures, ((0, 20), (20, 25), (25, 56))):
        assert sheet.crop((0, top, 40, bottom)).tobytes() == picture.tobytes()
    assert show.stack(pictures[:1]).tobytes() == pictures[0].tobytes()


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.3, 1.6])
def test_a_window_beyond_the_picture_is_seen_whole(scale):
    theta = affine(scale=scale)
    tile = np.asarray(
        show.sheets._tile(
            torch.zeros(1, 28, 28, dtype=torch.uint8), theta, show.sheets._rim([theta])
        )
    )
    orange = (np.abs(tile.astype(int) - (232, 89, 12)).sum(axis=2) < 30).nonzero()
    for places in orange:
        assert 0 < places.min() < places.max() < len(tile) - 1


def test_a_window_is_drawn_where_it_looks_with_a_dot_on_its_top_left_corner():
    theta = affine(
        scale=0.5, shift_x=0.25, shift_y=-0.25
    )  # from -0.25 to 0.75 across, -0.75 to 0.25 down
    tile = np.asarray(show.sheets._tile(torch.zeros(1, 28, 28, dtype=torch.uint8), theta))
    down, across = (np.abs(tile.astype(int) - (232, 89, 12)).sum(axis=2) < 30).nonzero()
    edges = [(at + 1) / 2 * len(tile) for at in (-0.25, 0.75, -0.75, 0.25)]
    dot, line = 6, 2
    assert [across.min(), across.max(), down.min(), down.max()] == pytest.approx(
        [edges[0] - dot, edges[1] + line, edges[2] - dot, edges[3] + line], abs=2
    )


def test_windows_that_are_nowhere_leave_the_picture_a_place():
    thetas = torch.full((3, 2, 3), float("nan"))
    assert 0 < show.sheets._rim([thetas]) < show.sheets.TILE / 2


def test_where_nothing_can_be_written_moving_pictures_are_shown_with_a_word(tmp_path, displayed):
    (tmp_path / "file").write_text("no folder")
    with pytest.warns(UserWarning, match="a.gif could not be written"):
        show.show_animation(colours(2), tmp_path / "file" / "a.gif", colours(1)[0], "two")
    assert "data:image/gif;base64," in displayed[0].data
