"""Pictures: the same frames as film strip, GIF and player; drawn without a window and without a warning."""

import base64
import dataclasses
import functools
import html.parser
import io
import math
import re
import warnings

import matplotlib

matplotlib.use("Agg")

import IPython.display
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from stn_utils import player, show, train
from stn_utils.actions import ACTIONS
from stn_utils.data.glyphs import glyphs
from stn_utils.data.worlds import make_world
from stn_utils.experiment import Experiment
from stn_utils.warp import affine, identity, warp

EPOCHS = 2


@functools.cache
def tiny_world(dataset, world, replica, device):
    return make_world(dataset, world, glyphs(1200, 60), "made up", replica, device)


def tiny_load(dataset, world, replica=False, device="cpu"):
    return tiny_world(dataset, world, replica, str(device))


@functools.cache
def fitted(**options):
    """A Run of two epochs on a few glyphs; nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "load", tiny_load)
        experiment = Experiment(**{"dataset": "glyphs", "epochs": EPOCHS, "n_train": 128, **options})
        return train.fit(experiment, "cpu", quiet=True)


@pytest.fixture
def run():
    return fitted(world="translated42")


@pytest.fixture
def drawn(monkeypatch):
    """The sizes of the figures shown; drawing them must give no warning."""
    figures = []

    def draw():
        plt.gcf().canvas.draw()
        figures.append(plt.gcf())
        plt.close()

    monkeypatch.setattr(plt, "show", draw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield figures
    plt.close("all")


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown


def colours(count, size=(40, 20)):
    return [Image.new("RGB", size, (250 - 60 * i, 60 * i, 100)) for i in range(count)]


# ---- figures ----

FIGURES = {
    "images": lambda run: show.images(run.probe["images"][:4] / 255, titles="abcd", suptitle="four"),
    "one image": lambda run: show.images([torch.rand(5, 5)]),
    "looks": lambda run: show.looks(
        run.probe["images"][:3] / 255, run.probe["thetas"][1][:3], run.probe["warped"][1][:3] / 255, "abc"
    ),
    "before_after": show.before_after,
    "before_after, epoch 0": lambda run: show.before_after(run, count=3, epoch=0),
    "curves": lambda run: show.curves({"stn": run, "again": run}),
    "curves of det": lambda run: show.curves({"stn": run}, "det", "zoom"),
    "confusion": show.confusion,
    "seeds": lambda run: show.seeds(RECORDS, {"a": "first", "b": "second"}),
    "bands": lambda run: show.bands(RECORDS, {"a": "first", "b": "second"}, "outside", low=0, high=1, title="two"),
    "bands with a null": lambda run: show.bands(RECORDS, {"a": "first"}, "det"),
}
RECORDS = [
    {"row": "a", "history": {"epoch": [1, 2], "val_top1": [0.5, 0.6], "det": [1.0, 1.1], "outside": [0.1, 0.2]}},
    {"row": "a", "history": {"epoch": [1, 2], "val_top1": [0.5, 0.1], "det": [1.0, None], "outside": [0.1, 1.0]}},
    {"row": "b", "history": {"epoch": [1], "val_top1": [0.4], "det": [0.9], "outside": [0.0]}},
    {"row": "c", "history": {"epoch": [1], "val_top1": [0.9], "det": [0.9], "outside": [0.0]}},
]


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_a_figure_is_drawn_once_and_without_warnings(run, drawn, figure):
    figure(run)
    assert len(drawn) == 1


@pytest.mark.parametrize("epoch, named", [(0, "epoch 0"), (1, "epoch 1"), (-1, "epoch 2")])
def test_before_after_names_its_epoch(run, drawn, epoch, named):
    show.before_after(run, count=3, epoch=epoch)
    assert drawn[0].get_suptitle().endswith(named)


@pytest.mark.parametrize("picture", [show.frames, show.filmstrip, show.before_after, player.play])
def test_a_net_without_looks_is_refused_by_name(picture):
    with pytest.raises(ValueError, match="convnet has no looks"):
        picture(fitted(model="convnet"))


@pytest.mark.parametrize("normalize", ["before", "after", "none"])
@pytest.mark.parametrize("padding", ["background", "zeros"])
def test_before_training_the_warped_picture_is_the_input_whatever_the_normalization(normalize, padding):
    probe = fitted(normalize=normalize, padding=padding, epochs=0).probe
    difference = probe["warped"][0].int() - probe["images"].int()
    assert probe["images"].max() > 100
    assert difference.abs().max() <= 1


def test_seeds_draws_a_line_a_record_and_dots_the_collapsed_one(drawn):
    show.seeds(RECORDS, {"a": "first", "b": "second"}, "top1")
    first, second = drawn[0].axes
    assert [line.get_linestyle() for line in first.lines] == ["-", ":"]
    assert list(first.lines[0].get_ydata()) == [50, 60] and len(second.lines) == 1


@pytest.mark.parametrize(
    "figure",
    [
        lambda run: show.curves({"stn": run}, "dett"),
        lambda run: show.seeds(RECORDS, {"a": "first"}, "dett"),
        lambda run: show.bands(RECORDS, {"a": "first"}, "dett"),
    ],
    ids=["curves", "seeds", "bands"],
)
def test_an_entry_that_a_history_lacks_is_refused_by_name_with_those_it_has(run, drawn, figure):
    with pytest.raises(ValueError, match="no 'dett' in it; it has epoch, .*val_top1, .*det"):
        figure(run)
    assert not drawn


# ---- bands ----

BY_SEED = [[0.5, 0.6, 0.7], [0.55, 0.75, 0.72], [0.4, 0.7, 0.71], [0.52, 0.6, 0.9]]  # epoch by epoch
SEVERAL = [{"row": "many", "history": {"epoch": [1, 2, 3], "val_top1": scores}} for scores in BY_SEED]
SEVERAL += [{"row": "one", "history": {"epoch": [1, 2, 3], "val_top1": [0.2, 0.3, 0.4], "val_loss": [2.0, 1.0, 0.5]}}]


def edges(band):
    """Lower and upper edge of a drawn band at every epoch."""
    vertices = band.get_paths()[0].vertices
    epochs = sorted(set(vertices[:, 0]))
    return epochs, *np.array([(v.min(), v.max()) for v in (vertices[vertices[:, 0] == e, 1] for e in epochs)]).T


def test_a_band_is_the_t_interval_of_scipy_round_the_mean_over_seeds_at_every_epoch(drawn):
    show.bands(SEVERAL, {"many": "several"})
    (ax,) = drawn[0].axes
    (line,), (band,) = ax.lines, ax.collections
    scores = 100 * np.array(BY_SEED)
    low, high = stats.t.interval(0.95, len(scores) - 1, scores.mean(axis=0), stats.sem(scores, axis=0))
    assert list(line.get_xdata()) == [1, 2, 3]
    assert list(line.get_ydata()) == pytest.approx(scores.mean(axis=0))
    epochs, bottom, top = edges(band)
    assert epochs == [1, 2, 3]
    assert list(bottom) == pytest.approx(low) and list(top) == pytest.approx(high)


def test_a_row_of_one_seed_is_a_line_and_its_band_has_no_width(drawn):
    show.bands(SEVERAL, {"one": "alone"})
    (ax,) = drawn[0].axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx([20, 30, 40])
    for band in ax.collections:
        _, bottom, top = edges(band)
        assert list(bottom) == list(top)
        assert not np.any(band.get_linewidth())


def test_every_row_with_records_has_a_line_of_its_colour_and_the_others_are_skipped(drawn):
    show.bands(SEVERAL, {"none": "not run", "many": "several", "nobody": "nothing", "one": "alone"})
    (ax,) = drawn[0].axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["several (seeds: 4)", "alone (seeds: 1)"]
    assert len(ax.lines) == 2
    assert len({line.get_color() for line in ax.lines}) == 2
    for line, band in zip(ax.lines, ax.collections, strict=True):
        assert matplotlib.colors.same_color(line.get_color(), band.get_facecolor()[0, :3])


@pytest.mark.parametrize(
    "name, values, label",
    [("top1", [20, 30, 40], "val top-1, %"), ("loss", [2, 1, 0.5], "val loss"), ("val_loss", [2, 1, 0.5], "val loss")],
)
def test_bands_follow_the_entry_asked_for_and_name_it_on_their_axis(drawn, name, values, label):
    show.bands(SEVERAL, {"one": "alone"}, name)
    (ax,) = drawn[0].axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx(values)
    assert (ax.get_ylabel(), ax.get_xlabel(), ax.get_title()) == (label, "epoch", "")


def test_bands_of_a_replica_follow_its_test_set_and_have_limits_and_title_as_asked(drawn):
    replica = [{"row": "a", "history": {"epoch": [1, 2], "test_top1": [0.9, 0.95]}}]
    show.bands(replica, {"a": "replica"}, low=80, high=100, title="as they did")
    (ax,) = drawn[0].axes
    assert (ax.get_ylabel(), ax.get_title(), ax.get_ylim()) == ("test top-1, %", "as they did", (80, 100))


# ---- mistakes ----


@pytest.fixture
def asked(monkeypatch):
    """What `mistakes` asks of load, which has the few glyphs."""
    calls = []

    def load(*arguments):
        calls.append(arguments)
        return tiny_load(*arguments)

    monkeypatch.setattr(show.figures, "load", load)
    return calls


def images_tested(run):
    """The part of the world that the Run was tested on."""
    return tiny_load(run.experiment.dataset, run.experiment.world, run.experiment.replica).test


def wrong_at(run, *places):
    """The Run as if it had answered every test image right, but those at these places with the class after theirs."""
    labels = images_tested(run).labels
    predictions = labels.clone()
    predictions[list(places)] = (labels[list(places)] + 1) % 10
    return dataclasses.replace(run, test={**run.test, "predictions": predictions.to(torch.uint8)})


def pixels(ax):
    return torch.as_tensor(np.asarray(ax.images[0].get_array()), dtype=torch.float32)


NETS = {"stnet": {"model": "stnet", "world": "translated42"}, "convnet": {"model": "convnet", "world": "translated42"}}


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_mistakes_are_the_first_wrong_test_images_with_true_class_and_answer_above_them(drawn, asked, options):
    run = fitted(**options)
    predictions, part = run.test["predictions"].tolist(), images_tested(run)
    wrong = [i for i, (answer, true) in enumerate(zip(predictions, part.labels.tolist())) if answer != true][:4]
    assert len(wrong) == 4
    show.mistakes(run, count=4)
    titles = [ax.get_title() for ax in drawn[0].axes[:4]]
    assert titles == [f"{part.labels[i]} → {predictions[i]}" for i in wrong]
    heading = drawn[0].get_suptitle()
    assert run.title in heading and options["model"] in heading
    assert asked == [("glyphs", "translated42", False)]


def test_mistakes_of_a_transformer_are_the_images_their_windows_and_what_the_classifier_saw(drawn, asked):
    run, places = fitted(**NETS["stnet"]), [3, 17, 41]
    show.mistakes(wrong_at(run, *places))
    x, _ = images_tested(run).batch(places)
    with torch.no_grad():
        (thetas,), views = run.model().looks(x), run.model().picture(x)
    assert len(drawn[0].axes) == 9
    inputs, grids, warped = (drawn[0].axes[start : start + 3] for start in (0, 3, 6))
    for i in range(3):
        torch.testing.assert_close(pixels(inputs[i]), x[i, 0])
        torch.testing.assert_close(pixels(grids[i]), x[i, 0])
        torch.testing.assert_close(pixels(warped[i]), views[i, 0], atol=1e-5, rtol=0)
        ends = torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1.0]]) @ thetas[i, :, :2].T + thetas[i, :, 2]
        (window,) = [line.get_xydata()[:4] for line in grids[i].lines if len(line.get_xdata()) == 5]  # closed
        wanted = ((ends + 1) * 42 - 1) / 2  # as pixels
        assert window == pytest.approx(wanted.numpy(), abs=1e-3)


def test_mistakes_of_a_net_without_looks_are_one_row_of_what_its_classifier_saw(drawn, asked):
    run, places = fitted(**NETS["convnet"]), [0, 20, 59]
    show.mistakes(wrong_at(run, *places))
    x, _ = images_tested(run).batch(places)
    views = torch.nn.functional.interpolate(x, (28, 28), mode="bilinear", align_corners=False)
    assert len(drawn[0].axes) == 3
    for ax, view in zip(drawn[0].axes, views):
        torch.testing.assert_close(pixels(ax), view[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("count, wrong, shown", [(None, 12, 10), (None, 2, 2), (4, 12, 4), (20, 12, 12), (1, 1, 1)])
def test_as_many_mistakes_are_shown_as_asked_for_and_no_more_than_there_are(drawn, asked, count, wrong, shown):
    run = wrong_at(fitted(**NETS["convnet"]), *range(2, 2 + wrong))
    show.mistakes(*[run, count][: 1 + (count is not None)])
    assert len(drawn[0].axes) == shown


def test_mistakes_of_a_replica_are_looked_up_in_the_replicas_world(drawn, asked):
    run = fitted(**NETS["convnet"])
    show.mistakes(wrong_at(dataclasses.replace(run, experiment=run.experiment.but(replica=True)), 5))
    assert asked == [("glyphs", "translated42", True)]


@pytest.mark.parametrize("figure", [show.mistakes, show.confusion])
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_a_run_without_a_test_result_is_refused(drawn, asked, figure, options):
    with pytest.raises(ValueError, match="glyphs, translated42: this Run is not finished, it has no test result"):
        figure(dataclasses.replace(fitted(**options), test=None))
    assert not drawn and not asked


# ---- frames, film strip, GIF ----


def test_there_is_a_frame_before_training_and_one_an_epoch_all_of_one_size(run):
    pictures = show.frames(run, count=4)
    assert len(pictures) == EPOCHS + 1
    assert len({picture.size for picture in pictures}) == 1
    assert len({picture.tobytes() for picture in pictures}) == EPOCHS + 1


def test_a_frames_heading_tells_its_own_epochs_score(run):
    run_scores = run.history["val_top1"]
    assert show.epoch_label(run, 0).endswith("epoch 0   before training")
    for epoch, score in enumerate(run_scores, 1):
        assert show.epoch_label(run, epoch).endswith(f"epoch {epoch}   {100 * score:.1f} % right")


@pytest.mark.parametrize("rows, epochs", [(2, 2), (3, 3), (5, 3)])
def test_a_filmstrip_has_the_input_and_at_most_the_rows_asked_for(run, rows, epochs):
    strip, frame = show.filmstrip(run, 4, rows), show.frames(run, 4)[0]
    assert strip.width == frame.width
    assert (strip.height - frame.height) / (show.sheets.TILE + show.sheets.GAP) == 1 + epochs - 2  # a frame has two rows


def test_the_first_digits_shown_are_one_of_each_class(run):
    probe, chosen = show.shown(run, 10)
    assert probe["labels"][chosen].tolist() == list(range(10))


def test_a_gif_turns_for_ever_at_the_times_asked_for_and_stays_on_the_last(run, tmp_path):
    path = tmp_path / "new folder" / "a.gif"
    size = show.encode_gif(show.frames(run, 3), path, milliseconds=300, limit=50_000)
    with Image.open(path) as gif:
        durations = [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)]
        assert gif.info["loop"] == 0
    assert durations == [300, 300, 1200]
    assert size == path.stat().st_size <= 50_000


def test_a_gifs_frames_are_the_pictures_in_order(run, tmp_path):
    pictures = [np.asarray(picture).astype(int) for picture in show.frames(run, 3)]
    show.encode_gif(show.frames(run, 3), tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as gif:
        for i in range(gif.n_frames):
            gif.seek(i)
            away = [np.abs(np.asarray(gif.convert("RGB")) - picture).mean() for picture in pictures]
            assert np.argmin(away) == i and away[i] < 3


def test_a_gif_too_large_is_refused_and_no_file_is_left(tmp_path):
    with pytest.raises(ValueError, match="more than 100"):
        show.encode_gif(colours(4), tmp_path / "a.gif", limit=100)
    assert not list(tmp_path.iterdir())


def test_gif_shows_the_file_as_data_and_a_still_filmstrip_beside_it(run, tmp_path, displayed):
    show.gif(run, tmp_path / "a.gif", count=4)
    moving, still = displayed
    uri = re.search(r'src="data:image/gif;base64,([^"]+)"', moving.data)[1]
    assert base64.b64decode(uri) == (tmp_path / "a.gif").read_bytes()
    assert Image.open(io.BytesIO(still.data)).size == show.filmstrip(run, 4).size


def test_two_runs_stand_side_by_side_and_the_shorter_one_waits_on_its_last_picture(run):
    short = fitted(epochs=1)
    pictures = show.frames({"long": run, "short": short}, count=2)
    alone = {title: show.frames({title: r}, count=2) for title, r in (("long", run), ("short", short))}
    assert len(pictures) == EPOCHS + 1 and len(alone["short"]) == 2
    width = alone["long"][0].width
    for i, picture in enumerate(pictures):
        left, right = picture.crop((0, 0, width, picture.height)), picture.crop((width, 0, *picture.size))
        assert left.tobytes() == alone["long"][i].tobytes()
        assert right.tobytes() == alone["short"][min(i, 1)].tobytes()


def test_a_pair_shares_the_ten_digits_and_its_titles_stand_in_the_text_of_its_gif(run, tmp_path, displayed):
    pair = {"one": run, "other": run}
    assert show.filmstrip(pair).width == 2 * show.filmstrip(run, 5).width
    show.gif(pair, tmp_path / "a.gif")
    assert "one beside other" in displayed[0].data


# ---- a picture a look ----

LOOKING = {  # a net of several looks, the weights that let it look elsewhere, and the number of its looks
    "stnet": ({}, {"localization.9.bias": [0.8, -0.1, 0.4, 0.1, 0.8, 0.2]}, 1),
    "sequential": ({"model": "sequential", "steps": 3}, {"step.bias": [0.9, -0.1, 0.2, 0.1, 0.9, 0.1]}, 3),
    "reinforced": ({"model": "reinforced", "steps": 4}, {"policy.choice.bias": [0, 0, 1, 0, 0, 0, 0, 0, 0]}, 4),
}


def looking(name, **fields):
    """A Run whose net moves its window in every look, and the number of looks."""
    options, weights, count = LOOKING[name]
    run = fitted(world="translated42", epochs=0, **options, **fields)
    changed = {f"transformer.{key}": torch.tensor(value, dtype=torch.float32) for key, value in weights.items()}
    assert all(run.weights[key].shape == value.shape for key, value in changed.items())
    return dataclasses.replace(run, weights={**run.weights, **changed}), count


@pytest.fixture
def rows(monkeypatch):
    """What a picture is made of: (images, thetas) of every row drawn, and every heading."""
    found, headings = [], []

    def row(pictures, thetas=None, original=show.sheets._tile_row):
        found.append((pictures, thetas))
        return original(pictures, thetas)

    def sheet(rows, heading, original=show.sheets._sheet):
        headings.append(heading)
        return original(rows, heading)

    monkeypatch.setattr(show.sheets, "_tile_row", row)
    monkeypatch.setattr(show.sheets, "_sheet", sheet)
    return found, headings


@pytest.mark.parametrize("name", LOOKING)
def test_an_episode_has_a_picture_before_the_first_look_and_one_a_look_all_of_one_size(name, rows):
    run, count = looking(name)
    pictures = show.episode(run, 3)
    assert len(pictures) == count + 1
    assert len({picture.size for picture in pictures}) == 1
    assert len({picture.tobytes() for picture in pictures}) == count + 1
    after = [f"{run.title}   after look {number}" for number in range(1, count + 1)]
    assert rows[1] == [f"{run.title}   before the first look", *after]


@pytest.mark.parametrize("padding", ["background", "zeros", "border"])
@pytest.mark.parametrize("name", LOOKING)
def test_an_episode_shows_the_windows_so_far_and_at_its_end_what_the_classifier_saw(name, padding, rows):
    run, _ = looking(name, padding=padding)
    show.episode(run, 4)
    probe, chosen = show.shown(run, 4)
    x, net = probe["images"][chosen] / 255, run.model()
    with torch.no_grad():
        thetas, seen = [identity(4), *net.looks(x)], net.picture(x)
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


def test_moving_pictures_are_written_and_shown_as_data_with_a_still_for_readers_that_do_not_move_them(tmp_path, displayed):
    path, still = tmp_path / "new folder" / "a.gif", Image.new("RGB", (44, 22), "red")
    greys = [Image.new("RGB", (40, 20), (90 * i,) * 3) for i in range(3)]
    show.moving(greys, path, still, "three greys", milliseconds=200)
    moved, shown = displayed
    ((tag, attributes),) = Tags(moved.data).found
    assert tag == "img" and attributes["alt"] == "three greys"
    assert base64.b64decode(attributes["src"].removeprefix("data:image/gif;base64,")) == path.read_bytes()
    with Image.open(path) as gif:
        assert [gif.seek(i) or gif.info["duration"] for i in range(gif.n_frames)] == [200, 200, 800]
    assert Image.open(io.BytesIO(shown.data)).size == (44, 22)
    assert shown.metadata["alt"].endswith("three greys") and shown.metadata["alt"] != "three greys"


def test_moving_pictures_that_are_too_large_are_refused_and_nothing_is_written_or_shown(tmp_path, displayed):
    with pytest.raises(ValueError, match="more than 100"):
        show.moving(colours(4), tmp_path / "a.gif", colours(1)[0], "four", limit=100)
    assert not displayed and not list(tmp_path.iterdir())


def test_a_stack_is_the_pictures_one_below_the_other_as_they_were():
    pictures = [colours(3, (40, height))[number] for number, height in enumerate((20, 5, 31))]
    sheet = show.stack(pictures)
    assert sheet.size == (40, 56)
    for picture, (top, bottom) in zip(pictures, ((0, 20), (20, 25), (25, 56))):
        assert sheet.crop((0, top, 40, bottom)).tobytes() == picture.tobytes()
    assert show.stack(pictures[:1]).tobytes() == pictures[0].tobytes()


# ---- the player without a kernel ----


def embedded(page):
    return [base64.b64decode(uri) for uri in re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page)]


@pytest.fixture
def page():
    return player.player_html(colours(3), ["a", "b", "c"], still=Image.new("RGB", (44, 22), "red"))


def test_the_page_holds_the_still_and_every_frame_in_order(page):
    pictures = [Image.open(io.BytesIO(content)).convert("RGB") for content in embedded(page)]
    assert [picture.size for picture in pictures] == [(44, 22)] + [(40, 20)] * 3
    for picture, wanted in zip(pictures[1:], colours(3)):
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(wanted)).max() <= 8  # webp
    assert 'labels = ["a", "b", "c"]' in page


def test_the_still_stands_outside_the_script_where_a_reader_without_scripts_sees_it(page):
    before_script = page.split("<script>")[0]
    assert len(embedded(before_script)) == 1


@pytest.mark.parametrize("kind", ["player", "explorer"])
def test_a_page_fetches_nothing_and_has_no_gap_in_its_template(page, kind):
    text = page if kind == "player" else player.explore_html(torch.rand(1, 8, 8))
    assert not re.search(r"https?:|//[a-z]+\.|@import|src=\"(?!data:)", text)
    assert not re.search(r"__[A-Z]+__", text)


def test_equal_players_are_equal_text_and_different_ones_have_different_ids(page):
    again = player.player_html(colours(3), ["a", "b", "c"], still=Image.new("RGB", (44, 22), "red"))
    other = player.player_html(colours(3), ["a", "b", "d"], still=Image.new("RGB", (44, 22), "red"))
    assert again == page
    assert len({re.search(r'id="(stn-\w+)"', text)[1] for text in (page, other)}) == 2


@pytest.mark.parametrize("count, labels", [(3, ["a", "b"]), (0, [])])
def test_pictures_and_labels_that_do_not_match_are_refused(count, labels):
    with pytest.raises(ValueError, match="expected the same number above 0"):
        player.player_html(colours(count), labels, still=colours(1)[0])


def test_play_labels_the_frames_from_epoch_0_on(run, displayed):
    player.play(run, count=2)
    (shown,) = displayed
    assert 'labels = ["epoch 0", "epoch 1", "epoch 2"]' in shown.data
    assert len(embedded(shown.data)) == 1 + EPOCHS + 1


# ---- the widgets ----


def widgets_of(root, kind):
    inside = [widget for child in getattr(root, "children", ()) for widget in widgets_of(child, kind)]
    return inside + [root] * isinstance(root, kind)


def test_the_sliders_value_chooses_picture_and_label_of_the_widget():
    root = player.player_widget(colours(3), ["a", "b", "c"])
    (slider,), (image,) = widgets_of(root, ipywidgets.IntSlider), widgets_of(root, ipywidgets.Image)
    (button,), (label,) = widgets_of(root, ipywidgets.Play), widgets_of(root, ipywidgets.Label)
    assert (slider.min, slider.value, slider.max) == (0, 2, 2)
    for i in (2, 0, 1):
        slider.value = i
        assert (image.value, label.value) == (show.encode(colours(3)[i]), "abc"[i])
        assert button.value == i
    button.value = 2
    assert slider.value == 2


def test_the_widget_of_a_run_shows_its_frames(run):
    root = player.play_widget(run, count=2)
    (image,), (label,) = widgets_of(root, ipywidgets.Image), widgets_of(root, ipywidgets.Label)
    assert (image.value, label.value) == (show.encode(show.frames(run, 2)[-1]), f"epoch {EPOCHS}")


@pytest.mark.parametrize("name, value", [("angle", 90), ("scale", 0.5), ("shift_x", 0.3), ("shift_y", -1), ("shear", 1)])
def test_every_slider_of_the_explorer_moves_picture_and_matrix(name, value):
    root = player.explore_widget(torch.rand(1, 8, 8))
    sliders = {slider.description: slider for slider in widgets_of(root, ipywidgets.FloatSlider)}
    (picture,), (matrix,) = widgets_of(root, ipywidgets.Image), widgets_of(root, ipywidgets.HTML)
    before = picture.value
    sliders[name].value = value
    assert picture.value != before
    theta = [float(number) for number in re.findall(r"[+-]\d\.\d\d", matrix.value)]
    assert theta == pytest.approx(affine(**{name: float(value)}).flatten().tolist(), abs=0.0051)


# ---- a reader's own moves ----

NAMES = [name for name, _ in ACTIONS["all"]]
LEFT, RIGHT, ZOOM = map(NAMES.index, ("left", "right", "in"))


@pytest.fixture
def played():
    """A net whose policy goes right four times, an image of it (1, 1, 42, 42), and its class."""
    run, _ = looking("reinforced")
    part = images_tested(run)
    return run.model(), part.batch([7])[0], part.labels[7].item()


def loss_by_hand(net, x, y, theta):
    """The loss of what theta shows of x, the world's black outside."""
    with torch.no_grad():
        view = warp(net.before(x), theta, (28, 28), "background", net.transformer.background)
        return torch.nn.functional.cross_entropy(net.classifier(view), torch.tensor([y])).item()


