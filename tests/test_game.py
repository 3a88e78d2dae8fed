"""Chapter 07's game: its rewards by hand, and the widget that plays it."""

import math
import re

import ipywidgets
import pytest
import torch
from tiny_run import images_tested, looking
from tiny_widgets import widgets_of

from stn_utils import player, show
from stn_utils.actions import ACTIONS
from stn_utils.exercises.game import Episode, policy_widget
from stn_utils.warp import affine, identity, warp

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
        view = warp(net.input_norm(x), theta, (28, 28), "background", net.transformer.background)
        return torch.nn.functional.cross_entropy(net.classifier(view), torch.tensor([y])).item()


def through(names):
    """The theta of those moves, one after the other."""
    total = torch.eye(3)
    for name in names:
        total = total @ torch.cat([ACTIONS["all"][name][1][0], torch.tensor([[0, 0, 1.0]])])
    return total[None, :2]


def test_a_reward_is_the_decrease_of_the_loss_move_by_move(played):
    net, x, y = played
    game = Episode(net, x, y)
    numbers = [NAMES.index(name) for name in ("left", "in", "left", "up", "turn 10", "stay")]
    losses = [loss_by_hand(*played, identity())]
    for count, number in enumerate(numbers, 1):
        reward = game.move(number)
        losses.append(loss_by_hand(*played, through(numbers[:count])))
        assert reward == pytest.approx(losses[-2] - losses[-1], abs=1e-4)
        torch.testing.assert_close(game.theta, through(numbers[:count]))
        assert game.moves == numbers[:count]
    assert losses[-1] == losses[-2] and len(set(losses)) == len(numbers)
    assert game.look(game.theta)[2] == pytest.approx(losses[-1], abs=1e-4)


def test_a_look_is_the_answer_its_probability_and_the_loss(played):
    net, x, y = played
    theta = affine(20, 0.7, 0.1)
    answer, chance, loss = Episode(net, x, y).look(theta)
    wanted = warp(net.input_norm(x), theta, (28, 28), "background", net.transformer.background)
    chances = net.classifier(wanted).detach().double().softmax(dim=1)[0]
    assert (answer, chance) == (
        chances.argmax().item(),
        pytest.approx(chances.max().item(), abs=1e-5),
    )
    assert loss == pytest.approx(-math.log(chances[y]), abs=1e-4)


def test_the_loss_of_a_classifier_that_is_sure_and_wrong_is_large_and_finite_and_0_where_it_is_right(
    played,
):
    net, x, y = played
    with torch.no_grad():
        net.classifier[-1].weight.zero_()
        net.classifier[-1].bias.copy_(
            200.0 * torch.nn.functional.one_hot(torch.tensor((y + 1) % 10), 10)
        )
    assert Episode(net, x, y).look(identity())[2] == pytest.approx(200, rel=1e-5)
    assert Episode(net, x, (y + 1) % 10).look(identity())[2] == pytest.approx(0, abs=1e-6)


def test_the_policys_loss_is_that_after_its_own_moves_whatever_the_readers_were(played):
    game, wanted = Episode(*played), loss_by_hand(*played, through([RIGHT] * 4))
    assert game.policy_loss() == pytest.approx(wanted, abs=1e-4)
    game.move(LEFT), game.move(ZOOM)
    assert game.policy_loss() == pytest.approx(wanted, abs=1e-4)
    assert game.moves == [LEFT, ZOOM] and game.look(game.theta)[2] != pytest.approx(
        wanted, abs=1e-4
    )


def test_a_net_in_training_is_asked_without_dropout_or_draws(played):
    net, x, y = played
    game = Episode(net.train(), x, y)
    assert (
        len({game.look(identity())[2] for _ in range(3)})
        == len({game.policy_loss() for _ in range(3)})
        == 1
    )


class Board:
    """The widget's parts, and what it says."""

    def __init__(self, net, x, y):
        self.root = policy_widget(net, x, y, NAMES)
        (self.picture,), (self.text,) = (
            widgets_of(self.root, ipywidgets.Image),
            widgets_of(self.root, ipywidgets.HTML),
        )
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
    assert [
        button.description for button in board.moves
    ] == NAMES and board.again.description == "start again"
    assert board.disabled == [False] * 10
    answer, chance, loss = Episode(*played).look(identity())
    assert f"It is a {y}. The classifier says {answer} ({100 * chance:.0f} %)" in board.said
    assert board.number("loss") == pytest.approx(loss, abs=6e-4)
    assert (
        board.number("Moves left:") == 4 and "reward" not in board.said and "Done" not in board.said
    )
    assert board.picture.value == show.encode(player.explorer_still(x[0], identity()))


@pytest.mark.parametrize("number", range(9), ids=NAMES)
def test_every_button_makes_its_own_move_and_says_its_reward(played, number):
    _, x, _ = played
    board = Board(*played)
    board.moves[number].click()
    assert board.picture.value == show.encode(player.explorer_still(x[0], through([number])))
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
    assert board.number("ends at loss") == pytest.approx(
        loss_by_hand(*played, through([RIGHT] * 4)), abs=1e-3
    )


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
