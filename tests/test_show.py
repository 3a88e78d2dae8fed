"""Figures: drawn without a window and without a warning, each with what it is asked to show."""

import dataclasses
import io
import warnings

import matplotlib.colors
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from scipy import stats
from tiny_run import fitted, images_tested
from tiny_study import made_up, write_plan
from tiny_world import tiny_load

import stn_utils.data
from stn_utils import player, show
from stn_utils import study as studies
from stn_utils.study import append
from stn_utils.warp import affine, corners, identity, make_grid, outline, sample, warp

FIGURES = {
    "images": lambda run: show.images(
        run.probe["images"][:4] / 255, titles="abcd", suptitle="four"
    ),
    "one image": lambda run: show.images([torch.rand(5, 5)]),
    "looks": lambda run: show.looks(
        run.probe["images"][:3] / 255, run.looks[1][:3], run.probe["warped"][1][:3] / 255, "abc"
    ),
    "before_after": show.before_after,
    "before_after, epoch 0": lambda run: show.before_after(run, count=3, epoch=0),
    "curves": lambda run: show.curves({"stn": run, "again": run}),
    "curves of det": lambda run: show.curves({"stn": run}, "det"),
    "confusion": show.confusion,
    "seeds": lambda run: show.seed_curves(RECORDS, {"a": "first", "b": "second"}),
    "bands": lambda run: show.mean_curves(
        {"first": of_row("a"), "second": of_row("b")}, "outside", title="two"
    ),
    "bands with a null": lambda run: show.mean_curves({"first": of_row("a")}, "det"),
}
HISTORIES = [
    ("a", dict(val_top1=[0.5, 0.6], det=[1.0, 1.1], outside=[0.1, 0.2])),
    ("a", dict(val_top1=[0.5, 0.1], det=[1.0, None], outside=[0.1, 1.0])),
    ("b", dict(val_top1=[0.4], det=[0.9], outside=[0.0])),
    ("c", dict(val_top1=[0.9], det=[0.9], outside=[0.0])),
]
RECORDS = [
    {"row": row, "history": {"epoch": [1, 2][: len(history["det"])], **history}, "result": {}}
    for row, history in HISTORIES
]


def of_row(row):
    return [record["history"] for record in RECORDS if record["row"] == row]


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_a_figure_is_drawn_once_and_without_warnings(run, figure):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = figure(run)
    assert isinstance(drawn, Figure) and drawn.axes
    assert plt.get_fignums() == []  # none is left open


@pytest.mark.parametrize("epoch, named", [(0, "epoch 0"), (1, "epoch 1"), (-1, "epoch 2")])
def test_before_after_names_its_epoch(run, epoch, named):
    figure = show.before_after(run, count=3, epoch=epoch)
    assert figure.get_suptitle().endswith(named)


@pytest.mark.parametrize("picture", [show.frames, show.filmstrip, show.before_after, player.play])
def test_a_net_without_looks_is_refused_by_name(picture):
    with pytest.raises(ValueError, match="convnet has no looks"):
        picture(fitted(model="convnet"))


@pytest.mark.parametrize("normalize", ["before", "after", "none"])
@pytest.mark.parametrize("padding", ["background", "zeros"])
def test_before_training_the_warped_picture_is_the_input_whatever_the_normalization(
    normalize, padding
):
    probe = fitted(normalize=normalize, padding=padding, epochs=0).probe
    difference = probe["warped"][0].int() - probe["images"].int()
    assert probe["images"].max() > 100
    assert difference.abs().max() <= 1


def test_seeds_draws_a_line_a_record_dots_the_collapsed_one_and_the_mean_of_the_others():
    figure = show.seed_curves(RECORDS, {"a": "first", "b": "second"}, "top1")
    first, second = figure.axes
    assert [line.get_linestyle() for line in first.lines] == ["-", ":", "-"]
    assert list(first.lines[0].get_ydata()) == [50, 60] and len(second.lines) == 2
    assert list(first.lines[2].get_ydata()) == [50, 60]  # of one that was kept


