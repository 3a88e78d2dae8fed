"""Two recipes on the same seeds and the same test images: is one better?"""

from .. import metrics
from ..experiment import one_of
from .records import unpack
from .table import p_text

IMAGES = ("dataset", "world", "replica")  # what decides the test images


def paired(study, ours, theirs):
    """The difference ours - theirs between two rows of a study, as `difference` has it."""
    rows = [one_of("row", row, list(study.rows)) for row in (ours, theirs)]
    records = study.records()
    scores = []
    for row in rows:
        results = {record["seed"]: record["result"] for record in records if record["row"] == row}
        scores.append({seed: (result["test_top1"], unpack(result["correct"])) for seed, result in results.items()})
    return difference(rows, [study.rows[row] for row in rows], scores)


def difference(names, experiments, scores):
    """The first minus the second in test top-1, with its 95 % t-interval over seeds, then McNemar's test seed by seed.

    Each argument is a pair; scores: {seed: (top1, which test images were right (N,))}. Returns text. The interval decides;
    each McNemar test tells of one pair of networks. Raises ValueError, naming what differs, for recipes that do not share
    their seeds or their test images.
    """
    ours, theirs = names
    for field in IMAGES:
        values = [getattr(experiment, field) for experiment in experiments]
        if values[0] != values[1]:
            raise ValueError(f"paired comparison: {field} is {values[0]!r} in {ours}, {values[1]!r} in {theirs}.")
    mean, half = metrics.compare(*({seed: 100 * top1 for seed, (top1, _) in side.items()} for side in scores))
    width = f" ± {half:.2f}" if half is not None else ""
    lines = [f"{ours} minus {theirs}: {mean:+.2f}{width} points, {len(scores[0])} paired seeds"]
    for seed in sorted(scores[0]):
        only_ours, only_theirs, p = metrics.mcnemar(*(side[seed][1] for side in scores))
        lines.append(f"  seed {seed}: only {ours} right {only_ours}, only {theirs} right {only_theirs}, {p_text(p)}")
    return "\n".join(lines)
