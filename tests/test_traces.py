"""Stored traces: the same epochs and looks as the Run had, and what moves theta, step by step."""

import json
import re

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_run import fitted
from tiny_world import tiny_load

from stn_utils import show
from stn_utils.exercises import samples, steps
from stn_utils.experiment import Experiment
from stn_utils.study import load_trace


@pytest.mark.parametrize("model", ["stnet", "sequential", "reinforced", "convnet"])
def test_a_trace_shows_what_its_run_showed(tmp_path, save_trace, model):
    run = fitted(model=model, world="translated42", padding="zeros")
    path = save_trace(run, "one", count=4, folder=tmp_path)
    assert path.stat().st_size < 60_000
    again = load_trace("one", tmp_path)
    assert again.experiment == run.experiment and again.title == run.title
    assert again.collapse_epoch == run.collapse_epoch and again.epochs == run.epochs
    assert again.history["val_top1"] == pytest.approx(run.history["val_top1"], abs=1e-5)
    chosen = [run.probe["labels"].tolist().index(label) for label in again.probe["labels"].tolist()]
    assert len(chosen) == 4
    if model == "convnet":
        assert again.looks is None
        return
    where = torch.arange(0, 20, 5)
    assert torch.equal(again.probe["images"], run.probe["images"][where])
    torch.testing.assert_close(again.looks, run.looks[:, where])
    off = (again.probe["warped"].int() - run.probe["warped"][:, where].int()).abs()
    assert off.max() <= 1  # drawn again, from theta
    assert len(show.frames(again)) == run.epochs + 1
    show.before_after(again, 3)


def traced(count=30, **fields):
    world = tiny_load(world="cluttered40")
    experiment = Experiment(**{"world": "cluttered40", "optimizer": "sgd", "lr": 0.01, **fields})
    return steps.trace(experiment, world, world.val.batch(slice(0, 20))[0], count)


def test_small_steps_of_sgd_are_foretold_by_the_last_layer_alone(one_thread):
    rows = traced(lr=1e-4)
    assert list(rows) == [*steps.NAMES, "theta"]
    assert all(len(values) == 30 for values in rows.values())
    assert torch.tensor(rows["theta"]).shape == (30, steps.FILMED, 6)
    assert rows["moved"][1:] == pytest.approx(rows["foretold"][1:], rel=0.05)
    assert min(rows["g"]) > 0 and min(rows["h2"]) > 0


def test_g_and_h_are_of_the_weights_that_make_the_step(one_thread):
    small, large = traced(3, lr=1e-4), traced(3, lr=1.0)
    for name, same in (("g", 1), ("h2", 2)):  # the first step moves the last layer alone
        assert small[name][:same] == large[name][:same] and small[name][2] != large[name][2]


def test_a_tenth_of_the_rate_foretells_a_tenth_of_the_first_step(one_thread):
    whole, tenth = traced(2), traced(2, loc_lr_ratio=0.1)
    assert tenth["foretold"][0] == pytest.approx(whole["foretold"][0] / 10, rel=1e-4)


def test_the_two_acts_of_a_throw_are_told_apart():
    calm = [1.0] * 100
    rows = {"outside": [0.1] * 102 + [0.95] * 8, "g": [2.0] * 50 + [6.0] * 60,
            "h2": [0.5] * 100 + [0.6, 4.0, 50.0] + [99.0] * 7}  # fmt: skip
    found = steps.acts(rows)
    assert found == {
        "thrown": 103,
        "g grown": 3.0,
        "g leap": 1.0,
        "h2 grown": 1.0,
        "h2 leap": 100.0,
    }
    kept = steps.acts({"outside": [0.1] * 100, "g": calm, "h2": calm})
    assert kept["thrown"] is None and kept["h2 leap"] == 1.0


def test_the_traces_of_the_chapters_are_there_and_show_what_is_told():
    assert load_trace("one-rate").collapse_epoch and not load_trace("a-tenth").collapse_epoch
    tops = {n: load_trace(n).history["val_top1"][-1] for n in ("a-tenth", "no-transformer")}
    assert tops["a-tenth"] > tops["no-transformer"]
    from stn_utils.study.traces import TRACES

    stored = json.loads((TRACES / "steps.json").read_text())
    assert max(stored["shown"]["SGD 0.1"]["outside"]) > 0.9
    assert max(stored["shown"]["Adam 0.001"]["moved"]) < 0.5
    assert len(stored["seeds"]) == 20


def test_samples_of_runs_have_the_intervals_that_scipy_has():
    values = [60.0, 62.0, 71.0, 55.0, 66.0, 64.0]
    figure = samples.sampled(values, count=4, samples=20)
    bars = figure.axes[0].containers
    assert len(bars) == 20
    page = samples.resample_html(values)
    quantiles = json.loads(re.search(r"T = (\[.*?\]), wide", page)[1])
    assert quantiles == pytest.approx([stats.t.ppf(0.975, n) for n in range(1, 20)], abs=1e-3)
    assert json.loads(re.search(r"values = (\[.*?\]), T", page)[1]) == values


def test_a_film_has_a_picture_a_step_and_shows_the_windows_that_are_on_them():
    found = {"first": 7, "theta": [[[1.0, 0, 0, 0, 1, 0]] * 3, [[1.0, 0, 9, 0, 1, 0]] * 3],
             "g": [1.0, 2.0], "h2": [0.1, 90.0], "moved": [0.02, 5.0]}  # fmt: skip
    here, gone = steps.film(found, torch.zeros(3, 1, 40, 40))
    assert here.size == gone.size
    left = 0.55 * here.width  # the pictures; the bars are on the right
    orange = [
        (abs(np.asarray(frame).astype(int) - (232, 89, 12)).sum(axis=2) < 60)[:, : int(left)].sum()
        for frame in (here, gone)
    ]
    assert orange[0] > 100 and orange[1] == 0


def test_an_unknown_trace_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="unknown trace 'one-rat'. Did you mean 'one-rate'"):
        load_trace("one-rat")