def test_the_area_of_windows_is_drawn_by_doublings_with_a_line_at_the_whole_picture():
    (ax,) = show.seed_curves(RECORDS, {"a": "first"}, "det").axes
    assert ax.get_yscale() == "log" and list(ax.lines[-1].get_ydata()) == [1, 1]


@pytest.mark.parametrize(
    "figure",
    [
        lambda run: show.curves({"stn": run}, "dett"),
        lambda run: show.seed_curves(RECORDS, {"a": "first"}, "dett"),
        lambda run: show.mean_curves({"first": of_row("a")}, "dett"),
    ],
    ids=["curves", "seeds", "bands"],
)
def test_an_entry_that_a_history_lacks_is_refused_by_name_with_those_it_has(run, figure):
    with pytest.raises(ValueError, match="no 'dett' in it; it has epoch, .*val_top1, .*det"):
        figure(run)


# ---- a table behind a fold ----


def test_a_fold_is_a_line_that_opens_and_the_text_itself_where_nothing_does():
    found = show.fold("row  a < b", "2 rows")._repr_mimebundle_()
    assert found["text/plain"] == "row  a < b"
    page = "<details><summary>2 rows</summary><pre>row  a &lt; b</pre></details>"
    assert found["text/html"] == page


# ---- effects ----


def test_a_forest_draws_each_contrast_with_its_interval_filled_where_it_is_significant(tmp_path):
    rows = {"big": {"model": "stnet"}, "same": {"model": "stnet"}, "base": {"model": "stnet"}}
    plan = {"rows": rows, "contrasts": [["big", "base"], ["same", "base"]]}
    plan["names"] = {"big": "a large one", "base": "none"}
    chosen = studies.load("tiny", write_plan(tmp_path, **plan))
    for seed, scores in enumerate([(0.9, 0.5, 0.5), (0.91, 0.52, 0.51), (0.92, 0.51, 0.53)], 1000):
        for row, score in zip(rows, scores):
            append(chosen.path, made_up(row, seed, score))
    (ax,) = show.forest(chosen, "tiny").axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "glyphs, clean28", "a large one − none", "same − none",
    ]  # fmt: skip
    drawn = [(dot, bars[0].get_segments()[0]) for dot, _, bars in ax.containers]
    assert [dot.get_markerfacecolor() for dot, _ in drawn] == [show.WINDOW, show.PAPER]
    for c, (dot, bar) in zip(studies.contrasts(chosen), drawn, strict=True):
        assert dot.get_xdata() == pytest.approx([c.mean])
        assert bar[:, 0] == pytest.approx([c.mean - c.half, c.mean + c.half])


def test_a_forest_has_no_headings_where_rows_of_unlike_worlds_are_compared(tmp_path):
    worlds = {"near": "clean28", "far": "rotated28"}
    rows = {row: {"model": "stnet", "world": world} for row, world in worlds.items()}
    chosen = studies.load("tiny", write_plan(tmp_path, rows=rows, contrasts=[["near", "far"]]))
    for seed, scores in enumerate([(0.9, 0.5), (0.91, 0.52), (0.92, 0.51)], 1000):
        for (row, world), score in zip(worlds.items(), scores):
            record = made_up(row, seed, score)
            record["experiment"]["world"] = world
            append(chosen.path, record)
    (ax,) = show.forest(chosen, "tiny").axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["near − far"]


# ---- bands ----

BY_SEED = [
    [0.5, 0.6, 0.7],
    [0.55, 0.75, 0.72],
    [0.4, 0.7, 0.71],
    [0.52, 0.6, 0.9],
]  # epoch by epoch
SEVERAL = [{"epoch": [1, 2, 3], "val_top1": scores} for scores in BY_SEED]
ALONE = {"epoch": [1, 2, 3], "val_top1": [0.2, 0.3, 0.4], "val_loss": [2.0, 1.0, 0.5]}


def edges(band):
    """Lower and upper edge of a drawn band at every epoch."""
    vertices = band.get_paths()[0].vertices
    epochs = sorted(set(vertices[:, 0]))
    return epochs, *np.array(
        [(v.min(), v.max()) for v in (vertices[vertices[:, 0] == e, 1] for e in epochs)]
    ).T


