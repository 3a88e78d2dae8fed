"""actions: every set has its identity, the closed sets take every move back, degrees are degrees."""

import math
import re

import pytest
import torch

from stn_utils.actions import ACTIONS, AS_MEANT, STAY, matrices
from stn_utils.exercises.ch07 import partner
from stn_utils.experiment import choices
from stn_utils.warp import affine, compose, identity, invert, warp

CLOSED = ["turns", "shifts-zooms", "all"]
PARTNERS = {
    "left": "right", "up": "down", "in": "out", "turn 10": "turn -10", "turn 30": "turn -30", "stay": "stay",
}  # fmt: skip
PARTNERS |= {back: forth for forth, back in PARTNERS.items()}


def square(move):
    """A move (1, 2, 3) as a matrix of float64 (3, 3)."""
    return torch.cat([move[0].double(), torch.tensor([[0.0, 0, 1]], dtype=torch.float64)])


def numbered(actions):
    """A case a move: the name of its set, and its number."""
    moves = [
        (name, number, move) for name in actions for number, (move, _) in enumerate(ACTIONS[name])
    ]
    return [pytest.param(name, number, id=f"{name}: {move}") for name, number, move in moves]


def test_the_sets_are_those_of_the_experiment_and_all_but_the_first_are_closed():
    assert tuple(ACTIONS) == choices("actions") == ("s0", *CLOSED)


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_every_set_has_exactly_one_identity_and_no_name_or_move_twice(actions):
    names, moves = [name for name, _ in actions], matrices(actions)
    assert moves.shape == (len(actions), 2, 3) and moves.dtype == torch.float32
    assert [name for name, move in zip(names, moves) if torch.equal(move, torch.eye(2, 3))] == [
        "stay"
    ]
    assert len(set(names)) == len(names)
    assert len({tuple(move.flatten().tolist()) for move in moves}) == len(actions)


@pytest.mark.parametrize("actions", ACTIONS.values(), ids=ACTIONS)
def test_matrices_are_the_moves_in_their_order(actions):
    for move, (_, wanted) in zip(matrices(actions), actions, strict=True):
        assert torch.equal(move, wanted[0])


# ---- taken back ----


