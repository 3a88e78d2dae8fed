"""The sliders and buttons: as a page without a kernel, as widgets, and the game behind them."""

import base64
import io
import math
import re

import ipywidgets
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import EPOCHS, colours, images_tested, looking

from stn_utils import player, show
from stn_utils.actions import ACTIONS
from stn_utils.warp import affine, identity, warp

# ---- the player without a kernel ----


def embedded(page):
    return [base64.b64decode(uri) for uri in re.findall(r"data:image/\w+;base64,([A-Za-z0-9+/=]+)", page)]


@pytest.fixture
def page():
    return player.player_html(colours(3), still=Image.new("RGB", (44, 22), "red"))


def test_the_page_holds_the_still_and_every_frame_in_order(page):
    pictures = [Image.open(io.BytesIO(content)).convert("RGB") for content in embedded(page)]
    assert [picture.size for picture in pictures] == [(44, 22)] + [(40, 20)] * 3
    for picture, wanted in zip(pictures[1:], colours(3)):
        assert np.abs(np.asarray(picture).astype(int) - np.asarray(wanted)).max() <= 8  # webp


def test_the_still_stands_outside_the_script_where_a_reader_without_scripts_sees_it(page):
    before_script = page.split("<script>")[0]
    assert len(embedded(before_script)) == 1


@pytest.mark.parametrize("kind", ["player", "explorer"])
def test_a_page_fetches_nothing_and_has_no_gap_in_its_template(page, kind):
    text = page if kind == "player" else player.explore_html(torch.rand(1, 8, 8))
    assert not re.search(r"https?:|//[a-z]+\.|@import|src=\"(?!data:)", text)
    assert not re.search(r"__[A-Z]+__", text)


def test_equal_players_are_equal_text_and_different_ones_have_different_ids(page):
    again = player.player_html(colours(3), still=Image.new("RGB", (44, 22), "red"))
    other = player.player_html(colours(3), still=Image.new("RGB", (44, 22), "blue"))
    assert again == page
    assert len({re.search(r'id="(stn-\w+)"', text)[1] for text in (page, other)}) == 2


def test_play_has_a_frame_an_epoch_from_0_on(run, displayed):
    player.play(run, count=2)
    (shown,) = displayed
    assert len(embedded(shown.data)) == 1 + EPOCHS + 1


# ---- the widgets ----


def widgets_of(root, kind):
    inside = [widget for child in getattr(root, "children", ()) for widget in widgets_of(child, kind)]
    return inside + [root] * isinstance(root, kind)


def test_the_sliders_value_chooses_the_picture_of_the_widget():
    root = player.player_widget(colours(3))
    (slider,), (image,) = widgets_of(root, ipywidgets.IntSlider), widgets_of(root, ipywidgets.Image)
    (button,) = widgets_of(root, ipywidgets.Play)
    assert (slider.min, slider.value, slider.max) == (0, 2, 2)
    for i in (2, 0, 1):
        slider.value = i
        assert image.value == show.encode(colours(3)[i])
        assert button.value == i
    button.value = 2
    assert slider.value == 2


def test_the_widget_of_a_run_shows_its_frames(run):
    root = player.play_widget(run, count=2)
    (image,), (slider,) = widgets_of(root, ipywidgets.Image), widgets_of(root, ipywidgets.IntSlider)
    assert (image.value, slider.value, slider.description) == (show.encode(show.frames(run, 2)[-1]), EPOCHS, "epoch")


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


def test_the_still_shows_the_image_with_its_window_and_beside_it_what_the_window_shows():
    image, theta = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0)), affine(scale=0.5, shift_x=0.25)
    side, edge = 280, 40  # ten pixels for one
    pixels = np.asarray(player._explorer_still(image, theta))
    right = pixels[edge + 5 : edge + side : 10, 2 * edge + side + 5 : 2 * (edge + side) : 10, 0]
    assert np.abs(right - (255 * warp(image[None], theta)[0, 0]).numpy()).max() <= 1
    down, across = (np.abs(pixels.astype(int) - (232, 89, 12)).sum(axis=2) < 30).nonzero()
    corners = [edge + (at + 1) / 2 * side for at in (-0.25, 0.75, -0.5, 0.5)]
    assert [across.min(), across.max(), down.min(), down.max()] == pytest.approx(corners, abs=7)  # the line, and the dot


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