def test_a_band_is_the_t_interval_of_scipy_round_the_mean_over_seeds_at_every_epoch():
    figure = show.mean_curves({"several": SEVERAL})
    (ax,) = figure.axes
    (line,), (band,) = ax.lines, ax.collections
    scores = 100 * np.array(BY_SEED)
    low, high = stats.t.interval(
        0.95, len(scores) - 1, scores.mean(axis=0), stats.sem(scores, axis=0)
    )
    assert list(line.get_xdata()) == [1, 2, 3]
    assert list(line.get_ydata()) == pytest.approx(scores.mean(axis=0))
    epochs, bottom, top = edges(band)
    assert epochs == [1, 2, 3]
    assert list(bottom) == pytest.approx(low) and list(top) == pytest.approx(high)


def test_what_has_one_seed_is_a_line_and_its_band_has_no_width():
    figure = show.mean_curves({"alone": [ALONE]})
    (ax,) = figure.axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx([20, 30, 40])
    for band in ax.collections:
        _, bottom, top = edges(band)
        assert list(bottom) == list(top)
        assert not np.any(band.get_linewidth())


def test_every_label_has_a_line_of_its_colour():
    figure = show.mean_curves({"several": SEVERAL, "alone": [ALONE]})
    (ax,) = figure.axes
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["several", "alone"]
    assert len(ax.lines) == 2
    assert len({line.get_color() for line in ax.lines}) == 2
    for line, band in zip(ax.lines, ax.collections, strict=True):
        assert matplotlib.colors.same_color(line.get_color(), band.get_facecolor()[0, :3])


@pytest.mark.parametrize(
    "name, values, label",
    [
        ("top1", [20, 30, 40], "val top-1, %"),
        ("loss", [2, 1, 0.5], "val loss"),
        ("val_loss", [2, 1, 0.5], "val loss"),
    ],
)
def test_bands_follow_the_entry_asked_for_and_name_it_on_their_axis(name, values, label):
    figure = show.mean_curves({"alone": [ALONE]}, name)
    (ax,) = figure.axes
    assert list(ax.lines[0].get_ydata()) == pytest.approx(values)
    assert (ax.get_ylabel(), ax.get_xlabel(), ax.get_title()) == (label, "epoch", "")


def test_bands_of_a_replica_follow_its_test_set_and_have_a_title_as_asked():
    replica = {"epoch": [1, 2], "test_top1": [0.9, 0.95]}
    figure = show.mean_curves({"replica": [replica]}, title="as they did")
    (ax,) = figure.axes
    assert (ax.get_ylabel(), ax.get_title()) == ("test top-1, %", "as they did")


# ---- curves and confusion ----


def test_curves_follow_each_history_and_say_which_run_collapsed(run):
    lost = dataclasses.replace(
        run, history={**run.history, "val_top1": [0.3, 0.1], "outside": [0.1, 1.0]}
    )
    figure = show.curves({"well": run, "lost": lost})
    (ax,) = figure.axes
    assert [list(line.get_ydata()) for line in ax.lines] == [
        pytest.approx([100 * top1 for top1 in one.history["val_top1"]]) for one in (run, lost)
    ]
    labels = [text.get_text().split(" (seeds")[0] for text in ax.get_legend().get_texts()]
    assert (
        labels[0].startswith("well")
        and "collapsed" not in labels[0]
        and "lost (collapsed in epoch 2)" in labels[1]
    )


