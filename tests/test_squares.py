"""Squares: which centres there are and who sees them, two networks of the paper's sizes, and the small task solved."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from stn_utils.exercises import squares
from stn_utils.exercises.squares import (
    SPLITS,
    SQUARE,
    answers,
    centres,
    coordconv_net,
    deconv_net,
    examples,
    learn,
    split,
)
from stn_utils.layers import CoordConv2d, coordinates
from stn_utils.models import count_parameters
from stn_utils.show.sheets import GAP, TOP


def accuracy(net, points, canvas):
    """Share of right answers."""
    right, _ = answers(net, points, canvas)
    return sum(right.tolist()) / len(points)


def places(points):
    """The same as a set of pairs (x, y)."""
    return set(map(tuple, points.tolist()))


# ---- centres, splits, inputs and targets ----


@pytest.mark.parametrize("canvas, count", [(64, 3_136), (32, 576), (16, 64), (9, 1)])
def test_centres_are_those_of_every_square_that_lies_whole_on_the_canvas(canvas, count):
    points = centres(canvas)
    whole = {
        (left + SQUARE // 2, top + SQUARE // 2)
        for left, top in itertools.product(range(canvas), repeat=2)
        if left + SQUARE <= canvas and top + SQUARE <= canvas
    }
    assert points.shape == (count, 2) and places(points) == whole


@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("canvas", [16, 32, 64])
def test_a_split_puts_every_centre_on_one_side_and_none_on_both(canvas, how):
    points = centres(canvas)
    known, held_out = split(points, how, canvas)
    assert len(known) + len(held_out) == len(points)
    assert places(known) | places(held_out) == places(points)
    assert not places(known) & places(held_out)


def test_uniform_holds_out_a_fifth_that_its_seed_alone_decides():
    points = centres()
    known, held_out = split(points, "uniform")
    assert len(held_out) == 3_136 // 5
    torch.manual_seed(5)
    again = split(points, "uniform", seed=0)
    assert torch.equal(again[0], known) and torch.equal(again[1], held_out)
    others = places(split(points, "uniform", seed=1)[1])
    assert len(others) == len(held_out) and others != places(held_out)


def test_uniform_holds_out_centres_from_all_over_the_canvas():
    _, held_out = split(centres(), "uniform")
    for right, low in itertools.product((False, True), repeat=2):
        quarter = ((held_out[:, 0] > 31.5) == right) & ((held_out[:, 1] > 31.5) == low)
        assert 0.15 * len(held_out) < quarter.sum() < 0.35 * len(held_out)


def test_a_split_draws_nothing_from_the_random_numbers_of_training():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    split(centres(16), "uniform", 16, seed=8)
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize("canvas, count", [(64, 27**2), (32, 11**2), (16, 3**2)])
def test_quadrant_holds_out_exactly_what_is_right_of_and_below_the_middle(canvas, count):
    points = centres(canvas)
    _, held_out = split(points, "quadrant", canvas)
    assert len(held_out) == count
    assert places(held_out) == {
        (x, y) for x, y in places(points) if x > canvas / 2 and y > canvas / 2
    }
    assert torch.equal(split(points, "quadrant", canvas, seed=7)[1], held_out)


def test_an_unknown_split_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="unknown split 'quadrants'. Did you mean 'quadrant'"):
        split(centres(16), "quadrants", 16)


@pytest.mark.parametrize("canvas", [16, 64])
def test_what_a_network_gets_is_what_a_coordconv_sees_at_that_pixel(canvas):
    points = centres(canvas)
    x, y = points.T
    at_the_pixel = coordinates(canvas, canvas)[:, y, x].T  # rows are y
    torch.testing.assert_close(examples(points, canvas)[0], at_the_pixel, atol=1e-6, rtol=0)


def test_corners_of_the_canvas_are_1_from_its_middle():
    corners = torch.tensor([[0, 0], [63, 0], [0, 63], [63, 63]])
    assert examples(corners)[0].tolist() == [[-1, -1], [1, -1], [-1, 1], [1, 1]]


@pytest.mark.parametrize("canvas", [16, 64])
def test_targets_number_the_pixels_row_by_row(canvas):
    everywhere = torch.tensor([(x, y) for y in range(canvas) for x in range(canvas)])
    assert examples(everywhere, canvas)[1].tolist() == list(range(canvas**2))
    picture = torch.zeros(canvas, canvas)
    picture[4, 7] = 1  # row 4, column 7
    assert picture.flatten().argmax() == examples(torch.tensor([[7, 4]]), canvas)[1]


# ---- the networks ----


@pytest.mark.parametrize("canvas", [9, 16, 32, 64])
def test_the_coordconv_network_has_7553_parameters_at_any_size(canvas):
    assert count_parameters(coordconv_net(canvas)) == 7_553


@pytest.mark.parametrize("canvas", [9, 16, 32, 64])
def test_the_coordconv_network_gives_a_logit_a_pixel(canvas):
    assert coordconv_net(canvas)(torch.rand(3, 2)).shape == (3, canvas**2)


def test_the_deconvolution_network_has_the_papers_size():
    assert count_parameters(deconv_net(64)) == 183_553


@pytest.mark.parametrize("canvas", [16, 32, 64])
def test_a_deconvolution_network_doubles_up_to_the_canvas(canvas):
    net = deconv_net(canvas)
    sides = []
    for layer in net:
        if isinstance(layer, nn.ConvTranspose2d):
            layer.register_forward_hook(lambda module, given, out: sides.append(out.shape[-2:]))
    assert net(torch.rand(3, 2)).shape == (3, canvas**2)
    assert sides == [(side, side) for side in (2, 4, 8, 16, 32, 64) if side <= canvas]


@pytest.mark.parametrize("make", [coordconv_net, deconv_net])
def test_every_layer_of_a_network_gets_a_gradient(make):
    torch.manual_seed(0)
    net = make(16)
    F.cross_entropy(net(torch.rand(16, 2) * 2 - 1), torch.arange(16)).backward()
    weights = [
        p for p in net.parameters() if p.ndim > 1
    ]  # a bias before batch normalization has none
    assert len(weights) == sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in net.modules())
    assert all(p.grad.norm() > 1e-6 for p in weights)


def test_the_coordconv_network_is_a_small_net_of_each_pixels_place_and_the_point():
    """Pixel by pixel, as its convolutions are 1 wide: (point's x, y, pixel's x, y) -> one number."""
    torch.manual_seed(0)
    net = coordconv_net(16)
    convs = [m for m in net if isinstance(m, nn.Conv2d)]
    assert [type(m) for m in convs] == [CoordConv2d] + [nn.Conv2d] * 4
    points = torch.tensor([[0.2, -0.7], [-1.0, 1.0]])
    logits = net(points).view(2, 16, 16)
    for row, column in ((0, 0), (3, 11), (15, 15)):
        place = torch.tensor([[2 * column / 15 - 1, 2 * row / 15 - 1]]).expand(2, 2)
        x = torch.cat([points, place], dim=1)
        for i, conv in enumerate(convs):
            x = F.linear(x, conv.weight.flatten(1), conv.bias)
            x = x if i == 4 else F.relu(x)
        torch.testing.assert_close(logits[:, row, column], x[:, 0], atol=1e-5, rtol=1e-4)


# ---- answers and training ----


class Fixed(nn.Module):
    """A network that names the pixel of the point, but for those with x below `wrong_below` the one after it."""

    def __init__(self, canvas, wrong_below=0):
        super().__init__()
        self.canvas, self.wrong_below, self.sizes = canvas, wrong_below, []
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        assert not self.training
        self.sizes.append(len(x))
        column, row = ((x + 1) / 2 * (self.canvas - 1)).round().long().T
        answer = row * self.canvas + column + (column < self.wrong_below)
        return F.one_hot(answer, self.canvas**2).float()


@pytest.mark.parametrize("wrong_columns", range(0, 9, 2))
def test_an_answer_is_right_where_the_centres_own_pixel_is_named(wrong_columns):
    net, points = (
        Fixed(16, wrong_below=4 + wrong_columns),
        centres(16),
    )  # eight columns of centres, from column 4 on
    right, _ = answers(net, points, 16)
    assert right.dtype == torch.bool and right.tolist() == [
        x >= 4 + wrong_columns for x, _ in points.tolist()
    ]
    assert accuracy(net, points, 16) == 1 - wrong_columns / 8


def test_answers_come_in_the_order_of_the_points_with_the_probability_of_the_right_pixel():
    net, points = Fixed(16, wrong_below=6), torch.tensor([[9, 5], [4, 4], [11, 11], [5, 10]])
    right, chance = answers(net, points, 16)
    assert right.tolist() == [True, False, True, False]
    rest = math.e + 255  # one logit of 1, 255 of 0
    assert chance.tolist() == pytest.approx([math.e / rest, 1 / rest, math.e / rest, 1 / rest])


def test_every_centre_is_asked_for_once_in_parts():
    net = Fixed(32)
    right, chance = answers(net, centres(32), 32)
    assert right.shape == chance.shape == (576,) and right.all()
    assert sum(net.sizes) == 576 and max(net.sizes) <= 256
    assert not chance.requires_grad


class Table(nn.Module):
    """A network that knows nothing of its input: a logit a pixel, to be learnt."""

    def __init__(self, canvas):
        super().__init__()
        torch.manual_seed(0)
        self.logits = nn.Parameter(torch.randn(canvas**2))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


POINTS = torch.tensor([[4, 4], [9, 5], [11, 11]])


def test_learning_yields_every_epoch_with_its_loss_and_the_two_accuracies():
    net = Table(16)
    logits = net.logits.detach().clone()
    expected = F.cross_entropy(
        logits.expand(3, -1), torch.tensor([4 * 16 + 4, 5 * 16 + 9, 11 * 16 + 11])
    )
    found = list(learn(net, POINTS, POINTS[:1], epochs=3, lr=0.0, canvas=16, batch_size=2))
    assert [epoch for epoch, *_ in found] == [1, 2, 3]
    assert torch.equal(net.logits, logits)  # a rate of 0
    assert [loss for _, loss, *_ in found] == pytest.approx(
        [expected.item()] * 3
    )  # a mean over centres, not over batches
    assert {(known, held) for *_, known, held in found} == {
        (accuracy(net, POINTS, 16), accuracy(net, POINTS[:1], 16))
    }


def test_learning_is_of_the_known_centres_alone_and_scores_are_not_mixed_up():
    net = Table(16)
    *_, (epoch, loss, known, held_out) = learn(
        net, POINTS[:1], POINTS[1:], epochs=40, lr=0.5, canvas=16
    )
    assert (epoch, known, held_out) == (40, 1, 0) and loss < 0.01
    assert net.logits.argmax() == 4 * 16 + 4


def test_learning_ends_when_both_accuracies_are_1_if_it_was_asked_to():
    def epochs(held_out, **options):
        return len(
            list(learn(Table(16), POINTS[:1], held_out, epochs=30, lr=0.5, canvas=16, **options))
        )

    assert epochs(POINTS[:1]) == 30
    assert 1 < epochs(POINTS[:1], until_perfect=True) < 30
    assert (
        epochs(POINTS[1:], until_perfect=True) == 30
    )  # the known ones are, the others never will be


def test_every_batch_trains_in_training_mode_and_every_score_is_read_in_evaluation_mode():
    modes = []
    net = Table(16)
    net.register_forward_hook(
        lambda module, given, out: modes.append((module.training, len(given[0])))
    )
    list(learn(net, POINTS, POINTS[:1], epochs=2, lr=0.1, canvas=16, batch_size=2))
    assert modes == [(True, 2), (True, 1), (False, 3), (False, 1)] * 2


def test_the_rate_falls_to_a_tenth_every_200_epochs(monkeypatch):
    made = []

    class Adam(torch.optim.Adam):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    rates = []  # of the epoch just done: the schedule steps before it is told
    for epoch, *_ in learn(Table(9), torch.tensor([[4, 4]]), torch.tensor([[4, 4]]), 402, 0.01, 9):
        rates.append((epoch, made[0].param_groups[0]["lr"]))
    assert len(made) == 1 and len(rates) == 402
    for epoch, rate in rates:
        assert rate == pytest.approx(
            0.01 * 0.1 ** (epoch // 200)
        )  # after epoch 200, that of epoch 201


@pytest.mark.parametrize("how", SPLITS)
def test_a_coordconv_network_solves_a_canvas_of_16_and_names_the_centres_it_never_saw(how):
    torch.manual_seed(0)
    known, held_out = split(centres(16), how, 16)
    net = coordconv_net(16)
    before = accuracy(net, held_out, 16)
    *_, (epoch, loss, on_known, on_held_out) = learn(
        net, known, held_out, 60, 0.01, 16, until_perfect=True
    )
    assert before < 0.5 and (on_known, on_held_out) == (1, 1)
    assert epoch < 60 and loss < 5.5  # a guess among 256 pixels costs 5.5


def test_the_same_seed_learns_the_same():
    known, held_out = split(centres(16), "uniform", 16)

    def scores():
        torch.manual_seed(4)
        return list(learn(deconv_net(16), known, held_out, 2, 0.01, 16))

    assert scores() == scores()


def test_places_are_squares_where_they_lie_grey_or_orange_and_as_strong_as_their_values():
    points, values, held_out = (
        torch.tensor([[0, 0], [3, 2], [1, 3]]),
        torch.tensor([1.0, 0.5, 0.0]),
        [False, True, True],
    )
    picture = squares.place_map(
        {"one": (points, values, held_out), "again": (points, values, held_out)}, 4, "where?"
    )
    pixels = np.asarray(picture).astype(int)
    for left in (GAP, 3 * GAP + 32):  # two panels of 4 x 8 pixels
        for (x, y), colour in zip(
            points.tolist(), [(31, 41, 51), (244, 172, 134), (255, 255, 255)]
        ):
            at = 2 * TOP - 5 + 8 * y + 4, left + 8 * x + 4
            assert np.abs(pixels[at] - colour).max() <= 1
