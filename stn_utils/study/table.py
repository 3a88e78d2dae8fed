"""A study as text: a line per row, the contrasts, every collapsed run by its seed."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import diagnose, metrics
from ..experiment import Experiment
from .records import Record, right

if TYPE_CHECKING:
    from .plan import Study

IMAGES = ("dataset", "world", "replica")  # what decides the test images
OLD_CLASSES, OLD_ORACLE_IMAGES = 10, 2000  # of the first records, which do not say them
Scores = dict[int, tuple[float, np.ndarray]]  # by seed: top1, and which test images were right


def collapse(record: Record) -> int | None:
    """The epoch in which a record's run collapsed, None if it did not."""
    if "collapse_epoch" in record["result"]:
        return record["result"]["collapse_epoch"]
    return diagnose.collapse_epoch(record["history"], OLD_CLASSES)


def _top1(record):
    return 100 * record["result"]["test_top1"]


def _kept(record):
    return math.nan if collapse(record) else _top1(record)


def _beside_oracle(record):
    """Top-1 of the row itself on the images that its oracle was asked for."""
    count = record["result"].get("oracle_images", OLD_ORACLE_IMAGES)
    asked = "oracle_top1" in record["result"]
    return 100 * right(record)[:count].mean() if asked else math.nan


def _oracle(record):
    return 100 * record["result"].get("oracle_top1", math.nan)


def _last(record, name):
    """An entry of the history after the last epoch; nan, or null, for a net without looks."""
    value = (record["history"].get(name) or [None])[-1]
    return math.nan if value is None else value


def _det(record):
    return _last(record, "det")


# What a contrast compares: value of a record, how to print the difference.
MEASURES: dict[str, tuple[Callable[[Record], float], str]] = {
    "test_top1": (_top1, "{:+z.2f} ± {:.2f} points"),
    "kept_top1": (_kept, "{:+z.2f} ± {:.2f} points"),  # a pair with a collapsed run is left out
    "collapsed": (lambda record: 100.0 * bool(collapse(record)), "{:+z.1f} ± {:.1f} points"),
    "det": (_det, "{:+z.2f} ± {:.2f}"),
}


def _mean(records, value, decimals=2):
    """Mean and t-interval of value(record)."""
    values = [value(record) for record in records]
    if not values or any(map(math.isnan, values)):  # a net without looks, or without an oracle
        return "-"
    mean, half = metrics.interval(values)
    return f"{mean:6.{decimals}f}" + (f" ± {half:.{decimals}f}" if half is not None else "")


def _rate(records, happened):
    """How many of the records, with Wilson's interval in percent."""
    if "det" not in records[0]["history"]:
        return "-"
    count = sum(map(bool, map(happened, records)))
    low, high = metrics.wilson(count, len(records))
    return f"{count}/{len(records)} ({100 * low:.0f}-{100 * high:.0f} %)"


def _alive(records):
    return [record for record in records if not collapse(record)]


def _thrown(record):
    return any(diagnose.off_image(record["history"]))


# Heading, alignment and width, text of a row's records; "alive" leaves the collapsed runs out.
COLUMNS: dict[str, tuple[str, str, Callable[[list[Record]], str]]] = {
    "top1": ("test top-1, %", "<15", lambda found: _mean(found, _top1)),
    "beside_oracle": ("on oracle's images", "<20", lambda found: _mean(found, _beside_oracle)),
    "oracle": ("oracle, %", "<15", lambda found: _mean(found, _oracle)),
    "lowest": ("lowest", ">7", lambda found: f"{min(map(_top1, found)):.2f}"),
    "parameters": ("parameters", ">12", lambda found: f"{found[0]['result']['parameters']:,}"),
    "collapsed": ("collapsed", "<17", lambda found: _rate(found, collapse)),
    "ever_thrown": ("ever thrown", "<17", lambda found: _rate(found, _thrown)),
    "alive_top1": ("alive: top-1, %", "<17", lambda found: _mean(_alive(found), _top1, 1)),
    "kept": ("kept: top-1, %", "<16", lambda found: _mean(_alive(found), _top1)),
    "det": ("alive: det A", "<15", lambda found: _mean(_alive(found), _det)),
    "outside": (
        "alive: outside",
        "<16",
        lambda found: _mean(_alive(found), lambda record: _last(record, "outside")),
    ),
    "overlap": (
        "alive: IoU",
        "<15",
        lambda found: _mean(_alive(found), lambda r: r["result"].get("overlap", math.nan)),
    ),
    "zoomed_out": ("det A above 1", "<17", lambda found: _rate(found, lambda r: _det(r) > 1)),
}