def through(names):
    """The theta of those moves, one after the other."""
    total = torch.eye(3)
    for name in names:
        total = total @ torch.cat([ACTIONS["all"][name][1][0], torch.tensor([[0, 0, 1.0]])])
    return total[None, :2]


def test_a_reward_is_the_decrease_of_the_loss_move_by_move(played):
    net, x, y = played
    game = player.Episode(net, x, y)
    numbers = [NAMES.index(name) for name in ("left", "in", "left", "up", "turn 10", "stay")]
    losses = [loss_by_hand(*played, identity())]
    for count, number in enumerate(numbers, 1):
        reward = game.move(number)
        losses.append(loss_by_hand(*played, through(numbers[:count])))
        assert reward == pytest.approx(losses[-2] - losses[-1], abs=1e-4)
        torch.testing.assert_close(game.theta, through(numbers[:count]))
        assert game.moves == numbers[:count]
    assert losses[-1] == losses[-2] and len(set(losses)) == len(numbers)
    assert game.look(game.theta)[3] == pytest.approx(losses[-1], abs=1e-4)


def test_a_look_is_the_view_the_answer_its_probability_and_the_loss(played):
    net, x, y = played
    theta = affine(20, 0.7, 0.1)
    view, answer, chance, loss = player.Episode(net, x, y).look(theta)
    wanted = warp(net.before(x), theta, (28, 28), "background", net.transformer.background)
    torch.testing.assert_close(view, wanted[0])
    chances = net.classifier(wanted).detach().double().softmax(dim=1)[0]
    assert (answer, chance) == (chances.argmax().item(), pytest.approx(chances.max().item(), abs=1e-5))
    assert loss == pytest.approx(-math.log(chances[y]), abs=1e-4)


