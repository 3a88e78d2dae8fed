"""Sequential transformers through an Experiment: what is built, counted, refused, stored."""

import pytest
import torch
from tiny_looks import SPEC, new, noise, seen_by_localization

from stn_utils.experiment import Experiment, choices
from stn_utils.models import build, count_parameters
from stn_utils.models.sequential import RECURRENCES

# ---- through an Experiment ----


@pytest.mark.parametrize(
    "fields, count",
    [
        ({}, 27_360),
        ({"recurrence": "inverse"}, 27_360),
        ({"recurrence": "corrected"}, 27_876),
        ({"recurrence": "s0"}, 27_840),
        ({"recurrence": "s0-looks"}, 27_840),
        ({"recurrence": "s0-remembers"}, 27_840),
        ({"recurrence": "s0-unbounded"}, 27_876),
        ({"recurrence": "blind"}, 27_876),
        ({"steps": 7}, 27_360),
        ({"resample": True}, 27_360),
        ({"coordconv": "both"}, 27_360 + 2_784),
    ],
    ids=str,
)
def test_parameter_counts_on_clean28(fields, count):
    assert count_parameters(build(Experiment(model="sequential", **fields), SPEC)) == count


def test_the_recurrences_are_those_of_the_experiment_and_each_corrects_mistakes_of_s0():
    assert tuple(RECURRENCES) == choices("recurrence")
    assert RECURRENCES["composed"] == () and RECURRENCES["corrected"] == ("cell",)
    assert set(RECURRENCES["s0"]) == {"cell", "blind", "forgets", "bounded"}
    mended = [
        set(RECURRENCES["s0"]) - set(mistakes)
        for name, mistakes in RECURRENCES.items()
        if "-" in name
    ]
    assert mended == [{"blind"}, {"forgets"}, {"bounded"}]
    for name in ("blind", "forgets"):
        assert set(RECURRENCES[name]) == {"cell", name}


def test_one_look_is_a_plain_spatial_transformer():
    torch.manual_seed(0)
    plain = build(Experiment(), SPEC).eval()
    torch.manual_seed(0)
    sequential = build(Experiment(model="sequential", steps=1), SPEC).eval()
    x = noise(6, 1, 28, 28)
    with torch.no_grad():
        for net in (plain, sequential):
            torch.manual_seed(1)
            torch.nn.init.normal_(net.transformer.localization[-1].weight, std=0.1)
    torch.testing.assert_close(sequential(x), plain(x))
    assert not torch.allclose(plain.looks(x)[0], plain.looks(x)[0][:1])


@pytest.mark.parametrize("recurrence", choices("recurrence"))
def test_every_recurrence_builds_and_one_step_changes_its_weights(recurrence):
    torch.manual_seed(0)
    net = build(Experiment(model="sequential", recurrence=recurrence, steps=2), SPEC)
    x, y = noise(6, 1, 28, 28), torch.arange(6)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    loss = net.loss(x, y)
    loss.backward()
    optimizer.step()
    assert loss.isfinite() and all(p.isfinite().all() for p in net.parameters())
    moved = {
        name.rpartition(".")[0]
        for name, p in net.named_parameters()
        if not torch.equal(p, before[name])
    }
    ways = RECURRENCES[recurrence]
    last = "cell" if "bounded" in ways else "memory" if "cell" in ways else "localization.9"
    assert {f"transformer.{last}", "classifier.0"} <= moved
    assert net.transformer.ways == set(RECURRENCES[recurrence])


def test_a_sequential_transformer_sees_the_canvas_and_shows_the_view():
    known = SPEC._replace(size=(42, 42))
    net = build(Experiment(model="sequential", world="translated42", steps=3), known)
    seen, out = seen_by_localization(net.transformer, noise(2, 1, 42, 42))
    assert [tuple(view.shape) for view in seen] == [(2, 1, 42, 42)] * 3 and out.shape == (
        2,
        1,
        28,
        28,
    )


@pytest.mark.parametrize("resample", [False, True])
def test_resample_and_steps_reach_the_transformer(resample):
    transformer = build(
        Experiment(model="sequential", resample=resample, steps=4), SPEC
    ).transformer
    assert (transformer.resample, transformer.steps) == (resample, 4)


# ---- refused, and moved elsewhere ----


@pytest.mark.parametrize("steps", [0, -1])
def test_no_step_is_refused_by_name_by_the_layer_and_by_the_experiment(steps):
    with pytest.raises(ValueError, match=f"steps: expected at least 1, got {steps}"):
        new(steps)
    with pytest.raises(ValueError, match="steps"):
        Experiment(model="sequential", steps=steps)


@pytest.mark.parametrize(
    "wrong, near",
    [("s0-look", "s0-looks"), ("corected", "corrected"), ("S0-remembers", "s0-remembers")],
)
def test_a_misspelt_recurrence_is_refused_and_the_nearest_named(wrong, near):
    with pytest.raises(ValueError, match=f"unknown recurrence '{wrong}'. Did you mean '{near}'"):
        Experiment(model="sequential", recurrence=wrong)


def test_double_moves_weights_and_background_together_and_both_are_stored():
    background = torch.tensor([0.1, -0.4]).view(-1, 1, 1)
    layer = new(2, 2, padding="background", background=background).double()
    x = noise(2, 2, 5, 9).double()
    assert layer(x).dtype == layer.looks(x)[-1].dtype == torch.float64
    torch.testing.assert_close(layer(x), x)
    assert torch.equal(layer.state_dict()["background"], background.double())
    assert layer.background not in set(layer.parameters())