def table(study: Study) -> str:
    """The study as text: 95 % t-intervals over seeds for means, Wilson's for rates.

    The contrasts follow, paired by seed; their p values are those of the t-test, after Holm.
    """
    by_row = study.by_row()
    width = max(map(len, ["row", *by_row])) + 2
    headings, wides, texts = zip(*(COLUMNS[name] for name in study.columns))
    # A column set to the right and one set to the left would touch.
    gaps = ["  " if a[0] + b[0] == "><" else "" for a, b in zip(wides, wides[1:])] + [""]

    def line(row, seeds, cells):
        cells = [f"{cell:{wide}}{gap}" for cell, wide, gap in zip(cells, wides, gaps)]
        return f"{row:<{width}}{seeds:>5}  " + "".join(cells)

    lines = [line("row", "seeds", headings)]
    for row, records in by_row.items():
        found = list(records.values())
        cells = [text(found) for text in texts] if found else ["no run yet"]
        lines.append(line(row, len(found), cells))
    lines += _contrast_lines(study) + _collapses(by_row)
    lines += [f"not counted: {text}" for text in study.mismatched()]
    return "\n".join(line.rstrip() for line in lines)


class Contrast(NamedTuple):
    """The difference ours - theirs between two rows of a plan, over paired seeds.

    mean and half are those of its 95 % t-interval, nan where less than two pairs have the study's
    measure. left_out: pairs that have it not. p: the paired t-test's, after Holm over all contrasts
    of the plan, also those that cannot be answered yet; that of a primary one stands alone.
    """

    ours: str
    theirs: str
    pairs: int
    left_out: int
    mean: float = math.nan
    half: float = math.nan
    p: float = math.nan


def contrasts(study: Study) -> list[Contrast]:
    """What the records say to each contrast of the plan, in its order."""
    value, _ = MEASURES[study.measure]
    found, by_row = [], study.by_row()
    for names in study.contrasts:
        ours, theirs = ({s: value(r) for s, r in by_row[row].items()} for row in names)
        shared = sorted(ours.keys() & theirs.keys())
        have = [s for s in shared if not math.isnan(ours[s] + theirs[s])]
        pair = [{s: side[s] for s in have} for side in (ours, theirs)]
        effect = (*metrics.compare(*pair), metrics.paired_p(*pair)) if len(have) > 1 else ()
        found.append(Contrast(*names, len(have), len(shared) - len(have), *effect))
    alone, family = found[: study.primary], found[study.primary :]
    p_values = [c.p for c in family if not math.isnan(c.mean)]
    adjusted = iter(metrics.holm(p_values, len(family)))
    return alone + [c if math.isnan(c.mean) else c._replace(p=next(adjusted)) for c in family]


def _contrast_lines(study):
    lines = []
    for number, c in enumerate(contrasts(study)):
        if not c.pairs + c.left_out:
            continue
        start = f"{c.ours} minus {c.theirs}"
        if math.isnan(c.mean):
            lacking = f"{c.left_out} of {c.pairs + c.left_out} paired seeds have no {study.measure}"
            lines += [f"{start}: -, {lacking}"] if c.left_out else []
            continue
        both = MEASURES[study.measure][1].format(c.mean, c.half)
        left_out = f" ({c.left_out} left out)" if c.left_out else ""
        first = " (primary)" * (study.primary and number == 0)
        lines.append(f"{start}: {both}, {c.pairs} paired seeds{left_out}, {p_text(c.p)}{first}")
    return lines


def p_text(p: float) -> str:
    """A p value as text."""
    if math.isnan(p):
        return "p -"
    return f"p {p:.4f}" if p >= 1e-4 else "p below 0.0001"


def _collapses(by_row):
    """Every collapsed run: its seed and its epoch."""
    lines = []
    for row, records in by_row.items():
        lost = {seed: collapse(record) for seed, record in sorted(records.items())}
        lost = [f"{seed}~({epoch})" for seed, epoch in lost.items() if epoch]
        if lost:
            text = f"collapsed, seed (epoch): {row}: {', '.join(lost)}"
            wrapped = textwrap.wrap(text, 110, subsequent_indent="  ", break_on_hyphens=False)
            lines += [
                line.replace("~", " ") for line in wrapped
            ]  # a seed and its epoch stay in one line
    return lines


def difference(
    names: Sequence[str], experiments: Sequence[Experiment], scores: Sequence[Scores]
) -> str:
    """The first minus the second in test top-1, with its 95 % t-interval over seeds, as text.

    McNemar's test follows, seed by seed. Each argument is a pair. The interval decides; each
    McNemar test tells of one pair of networks. Raises ValueError, naming what differs, for recipes
    that do not share their seeds or their test images.
    """
    ours, theirs = names
    for field in IMAGES:
        values = [getattr(experiment, field) for experiment in experiments]
        if values[0] != values[1]:
            both = f"{field} is {values[0]!r} in {ours}, {values[1]!r} in {theirs}"
            raise ValueError(f"paired comparison: {both}.")
    top1s = [{seed: 100 * top1 for seed, (top1, _) in side.items()} for side in scores]
    mean, half = metrics.compare(*top1s)
    width = f" ± {half:.2f}" if half is not None else ""
    seeds = f"{len(scores[0])} paired seed{'s' * (len(scores[0]) > 1)}"
    lines = [f"{ours} minus {theirs}: {mean:+z.2f}{width} points, {seeds}"]
    for seed in sorted(scores[0]):
        pair = [side[seed][1] for side in scores]
        only_ours, only_theirs, p = metrics.mcnemar(*pair)
        counts = f"only {ours} right {only_ours}, only {theirs} right {only_theirs}"
        lines.append(f"  seed {seed}: {counts}, {p_text(p)}")
    return "\n".join(lines)