def test_the_loss_of_a_classifier_that_is_sure_and_wrong_is_large_and_finite_and_0_where_it_is_right(played):
    net, x, y = played
    with torch.no_grad():
        net.classifier[-1].weight.zero_()
        net.classifier[-1].bias.copy_(200.0 * torch.nn.functional.one_hot(torch.tensor((y + 1) % 10), 10))
    assert player.Episode(net, x, y).look(identity())[3] == pytest.approx(200, rel=1e-5)
    assert player.Episode(net, x, (y + 1) % 10).look(identity())[3] == pytest.approx(0, abs=1e-6)


def test_the_policys_loss_is_that_after_its_own_moves_whatever_the_readers_were(played):
    game, wanted = player.Episode(*played), loss_by_hand(*played, through([RIGHT] * 4))
    assert game.policy_loss() == pytest.approx(wanted, abs=1e-4)
    game.move(LEFT), game.move(ZOOM)
    assert game.policy_loss() == pytest.approx(wanted, abs=1e-4)
    assert game.moves == [LEFT, ZOOM] and game.look(game.theta)[3] != pytest.approx(wanted, abs=1e-4)


def test_a_net_in_training_is_asked_without_dropout_or_draws(played):
    net, x, y = played
    game = player.Episode(net.train(), x, y)
    assert len({game.look(identity())[3] for _ in range(3)}) == len({game.policy_loss() for _ in range(3)}) == 1


