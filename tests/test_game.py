"""Chapter 07's game: its views, losses and paths by hand, and the digit that is chosen."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import images_tested, looking

from stn_utils.actions import ACTIONS
from stn_utils.exercises import game
from stn_utils.warp import warp

MOVES = ACTIONS["all"]
NAMES = [name for name, _ in MOVES]
LEFT, RIGHT, ZOOM = map(NAMES.index, ("left", "right", "in"))


@pytest.fixture
def played():
    """A net whose policy goes right four times, an image of it (1, 1, 42, 42), and its class."""
    run, _ = looking("reinforced")
    part = images_tested(run)
    return run.model(), part.batch([7])[0], part.labels[7].item()


def through(path):
    """The theta of those moves, one after the other."""
    total = torch.eye(3)
    for number in path:
        total = total @ torch.cat([MOVES[number][1][0], torch.tensor([[0, 0, 1.0]])])
    return total[None, :2]


def view_by_hand(net, x, path):
    """What that path's window shows of x, the world's black outside."""
    return warp(
        net.input_norm(x), through(path), (28, 28), "background", net.transformer.background
    )


def number_of(known, path):
    return known["paths"]["".join(map(str, path))]


def picture_of(uri):
    image = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
    return torch.tensor(np.array(image.convert("L")))


@pytest.mark.parametrize(
    "path", [(), (LEFT,), (ZOOM, LEFT), (LEFT, RIGHT, ZOOM), (7, ZOOM, 3), (RIGHT,) * 4]
)
def test_a_view_its_chances_loss_and_corners_are_those_of_its_moves(played, path):
    net, x, y = played
    known = game.game(net, x, y, MOVES)
    number = number_of(known, path)
    with torch.no_grad():
        view = view_by_hand(net, x, path)
        logits = net.classifier(view)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor([y])).item()
    assert known["losses"][number] == pytest.approx(loss, abs=1e-3)
    wanted = 100 * logits.softmax(dim=1)[0]
    torch.testing.assert_close(
        torch.tensor(known["chances"][number]).float(), wanted, atol=0.51, rtol=0
    )
    corners = torch.tensor([[-1.0, -1, 1], [1, -1, 1], [1, 1, 1], [-1, 1, 1]]) @ through(path)[0].T
    assert known["corners"][number] == pytest.approx(corners.flatten().tolist(), abs=1e-3)


def test_every_path_of_three_moves_is_there_and_every_window_once(played):
    known = game.game(*played, MOVES)
    count = len(MOVES)
    assert len([p for p in known["paths"] if len(p) <= 3]) == 1 + count + count**2 + count**3
    assert number_of(known, (LEFT, RIGHT)) == number_of(known, ()) == number_of(known, (0, 0, 0))
    assert number_of(known, (LEFT, ZOOM)) != number_of(known, (ZOOM, LEFT))
    assert len(known["losses"]) == len(known["corners"]) == len(known["chances"])
    assert len(known["losses"]) == len({tuple(corners) for corners in known["corners"]})
    assert set(known["paths"].values()) == set(range(len(known["losses"])))


def test_the_sheet_has_the_views_in_order(played):
    net, x, y = played
    known = game.game(net, x, y, MOVES)
    width, height = known["size"]
    sheet = picture_of(known["sheet"])
    assert sheet.shape == (-(-len(known["losses"]) // game.ACROSS) * height, game.ACROSS * width)
    for path in ((), (LEFT, LEFT, ZOOM), (RIGHT, 3)):
        number = number_of(known, path)
        top, left = number // known["across"] * height, number % known["across"] * width
        tile = sheet[top : top + height, left : left + width].flatten().double()
        view = view_by_hand(net, x, path).flatten().double()
        assert torch.corrcoef(torch.stack([tile, view]))[0, 1] > 0.99, path


def test_the_policy_is_followed_to_its_end_and_the_best_three_moves_are_the_best(played):
    known = game.game(*played, MOVES)
    assert known["policy"] == str(RIGHT) * 4 and known["policy"] in known["paths"]
    ends = {p: known["losses"][v] for p, v in known["paths"].items() if len(p) == 3}
    assert ends[known["best"]] == min(ends.values())


def test_a_net_in_training_is_asked_without_dropout_or_draws(played):
    net, x, y = played
    assert game.game(net, x, y, MOVES) == game.game(net.train(), x, y, MOVES)


def test_the_chosen_digit_is_hard_for_the_policy_and_not_for_three_moves(played):
    net, *_ = played
    run, _ = looking("reinforced")
    x, y = images_tested(run).batch(slice(0, 12))
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(net(x), y, reduction="none")
    worst = losses.topk(4).indices.tolist()
    lowest = {}
    for i in worst:
        known = game.game(net, x[[i]], int(y[i]), MOVES)
        lowest[i] = min(known["losses"][v] for p, v in known["paths"].items() if len(p) <= 3)
    assert lowest[game.hardest(net, x, y, among=4)] == min(lowest.values())
    assert game.hardest(net, x, y, among=1) == worst[0]


def test_the_page_is_one_piece_and_small(played):
    page = game.game_html(*played, MOVES)
    assert len(page) < 400_000 and not re.search(r"__[A-Z]+__", page)
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "http" not in page
    assert json.loads(re.search(r"const game = (\{.*?\}), \[wide", page)[1])["names"] == NAMES
    assert page == game.game_html(*played, MOVES)


def test_pictures_in_colour_and_too_many_moves_are_refused(played):
    net, x, y = played
    with pytest.raises(ValueError, match="one channel and at most ten moves, got 3"):
        game.game_html(net, x.repeat(1, 3, 1, 1), y, MOVES)
    with pytest.raises(ValueError, match="got 1 and 11"):
        game.game_html(net, x, y, [*MOVES, *MOVES[:2]])
