"""Two rows of a study on the same seeds and the same test images: is one better?"""

from .. import metrics
from ..experiment import one_of
from .records import unpack
from .table import p_text

IMAGES = ("dataset", "world", "replica")  # what decides the test images


def paired(study, ours, theirs):
    """The difference ours - theirs in test top-1 with its 95 % t-interval over seeds, then McNemar's test seed by seed.

    Returns text. The interval decides; each McNemar test tells of one pair of networks. Raises ValueError, naming what
    differs, for rows that do not share their seeds or their test images.
    """
    rows = [one_of("row", row, list(study.rows)) for row in (ours, theirs)]
    for field in IMAGES:
        values = [getattr(study.rows[row], field) for row in rows]
        if values[0] != values[1]:
            raise ValueError(f"paired comparison: {field} is {values[0]!r} in {ours}, {values[1]!r} in {theirs}.")
    records = study.records()
    sides = [{record["seed"]: record["result"] for record in records if record["row"] == row} for row in rows]
    scores = [{seed: 100 * result["test_top1"] for seed, result in side.items()} for side in sides]
    mean, half = metrics.compare(*scores)
    width = f" ± {half:.2f}" if half is not None else ""
    lines = [f"{ours} minus {theirs}: {mean:+.2f}{width} points, {len(scores[0])} paired seeds"]
    for seed in sorted(scores[0]):
        right = [unpack(side[seed]["correct"]) for side in sides]
        only_ours, only_theirs, p = metrics.mcnemar(*right)
        lines.append(f"  seed {seed}: only {ours} right {only_ours}, only {theirs} right {only_theirs}, {p_text(p)}")
    return "\n".join(lines)
