"""Chapter 04: top-1 from one-vs-rest accuracy, recall and precision from counts, how many seeds a
difference needs.
"""

import torch

from . import checker, expect_shape, quiz

answer = quiz(
    {
        "trap": (
            "c",
            {
                "a": "One-vs-rest counts eight of ten classes as right for every wrong answer.",
                "b": "That takes one class too few: an error is counted in two of ten classes.",
                "c": "1 - 5 (1 - 0.99): an error of one point is five of top-1.",
                "d": "That is ten times the error; two classes of ten see it, so it is five times.",
            },
        ),
        "holm": (
            "c",
            {
                "a": "That is no proof of equality: the interval allows up to 0.8 points.",
                "b": "It was one of twelve asked: such an interval comes by chance often enough.",
                "c": "It may be there; with these seeds and twelve questions it is not shown.",
                "d": "How alike the seeds are stands in the interval already.",
            },
        ),
        "lost": (
            "b",
            {
                "a": "It is narrow, and that is the danger.",
                "b": "In six of ten such studies no lost run is among the five.",
                "c": "They make a share good to a quarter of a point; that is not the doubt here.",
                "d": "Wilson's is for shares: it would serve the share of lost runs.",
            },
        ),
    }
)


@checker
def check_top1_from(top1_from):
    """top1_from(accuracy, classes) -> top-1, from the mean one-vs-rest accuracy over classes."""
    for classes, right, total in ((10, 9836, 10_000), (10, 0, 100), (3, 2, 8), (200, 840, 1000)):
        accuracy = 1 - 2 * (total - right) / total / classes
        got, wanted = top1_from(accuracy, classes), right / total
        assert abs(got - (1 - 5 * (1 - accuracy))) > 1e-9 or classes == 10, (
            "The 5 holds for ten classes: use `classes / 2`."
        )
        assert abs(got - (1 - classes * (1 - accuracy))) > 1e-9 or right == total, (
            "Each error is counted in two classes."
        )
        assert abs(got - wanted) < 1e-9, (
            f"{total - right} errors of {total}, {classes} classes: {wanted}, not {got:.4f}."
        )


@checker
def check_recall_and_precision(recall_and_precision):
    """recall_and_precision(counts) -> two tensors (classes,); a row is a true class of counts."""
    counts = torch.tensor([[5, 0, 1, 0], [2, 3, 0, 0], [0, 0, 0, 4], [0, 0, 6, 2]])
    given = counts.clone()
    recall, precision = recall_and_precision(counts)
    assert torch.equal(counts, given), "The counts have changed: a metric looks and does not touch."
    wanted = torch.tensor([5 / 6, 3 / 5, 0, 2 / 8]), torch.tensor([5 / 7, 1, 0, 2 / 6])
    for name, got, right in (("recall", recall, wanted[0]), ("precision", precision, wanted[1])):
        expect_shape(got, (4,), name)
        other = wanted[1] if name == "recall" else wanted[0]
        assert not torch.allclose(got.float(), other), (
            "Rows are true classes: recall divides by row sums."
        )
        assert torch.allclose(got.float(), right), (
            f"{name} should be {right.tolist()}, not {got.tolist()}."
        )
    empty = recall_and_precision(torch.tensor([[3, 0], [2, 0]]))[1]
    assert empty[1] == 0, "A class that is never answered: precision 0, not 1 and not nan."
    absent = recall_and_precision(torch.tensor([[3, 1], [0, 0]]))[0]
    assert absent[1] == 0, "A class that is never there: recall 0, not nan."


@checker
def check_seeds_needed(seeds_needed):
    """seeds_needed(deviation, difference) -> the fewest seeds whose 95 % t-interval is narrower
    than +- difference.
    """
    for deviation, difference, wanted in (
        (1.0, 1.0, 7),
        (0.1, 0.1, 7),
        (1.0, 0.5, 18),
        (1.0, 10.0, 2),
        (2.0, 0.5, 64),
    ):
        got = seeds_needed(deviation, difference)
        normal = next(n for n in range(2, 10**5) if 1.959964 * deviation / n**0.5 < difference)
        assert got != normal or normal == wanted, (
            "With few seeds the deviation is itself a guess: use t, n - 1 degrees."
        )
        assert got == wanted, (
            f"deviation {deviation}, difference {difference}: {wanted} seeds, not {got}."
        )