def test_a_confusion_matrix_has_the_true_class_down_and_the_answer_across_and_colours_mistakes_alone(
    run,
):
    counts = torch.diag(torch.arange(1, 11))
    counts[3, 8] = 7
    figure = show.confusion(dataclasses.replace(run, test={**run.test, "confusion": counts}))
    (ax,) = figure.axes
    numbers = {text.get_position(): text.get_text() for text in ax.texts}
    assert numbers == {**{(i, i): str(i + 1) for i in range(10)}, (8, 3): "7"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("answered", "true")
    assert np.argwhere(np.asarray(ax.images[0].get_array())).tolist() == [[3, 8]]


# ---- mistakes ----


@pytest.fixture
def asked(monkeypatch):
    """What `mistakes` asks of load, which has the few glyphs."""
    calls = []

    def load(*arguments):
        calls.append(arguments)
        return tiny_load(*arguments)

    monkeypatch.setattr(stn_utils.data, "load", load)
    return calls


def wrong_at(run, *places):
    """The Run as if it had answered every test image right, but those at these places with the class after theirs."""
    labels = images_tested(run).labels
    predictions = labels.clone()
    predictions[list(places)] = (labels[list(places)] + 1) % 10
    return dataclasses.replace(run, test={**run.test, "predictions": predictions.to(torch.uint8)})


def pixels(ax):
    return torch.as_tensor(np.asarray(ax.images[0].get_array()), dtype=torch.float32)


NETS = {
    "stnet": {"model": "stnet", "world": "translated42"},
    "convnet": {"model": "convnet", "world": "translated42"},
}


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_mistakes_are_the_first_wrong_test_images_with_true_class_and_answer_above_them(
    asked, options
):
    run = fitted(**options)
    predictions, part = run.test["predictions"].tolist(), images_tested(run)
    wrong = [
        i
        for i, (answer, true) in enumerate(zip(predictions, part.labels.tolist()))
        if answer != true
    ][:4]
    assert len(wrong) == 4
    figure = show.mistakes(run, count=4)
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles == [f"{part.labels[i]} → {predictions[i]}" for i in wrong]
    heading = figure.get_suptitle()
    assert run.title in heading and options["model"] in heading
    assert asked == [("glyphs", "translated42", False, "cpu")]


def test_mistakes_are_told_by_the_names_of_the_classes_where_there_are_any(asked):
    run = fitted(**NETS["stnet"])
    named = dataclasses.replace(run, names=[f"class {number}" for number in range(10)])
    figures = show.mistakes(run, count=3), show.mistakes(named, count=3)
    numbers, told = ([ax.get_title() for ax in figure.axes[:3]] for figure in figures)
    assert told == [f"class {title[0]} →\nclass {title[-1]}" for title in numbers]


def test_mistakes_of_a_transformer_are_the_images_their_windows_and_what_the_classifier_saw(asked):
    run, places = fitted(**NETS["stnet"]), [3, 17, 41]
    figure = show.mistakes(wrong_at(run, *places))
    x, _ = images_tested(run).batch(places)
    with torch.no_grad():
        (thetas,), views = run.model().looks(x), run.model().warped(x)
    assert len(figure.axes) == 9
    inputs, grids, warped = (figure.axes[start : start + 3] for start in (0, 3, 6))
    for i in range(3):
        torch.testing.assert_close(pixels(inputs[i]), x[i, 0])
        torch.testing.assert_close(pixels(grids[i]), x[i, 0])
        torch.testing.assert_close(pixels(warped[i]), views[i, 0], atol=1e-5, rtol=0)
        ends = (
            torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1.0]]) @ thetas[i, :, :2].T
            + thetas[i, :, 2]
        )
        (window,) = [
            line.get_xydata()[:4] for line in grids[i].lines if len(line.get_xdata()) == 5
        ]  # closed
        wanted = ((ends + 1) * 42 - 1) / 2  # as pixels
        assert window == pytest.approx(wanted.numpy(), abs=1e-3)


def test_mistakes_of_a_net_without_looks_are_one_row_of_what_its_classifier_saw(asked):
    run, places = fitted(**NETS["convnet"]), [0, 20, 59]
    figure = show.mistakes(wrong_at(run, *places))
    x, _ = images_tested(run).batch(places)
    views = torch.nn.functional.interpolate(x, (28, 28), mode="bilinear", align_corners=False)
    assert len(figure.axes) == 3
    for ax, view in zip(figure.axes, views):
        torch.testing.assert_close(pixels(ax), view[0], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "count, wrong, shown", [(None, 12, 10), (None, 2, 2), (4, 12, 4), (20, 12, 12), (1, 1, 1)]
)
def test_as_many_mistakes_are_shown_as_asked_for_and_no_more_than_there_are(
    asked, count, wrong, shown
):
    run = wrong_at(fitted(**NETS["convnet"]), *range(2, 2 + wrong))
    figure = show.mistakes(*[run, count][: 1 + (count is not None)])
    assert len(figure.axes) == shown


