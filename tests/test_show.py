"""Pictures: the same frames as film strip, GIF and player; drawn without a window and without a warning."""

import base64
import dataclasses
import functools
import io
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
from stn_utils.data.glyphs import glyphs
from stn_utils.data.worlds import make_world
from stn_utils.experiment import Experiment
from stn_utils.warp import affine

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