@pytest.mark.parametrize("actions, number", numbered(CLOSED))
def test_every_move_of_a_closed_set_and_its_partner_are_the_identity_in_either_order(
    actions, number
):
    moves = ACTIONS[actions]
    back = partner(moves, number)
    assert moves[back][0] == PARTNERS[moves[number][0]]
    assert partner(moves, back) == number
    forth, back = square(moves[number][1]), square(moves[back][1])
    for both in (forth @ back, back @ forth):
        torch.testing.assert_close(both, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("number", range(len(AS_MEANT)), ids=[name for name, _ in AS_MEANT])
def test_no_move_of_s0_takes_another_back_and_yet_each_can_be_undone(number):
    name, move = AS_MEANT[number]
    assert partner(AS_MEANT, number) == (number if name == "stay" else None)
    undone = torch.linalg.inv(square(move)) @ square(move)
    torch.testing.assert_close(undone, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(compose(move, invert(move)), identity(), atol=1e-6, rtol=0)


def test_a_mirror_is_its_own_partner_and_the_nearest_of_two_partners_is_taken():
    mirror = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    almost = affine(shift_x=-0.1 + 4e-6)
    moves = [
        STAY,
        ("mirror", mirror),
        ("right", affine(shift_x=0.1)),
        ("almost", almost),
        ("left", affine(shift_x=-0.1)),
    ]
    assert [partner(moves, number) for number in range(5)] == [0, 1, 4, 2, 2]
    assert partner(moves[:4], 2) == 3
    assert partner(moves[:4], 2, tolerance=1e-6) is None


def soft(side=64, count=1):
    """Pictures without an edge, so that sampling twice blurs little."""
    y, x = torch.meshgrid(*[torch.linspace(-math.pi, math.pi, side)] * 2, indexing="ij")
    pictures = torch.stack(
        [torch.sin((1 + i) * x + 0.3) * torch.cos(y - 0.2 * i) for i in range(count)]
    )
    return pictures[:, None]


@pytest.mark.parametrize("actions, number", numbered(ACTIONS))
def test_a_move_and_its_inverse_leave_the_middle_of_a_picture_as_it_was_but_for_blur(
    actions, number
):
    _, move = ACTIONS[actions][number]
    x, middle = soft(), (..., slice(14, 50), slice(14, 50))
    for first, then in ((move, invert(move)), (invert(move), move)):
        once, twice = warp(x, compose(first, then)), warp(warp(x, first), then)
        torch.testing.assert_close(once, x, atol=1e-4, rtol=0)
        torch.testing.assert_close(twice[middle], once[middle], atol=0.02, rtol=0)
    if number:  # the comparison above can tell a move from none
        assert (warp(x, move) - x)[middle].abs().max() > 0.05


# ---- what a move does ----


@pytest.mark.parametrize("actions, number", numbered(ACTIONS))
def test_a_turn_turns_by_as_many_degrees_as_its_name_says_and_changes_nothing_else(actions, number):
    name, move = ACTIONS[actions][number]
    turn = re.fullmatch(r"turn (-?\d+)", name)
    (a, b, shift_x), (c, d, shift_y) = move[0].tolist()
    angle = math.degrees(math.atan2(c - b, a + d))
    if turn:
        assert angle == pytest.approx(int(turn[1]), abs=1e-4)
        assert (a, b) == pytest.approx((d, -c)) and a * d - b * c == pytest.approx(1)
        assert shift_x == shift_y == 0
    elif name != "shear .15":  # a turn by 8.5 degrees in disguise
        assert abs(angle) < 6


def test_the_angles_of_the_turns_are_10_and_30_degrees_both_ways():
    angles = [
        math.degrees(math.atan2(move[0, 1, 0], move[0, 0, 0])) for _, move in ACTIONS["turns"]
    ]
    assert sorted(angles) == pytest.approx([-30, -10, 0, 10, 30], abs=1e-4)


@pytest.mark.parametrize(
    "name, row, column",
    [
        ("left", 4.0, 3.0),
        ("right", 4.0, 5.0),
        ("up", 3.0, 4.0),
        ("down", 5.0, 4.0),
        ("stay", 4.0, 4.0),
    ],
)
def test_a_shift_moves_the_window_where_its_name_says(name, row, column):
    rows, columns = torch.meshgrid(torch.arange(9.0), torch.arange(9.0), indexing="ij")
    theta = dict(ACTIONS["all"])[name].clone()
    theta[..., 2] = theta[..., 2].sign() * 2 / 9  # a whole pixel
    assert [
        warp(x[None, None], theta)[0, 0, 4, 4].item() for x in (rows, columns)
    ] == pytest.approx([row, column], abs=1e-5)


def test_zooming_in_looks_at_less_and_out_at_more():
    moves = dict(ACTIONS["shifts-zooms"])
    sides = [
        torch.linalg.det(moves[name][0, :, :2]).sqrt().item() for name in ("in", "stay", "out")
    ]
    assert sides == pytest.approx([0.85, 1, 1 / 0.85])


def test_s0s_first_shear_keeps_its_1_so_that_it_is_not_flat():
    assert dict(AS_MEANT)["shear .2"].flatten().tolist() == pytest.approx([1, 0.2, 0, 0, 1, 0])


# ---- refused ----


def flat(scale=0.0):
    return torch.tensor([[[1.0, 2, 0], [0.5, 1 + scale, 0]]])


@pytest.mark.parametrize(
    "move",
    [flat(), torch.zeros(1, 2, 3), affine(scale=0.01), flat(5e-4)],
    ids=["flat", "zeros", "a dot", "almost flat"],
)
def test_a_move_that_cannot_be_undone_is_refused_by_its_name(move):
    with pytest.raises(
        ValueError, match="actions: 'squash' has determinant .*; a move must be possible to undo"
    ):
        matrices([STAY, ("left", affine(shift_x=-0.1)), ("squash", move)])


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("row, column", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)])
def test_a_move_with_a_number_that_is_none_is_refused_by_its_name(row, column, number):
    move = affine(shift_x=0.1)
    move[0, row, column] = number
    with pytest.raises(ValueError, match="'odd'"):
        matrices([STAY, ("odd", move)])


def test_a_small_but_whole_move_is_not_refused():
    mirror = torch.tensor([[[-0.1, 0, 0], [0, 0.1, 0]]])
    assert len(matrices([STAY, ("close up", affine(scale=0.1)), ("mirror", mirror)])) == 3


@pytest.mark.parametrize(
    "almost", [None, affine(angle=1e-3), affine(shift_x=1e-6), affine(shear=1e-6)]
)
def test_a_set_without_the_identity_is_refused_and_its_names_are_listed(almost):
    moves = [("left", affine(shift_x=-0.1)), ("right", affine(shift_x=0.1))]
    if almost is not None:
        moves.append(("almost", almost))
    with pytest.raises(
        ValueError, match="actions: none of left, right.* is the identity; one must be"
    ):
        matrices(moves)
    assert len(matrices([*moves, STAY])) == len(moves) + 1


def test_a_partner_is_looked_for_in_a_set_that_is_one():
    with pytest.raises(ValueError, match="'squash'"):
        partner([STAY, ("squash", flat())], 0)