def test_mistakes_of_a_replica_are_looked_up_in_the_replicas_world(asked):
    run = fitted(**NETS["convnet"])
    replica = dataclasses.replace(run, experiment=run.experiment.replace(replica=True))
    show.mistakes(wrong_at(replica, 5))
    assert asked == [("glyphs", "translated42", True, "cpu")]


@pytest.mark.parametrize("figure", [show.mistakes, show.confusion])
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_a_run_without_a_test_result_is_refused(asked, figure, options):
    with pytest.raises(
        ValueError, match="glyphs, translated42: this Run is not finished, it has no test result"
    ):
        figure(dataclasses.replace(fitted(**options), test=None))
    assert not asked


# ---- whoever draws, and whatever is drawn ----


def test_figures_have_the_courses_style_and_leave_the_readers_own_alone(run):
    with plt.rc_context({"figure.facecolor": "yellow", "lines.linewidth": 7, "xtick.color": "red"}):
        before = dict(plt.rcParams)
        figure = show.curves({"stn": run})
        assert dict(plt.rcParams) == before
        show.save(io.BytesIO(), figure)
        assert dict(plt.rcParams) == before
    (ax,) = figure.axes
    assert figure.get_facecolor() == (1, 1, 1, 1) and ax.lines[0].get_linewidth() == 2
    colours = {tick.tick1line.get_color() for tick in ax.xaxis.get_major_ticks()}
    assert colours == {show.INK}


def test_the_readers_own_plots_follow_where_asked():
    with plt.rc_context():
        show.use_style()
        assert plt.rcParams["axes.edgecolor"] == show.INK


@pytest.mark.parametrize("height, width", [(20, 40), (40, 20)])
def test_a_window_on_a_picture_that_is_not_square_is_drawn_where_it_looks(height, width):
    x, theta = torch.rand(1, 3, height, width), affine(angle=30, scale=0.6, shift_x=0.2)
    figure = show.looks(x, theta, warp(x, theta))
    above, middle, _ = figure.axes
    assert above.images[0].get_array().shape == (height, width, 3)
    rim = (corners(theta)[0] + 1) * torch.tensor([width, height]) / 2 - 0.5
    drawn = next(line.get_xydata() for line in middle.lines if len(line.get_xdata()) == 5)
    assert drawn[:4] == pytest.approx(rim.numpy(), abs=1e-4)


def test_a_bent_window_is_drawn_with_all_its_points():
    x, grid = torch.rand(1, 1, 30, 30), make_grid(identity(), (12, 16))
    grid = grid + 0.1 * torch.sin(3 * grid.flip(-1))
    figure = show.looks(x, grid, sample(x, grid))
    drawn = next(line.get_xydata() for line in figure.axes[1].lines if len(line.get_xdata()) > 50)
    wanted = (outline(grid)[0] + 1) * 15 - 0.5
    assert drawn[:-1] == pytest.approx(wanted.numpy(), abs=1e-4)
    inner = [line.get_xydata() for line in figure.axes[1].lines if 1 < len(line.get_xdata()) < 50]
    assert [len(line) for line in inner] == [16] * 5 + [12] * 5
    assert inner[0] == pytest.approx(((grid[0, 2] + 1) * 15 - 0.5).numpy(), abs=1e-4)


def test_a_notebook_gets_a_picture_and_a_text_that_says_what_it_shows(run):
    content, described = show.before_after(run)._repr_mimebundle_()
    assert Image.open(io.BytesIO(content["image/png"])).size[0] > 700
    alt = described["image/png"]["alt"]
    assert run.title in alt and "input" in alt and "grid on input" in alt and "warped" in alt