class Board:
    """The widget's parts, and what it says."""

    def __init__(self, net, x, y):
        self.root = player.policy_widget(net, x, y, NAMES)
        (self.picture,), (self.text,) = widgets_of(self.root, ipywidgets.Image), widgets_of(self.root, ipywidgets.HTML)
        *self.moves, self.again = widgets_of(self.root, ipywidgets.Button)

    @property
    def said(self):
        return re.sub("<.*?>", "", self.text.value)

    def number(self, name):
        """The number behind that word; None if it is not there."""
        found = re.search(rf"{name} ([+-]?\d+(?:\.\d+)?)", self.said)
        return found and float(found[1])

    @property
    def disabled(self):
        return [button.disabled for button in (*self.moves, self.again)]


def test_the_widget_of_a_policy_has_a_button_a_move_in_order_and_says_where_the_game_stands(played):
    net, x, y = played
    board = Board(*played)
    assert [button.description for button in board.moves] == NAMES and board.again.description == "start again"
    assert board.disabled == [False] * 10
    _, answer, chance, loss = player.Episode(*played).look(identity())
    assert f"It is a {y}. The classifier says {answer} ({100 * chance:.0f} %)" in board.said
    assert board.number("loss") == pytest.approx(loss, abs=6e-4)
    assert board.number("Moves left:") == 4 and "reward" not in board.said and "Done" not in board.said
    assert board.picture.value == show.encode(player._explorer_still(x[0], identity()))


