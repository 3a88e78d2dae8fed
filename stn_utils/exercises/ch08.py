"""Chapter 08: a point through a projective map, a thin plate from its formula, folds, questions,
and the paper's own table.
"""

import torch

from ..families import FAMILIES, LATTICE, homography, thin_plate
from ..warp import affine, corners, make_grid
from . import checker, expect_shape, quiz

# Jaderberg et al. 2015, table 1: error in percent on digits that are turned (R), turned, scaled and
# moved (RTS), seen aslant (P), bent (E).
PAPER = {
    "dense net": (2.1, 5.2, 3.1, 3.2),
    "dense net, affine": (1.2, 0.8, 1.5, 2.7),
    "dense net, projective": (1.3, 0.9, 1.4, 2.6),
    "dense net, spline": (1.1, 0.8, 1.4, 2.4),
    "CNN": (1.2, 0.8, 1.5, 1.4),
    "CNN, affine": (0.7, 0.5, 0.8, 1.2),
    "CNN, projective": (0.8, 0.6, 0.8, 1.3),
    "CNN, spline": (0.7, 0.5, 0.8, 1.1),
}


def published():
    """The paper's table as a text, in top-1."""
    heading = f"{'top-1, %, the paper':<24}" + "".join(f"{w:>7}" for w in ("R", "RTS", "P", "E"))
    lines = [
        f"{name:<24}" + "".join(f"{100 - error:>7.1f}" for error in errors)
        for name, errors in PAPER.items()
    ]
    return "\n".join([heading, *lines])


def _draw(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=random, dtype=torch.float64)


@checker
def check_through(through):
    """through(parameters, x, y) -> (u, v): where a projective window reads at the place (x, y) of
    what it shows; parameters are the eight numbers, row by row, the ninth is 1.
    """
    square = corners(affine()).double()
    windows = homography(square + 0.5 * (_draw(20, 4, 2) - 0.5))
    for parameters, (x, y) in zip(windows, (2 * _draw(20, 2, seed=1) - 1).tolist()):
        place = torch.tensor([[x, y]], dtype=torch.float64)
        wanted = FAMILIES["projective"].points(parameters[None], place)[0, 0]
        u, v = through(parameters.tolist(), x, y)
        got = torch.tensor([float(u), float(v)], dtype=torch.float64)
        a, b, c, d, e, f, g, h = parameters.tolist()
        undivided = torch.tensor([a * x + b * y + c, d * x + e * y + f], dtype=torch.float64)
        assert not torch.allclose(got, undivided), "Divide both by w, the third line's answer."
        assert not torch.allclose(got, wanted.flip(0)), "u and v are swapped: u comes first."
        assert torch.allclose(got, wanted), (
            f"At ({x:.2f}, {y:.2f}) it should be ({wanted[0]:.3f}, {wanted[1]:.3f}), "
            f"yours says ({got[0]:.3f}, {got[1]:.3f})."
        )


@checker
def check_plate(plate):
    """plate(centres, reads, place) -> (2,): where a thin plate through control points centres
    (n, 2), which read at reads (n, 2), reads at a place (2,) between them. All float64.
    """
    for seed, centres in enumerate((LATTICE.double(), 2 * _draw(6, 2, seed=5) - 1)):
        reads = centres + 0.6 * (_draw(len(centres), 2, seed=seed) - 0.5)
        family = thin_plate(centres)
        for place in 2 * _draw(5, 2, seed=9) - 1:
            got = plate(centres, reads, place)
            expect_shape(got, (2,), "plate(centres, reads, place)")
            wanted = family.points(reads.flatten()[None], place[None])[0, 0]
            assert torch.allclose(got.double(), wanted, atol=1e-6), (
                f"At {place.tolist()} it should read at {wanted.tolist()}, "
                f"yours says {got.tolist()}. Check a control point first: there it must give its "
                "entry in reads."
            )
        at = torch.stack([plate(centres, reads, centre) for centre in centres])
        assert torch.allclose(at.double(), reads, atol=1e-6), "A control point reads elsewhere."


@checker
def check_folds(folds):
    """folds(grid) -> (B,) bool: whether a grid (B, h, w, 2) runs backwards anywhere: whether one of
    its cells lies the other way round.
    """
    plain = make_grid(affine(angle=torch.tensor([0.0, 30, 200]), scale=0.8), (7, 9))
    bent = LATTICE.repeat(2, 1, 1)
    bent[0, 5] += torch.tensor([0.3, 0.1])  # bent, not folded
    bent[1, 5] += torch.tensor([1.4, 0.0])  # past its neighbour
    look = FAMILIES["tps"].look(bent.flatten(1), (28, 28), (28, 28))
    cases = {"turned": (plain, False), "bent": (look[:1], False), "folded": (look[1:], True)}
    cases["mirrored"] = make_grid(affine(), (7, 9)).flip(2), True
    for name, (grid, wanted) in cases.items():
        got = folds(grid)
        expect_shape(got, (len(grid),), "folds(grid)")
        assert (got.bool() == wanted).all(), (
            f"A grid that is {name}: it should say {wanted}, yours says {got.tolist()}."
        )


answer = quiz({
    "division": ("b", {
        "a": "More numbers alone change nothing: without the division parallels stay parallel.",
        "b": "What is far away looks smaller: lines that run away from you meet. So divide.",
        "c": "Inside or outside is the sampler's business.",
        "d": "It makes it less linear: affine maps are the linear ones, and they do not divide.",
    }),
    "horizon": ("c", {
        "a": "The picture's edge is at 1; towards the horizon places run past every edge.",
        "b": "Only the part behind the horizon is mirrored; at the horizon itself w is 0.",
        "c": "w is 0 there: the place is infinitely far away, and beyond it all is mirrored.",
        "d": "It stops none. That places at and behind it get no gradient is the course's rule.",
    }),
    "freedom": ("d", {
        "a": "All families begin at the identity.",
        "b": "The sampler reads the same number of places.",
        "c": "A spline can be affine: let its control points read so.",
        "d": "It can do all that the smaller one can, and more. Training has to find it.",
    }),
})  # fmt: skip
