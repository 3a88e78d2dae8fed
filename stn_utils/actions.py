"""The moves of a reinforced transformer: a name, and the matrix by which it moves the window."""

import torch
from torch import Tensor

from .warp import affine

Move = tuple[str, Tensor]  # a name, and the theta (1, 2, 3) that moves the window


STAY = ("stay", affine())
TURN = 10.0  # degrees
STEP, ZOOM = 0.15, 0.85  # half images; side of the zoomed window

# DarioTilves/Spatial_transformer_experiments' nine, as they were meant: degrees are degrees, and
# the first shear keeps its 1.
AS_MEANT: list[Move] = [
    STAY,
    ("shift (.1, .1)", affine(shift_x=0.1, shift_y=0.1)),
    ("shift (-.15, -.05)", affine(shift_x=-0.15, shift_y=-0.05)),
    ("stretch (1.15, .95)", torch.tensor([[[1.15, 0, 0], [0, 0.95, 0]]])),
    ("stretch (.8, 1.1)", torch.tensor([[[0.8, 0, 0], [0, 1.1, 0]]])),
    ("turn 6", affine(6.0)),
    ("turn -8", affine(-8.0)),
    ("shear .2", torch.tensor([[[1, 0.2, 0], [0, 1, 0]]])),
    ("shear .15", torch.tensor([[[1, -0.15, 0], [0.15, 1, 0]]])),
]
SHIFTS = [
    ("left", affine(shift_x=-STEP)),
    ("right", affine(shift_x=STEP)),
    ("up", affine(shift_y=-STEP)),
    ("down", affine(shift_y=STEP)),
]
ZOOMS = [("in", affine(scale=ZOOM)), ("out", affine(scale=1 / ZOOM))]
TURNS = [(f"turn {angle:g}", affine(angle)) for angle in (TURN, -TURN, 3 * TURN, -3 * TURN)]

# Every set but the first is closed: each move has one that takes it back.
ACTIONS: dict[str, list[Move]] = {
    "s0": AS_MEANT,
    "turns": [STAY, *TURNS],
    "shifts-zooms": [STAY, *SHIFTS, *ZOOMS],
    "all": [STAY, *SHIFTS, *ZOOMS, *TURNS[:2]],
}


def matrices(actions: list[Move]) -> Tensor:
    """The moves [(name, (1, 2, 3)), ...] as one tensor (K, 2, 3).

    Raises ValueError, naming the move, if one cannot be undone, and if none is the identity.
    """
    moves = torch.cat([move for _, move in actions])
    for name, move in actions:
        determinant = torch.linalg.det(move[0, :, :2]).item()
        if not move.isfinite().all() or abs(determinant) < 1e-3:
            raise ValueError(
                f"actions: {name!r} has determinant {determinant:.3g}; "
                "a move must be possible to undo."
            )
    if not (moves == affine()).all(dim=(1, 2)).any():
        names = ", ".join(name for name, _ in actions)
        raise ValueError(f"actions: none of {names} is the identity; one must be.")
    return moves