@pytest.mark.parametrize("number", range(9), ids=NAMES)
def test_every_button_makes_its_own_move_and_says_its_reward(played, number):
    _, x, _ = played
    board = Board(*played)
    board.moves[number].click()
    assert board.picture.value == show.encode(player._explorer_still(x[0], through([number])))
    losses = [loss_by_hand(*played, through(moves)) for moves in ([], [number])]
    assert board.number("Last reward") == pytest.approx(losses[0] - losses[1], abs=1e-3)
    assert board.number("loss") == pytest.approx(losses[1], abs=1e-3)
    assert board.number("Moves left:") == 3


def test_after_as_many_moves_as_the_policy_has_its_buttons_are_off_and_its_own_loss_is_said(played):
    board = Board(*played)
    for left, number in zip((3, 2, 1, 0), (LEFT, LEFT, ZOOM, RIGHT)):
        assert board.disabled == [False] * 10
        board.moves[number].click()
        assert board.number("Moves left:") == (left or None)
    assert board.disabled == [True] * 9 + [False]
    assert "Done" in board.said
    assert board.number("ends at loss") == pytest.approx(loss_by_hand(*played, through([RIGHT] * 4)), abs=1e-3)


@pytest.mark.parametrize("count", [1, 4])
def test_start_again_brings_the_first_picture_text_and_buttons_back(played, count):
    board = Board(*played)
    first = board.picture.value, board.said
    for _ in range(count):
        board.moves[LEFT].click()
    assert board.picture.value != first[0] and board.said != first[1]
    board.again.click()
    assert (board.picture.value, board.said) == first and board.disabled == [False] * 10
    board.moves[LEFT].click()
    assert board.number("Moves left:") == 3


def test_a_press_that_comes_after_the_last_move_changes_nothing(played):
    """A reader who presses twice sends the second press before the button is off."""
    board = Board(*played)
    for _ in range(4):
        board.moves[LEFT].click()
    last = board.picture.value, board.said
    board.moves[RIGHT].click()
    assert (board.picture.value, board.said) == last and board.disabled == [True] * 9 + [False]


def test_two_widgets_of_one_net_are_two_games(played):
    one, other = Board(*played), Board(*played)
    one.moves[LEFT].click()
    assert (one.number("Moves left:"), other.number("Moves left:")) == (3, 4)
