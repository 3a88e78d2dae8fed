"""diagnose: five numbers that can be worked out by hand, the rule of collapse, and a check for any network."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from stn_utils.diagnose import (
    check,
    collapse_epoch,
    describe,
    epochs_off_image,
    is_off_image,
    off_image,
)
from stn_utils.run import Run
from stn_utils.spec import ImageSpec
from stn_utils.warp import affine, identity, warp

NAN, INF = float("nan"), float("inf")
SPEC = ImageSpec(1, (28, 28), (28, 28), 10, [0.0], [0.1], [0.3])


def noise(count=4, channels=1):
    return torch.rand(count, channels, 28, 28, generator=torch.Generator().manual_seed(0))


def described(theta, x=None):
    """The means of `describe`, the picture taken with zeros outside."""
    x = noise() if x is None else x
    theta = theta.expand(len(x), 2, 3)
    return {
        name: values.mean().item() for name, values in describe(theta, x, warp(x, theta)).items()
    }


# ---- the five numbers ----


def test_identity_looks_at_the_whole_image_as_it_is():
    assert described(identity()) == pytest.approx(
        dict(det=1, shift=0, outside=0, contrast=1, distance=0), abs=1e-5
    )


def test_a_window_thrown_off_the_image_sees_nothing():
    assert described(affine(shift_x=3.0, shift_y=4.0)) == pytest.approx(
        dict(det=1, shift=5, outside=1, contrast=0, distance=5)
    )


def test_half_a_window_off_the_image_is_half_outside():
    assert described(affine(shift_x=1.0))["outside"] == pytest.approx(0.5)
    assert described(affine(shift_x=1.0, shift_y=-1.0))["outside"] == pytest.approx(0.75)


def test_a_mirror_image_has_the_area_of_the_whole_and_stands_off_identity():
    mirror = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    assert described(mirror) == pytest.approx(
        dict(det=1, shift=0, outside=0, contrast=1, distance=2), abs=1e-5
    )


def test_a_window_twice_as_large_has_four_times_the_area_and_three_quarters_outside():
    numbers = described(affine(scale=2.0))
    assert (numbers["det"], numbers["outside"]) == pytest.approx((4, 0.75))
    assert numbers["distance"] == pytest.approx(2**0.5)


def test_contrast_is_the_share_of_the_variance_that_is_kept_over_all_channels():
    x, theta = noise(3, channels=2), affine(scale=0.4, angle=30.0)
    kept = warp(x, theta.expand(3, 2, 3))
    wanted = [
        np.var(after, axis=(1, 2)).mean() / np.var(before, axis=(1, 2)).mean()
        for after, before in zip(kept.numpy(), x.numpy())
    ]
    assert describe(theta.expand(3, 2, 3), x, kept)["contrast"].tolist() == pytest.approx(
        wanted, rel=1e-4
    )


def test_every_image_is_described_by_itself_and_an_even_one_does_not_divide_by_zero():
    theta = torch.cat([identity(), affine(shift_x=9.0)])
    x = torch.stack([torch.zeros(1, 28, 28), noise(1)[0]])
    numbers = describe(theta, x, warp(x, theta))
    assert all(values.shape == (2,) and values.isfinite().all() for values in numbers.values())
    assert numbers["outside"].tolist() == [0, 1] and numbers["contrast"].tolist() == [0, 0]


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_a_theta_that_is_no_number_is_outside(bad):
    numbers = describe(torch.full((4, 2, 3), bad), noise(), torch.full((4, 1, 28, 28), NAN))
    assert numbers["outside"].tolist() == [1] * 4
    assert is_off_image(numbers["outside"].mean().item(), numbers["contrast"].mean().item())


# ---- the rule ----


@pytest.mark.parametrize(
    "outside, contrast, off",
    [
        (0, 1, False),
        (0.9, 1, False),
        (0.91, 1, True),
        (0, 0.05, False),
        (0, 0.04, True),
        (NAN, 1, True),
        (0, NAN, True),
    ],
)
def test_thrown_is_more_than_nine_tenths_outside_or_less_than_a_twentieth_of_the_contrast_or_nan(
    outside, contrast, off
):
    assert is_off_image(outside, contrast) is off


def history(outside, top1=0.1, part="val", contrast=None):
    """A hand-made history; top1: that of the last epoch."""
    epochs = range(1, len(outside) + 1)
    made = {
        "epoch": list(epochs),
        "outside": outside,
        f"{part}_top1": [0.5] * (len(outside) - 1) + [top1],
    }
    return made if contrast is None else {**made, "contrast": contrast}


ON, OFF = 0.2, 1.0
HISTORIES = {
    "never thrown": (history([ON, ON, ON]), 0, None),
    "thrown and kept off": (history([ON, OFF, OFF]), 2, 2),
    "thrown in the last epoch": (history([ON, ON, OFF]), 1, 3),
    "off from the first epoch": (history([OFF, OFF]), 2, 1),
    "came back": (history([OFF, OFF, ON]), 0, None),
    "came back and was thrown again": (history([OFF, ON, OFF, OFF]), 2, 3),
    "off, and right twice as often as chance": (history([ON, OFF], top1=0.2), 1, None),
    "off, and right a little less often": (history([ON, OFF], top1=0.19), 1, 2),
    "off by its contrast alone": (history([ON, ON], contrast=[0.8, 0.01]), 1, 2),
    "a replica, by its test accuracy": (history([ON, OFF], part="test"), 1, 2),
    "a replica that is right": (history([ON, OFF], 0.7, part="test"), 1, None),
    "a record, null for nan": (history([ON, None, None]), 2, 2),
    "a record, null for its contrast": (history([ON, ON], contrast=[0.8, None]), 1, 2),
    "no epoch yet": (history([]), 0, None),
    "a net without looks": ({"epoch": [1, 2], "val_top1": [0.1, 0.1]}, 0, None),
    "nothing at all": ({}, 0, None),
}


@pytest.mark.parametrize("made, lost, epoch", HISTORIES.values(), ids=HISTORIES)
def test_collapsed_is_off_the_image_to_the_end_and_no_better_than_twice_chance(made, lost, epoch):
    assert epochs_off_image(made) == lost
    assert collapse_epoch(made, classes=10) == epoch


def test_every_epoch_is_judged_by_itself():
    made = history([ON, OFF, ON, None], contrast=[0.01, 0.9, 0.9, None])
    assert off_image(made) == [True, True, False, True]
    assert off_image({"epoch": [1], "val_top1": [0.1]}) == []


def test_chance_depends_on_the_number_of_classes():
    made = history([ON, OFF], top1=0.3)
    assert (collapse_epoch(made, classes=10), collapse_epoch(made, classes=5)) == (None, 2)
    run = Run(None, "made up", SPEC._replace(classes=5), {}, history=made)
    assert run.collapse_epoch == 2


# ---- the runs that the rule was chosen on ----

PILOT = json.loads((Path(__file__).parent / "pilot_runs.json").read_text())
FLAGS = {(run["padding"], run["seed"]): off_image(run["history"]) for run in PILOT}


def test_of_the_16_pilot_runs_15_were_thrown_and_14_of_them_never_came_back():
    assert len(FLAGS) == 16 and {len(flags) for flags in FLAGS.values()} == {8}
    assert sum(any(flags) for flags in FLAGS.values()) == 15
    came_back = [run for run, flags in FLAGS.items() if (True, False) in zip(flags, flags[1:])]
    assert came_back == [("zeros", 1)]
    assert FLAGS["zeros", 1] == [True, True, False, True, True, True, True, True]


def test_pilot_runs_off_the_image_in_epoch_4_were_so_in_epoch_8():
    off = [flags for flags in FLAGS.values() if flags[3]]
    assert len(off) == 12 and all(flags[7] for flags in off)


def test_every_pilot_run_that_ends_off_the_image_has_collapsed():
    for run in PILOT:
        flags = FLAGS[run["padding"], run["seed"]]
        assert (collapse_epoch(run["history"], classes=10) is not None) == flags[-1]


# ---- check ----


def verdict_of(localize, capsys, x=None, **sampler):
    numbers = check(localize, noise() if x is None else x, **sampler)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*numbers, "verdict:"]
    return lines[-1].removeprefix("verdict: ").split(".")[0], numbers


@pytest.mark.parametrize(
    "theta, verdict",
    [
        (identity(), "well"),
        (affine(angle=40.0, scale=0.5), "well"),
        (affine(shift_x=3.0), "thrown"),
        (affine(scale=0.001), "thrown"),  # it sees one grey
        (affine(scale=0.2), "shrunk"),
        (affine(scale=1.2), "zoomed out"),
        (torch.full((1, 2, 3), NAN), "nan: it has diverged"),
        (torch.full((1, 2, 3), INF), "nan: it has diverged"),
    ],
)
def test_check_says_in_a_word_what_the_windows_do(theta, verdict, capsys):
    assert verdict_of(lambda x: theta.repeat(len(x), 1, 1), capsys)[0] == verdict


@pytest.mark.parametrize("entry", [(0, 0), (0, 2)], ids=["of the matrix", "of the shift"])
def test_check_does_not_call_it_well_when_a_single_theta_is_nan(entry, capsys):
    theta = identity(4)
    theta[2][entry] = NAN
    assert verdict_of(lambda x: theta, capsys)[0] == "nan: it has diverged"


def test_check_returns_the_means_of_what_describe_says(capsys):
    theta = torch.cat([affine(angle=20.0, scale=0.7), affine(shift_x=0.4), identity(2)])
    numbers = verdict_of(lambda x: theta, capsys)[1]
    assert numbers == pytest.approx(described(theta))


def test_check_samples_as_it_is_told(capsys):
    def localize(x):
        return affine(shift_x=3.0).repeat(len(x), 1, 1)

    x = torch.cat([torch.zeros(4, 1, 28, 14), torch.ones(4, 1, 28, 14)], dim=-1)
    x[:, :, :14] = 0
    assert (
        verdict_of(localize, capsys, x, padding="border")[1]["contrast"] > 1
    )  # the last column, half of it white
    assert verdict_of(localize, capsys, x, padding="background", background=0.3)[1][
        "contrast"
    ] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("value", [1.0, NAN], ids=["finite", "nan"])
def test_check_takes_a_network_in_double_precision_and_leaves_no_gradient(value, capsys):
    linear = nn.Linear(28 * 28, 6)
    nn.init.zeros_(linear.weight)
    linear.bias.data = torch.tensor([value, 0, 0, 0, 1, 0])
    net = nn.Sequential(nn.Flatten(), linear, nn.Unflatten(1, (2, 3))).double()
    assert verdict_of(net, capsys, noise().double())[0] == (
        "well" if value == 1 else "nan: it has diverged"
    )
    assert linear.weight.grad is None


# ---- what could hide a collapse ----


def lost(theta, x, **sampler):
    """Whether the means over these pictures say that the windows are off the image."""
    found = describe(theta.expand(len(x), 2, 3), x, warp(x, theta, **sampler))
    return is_off_image(*(found[name].mean().item() for name in ("outside", "contrast")))


def test_a_window_shrunk_to_a_point_is_lost_in_colour_as_in_grey():
    """Variance over all channels would take the point's hue for a picture."""
    x = noise(4, 3) * 0.3 + torch.tensor([0.7, 0.2, 0.0]).view(3, 1, 1)
    x[:, :, :4] = torch.tensor([0.9, 0.1, 0.0]).view(3, 1, 1)  # a sky of one colour
    point = affine(scale=0.02, shift_y=-0.95)
    assert lost(point, x, padding="border") and lost(point, x.mean(1, True), padding="border")


def test_a_blank_picture_hides_no_collapse():
    x, edge = noise(100), affine(scale=0.005, shift_x=0.9999)
    sampler = dict(padding="background", background=0.13)
    assert lost(edge, x, **sampler)
    x[0] = 0  # what the border adds to it is no multiple of the nothing that it had
    assert lost(edge, x, **sampler)


def test_check_refuses_what_is_no_picture_in_0_to_1():
    with pytest.raises(ValueError, match="x: expected values from 0 to 1, got 0 to 255"):
        check(lambda x: identity(len(x)), torch.linspace(0, 255, 784).view(1, 1, 28, 28))
    with pytest.raises(ValueError, match=r"x: expected images \(B, C, H, W\)"):
        check(lambda x: identity(len(x)), torch.rand(28, 28))
