"""A study as text: a line per row, the contrasts, every collapsed run by its seed, and what was left out."""

import math
import textwrap

from .. import diagnose, metrics
from ..experiment import one_of
from ..train import ORACLE_IMAGES
from .records import unpack

IMAGES = ("dataset", "world", "replica")  # what decides the test images


def collapse(record):
    """The epoch in which a record's run collapsed, None if it did not."""
    return diagnose.collapse_epoch(record["history"])


def _top1(record):
    return 100 * record["result"]["test_top1"]


def _beside_oracle(record):
    """Top-1 of the row itself on the images that its oracle was asked for."""
    asked = "oracle_top1" in record["result"]
    return 100 * unpack(record["result"]["correct"])[:ORACLE_IMAGES].mean() if asked else float("nan")


def _last(record, name):
    """An entry of the history after the last epoch; nan, for which null stands, for a net without looks."""
    value = (record["history"].get(name) or [None])[-1]
    return float("nan") if value is None else value


MEASURES = {  # what a contrast compares: value of a record, how to print the difference
    "test_top1": (_top1, "{:+z.2f} ± {:.2f} points"),
    "collapsed": (lambda record: 100.0 * bool(collapse(record)), "{:+z.1f} ± {:.1f} points"),
    "det": (lambda record: _last(record, "det"), "{:+z.2f} ± {:.2f}"),
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


COLUMNS = {  # heading, alignment and width, text of a row's records; "alive" leaves the collapsed runs out
    "top1": ("test top-1, %", "<15", lambda found: _mean(found, _top1)),
    "beside_oracle": ("on oracle's images", "<20", lambda found: _mean(found, _beside_oracle)),
    "oracle": ("oracle, %", "<15", lambda found: _mean(found, lambda r: 100 * r["result"].get("oracle_top1", float("nan")))),
    "lowest": ("lowest", ">7", lambda found: f"{min(map(_top1, found)):.2f}"),
    "parameters": ("parameters", ">12", lambda found: f"{found[0]['result']['parameters']:,}"),
    "collapsed": ("collapsed", "<17", lambda found: _rate(found, collapse)),
    "ever_thrown": ("ever thrown", "<17", lambda found: _rate(found, lambda r: any(diagnose.thrown(r["history"])))),
    "alive_top1": ("alive: top-1, %", "<17", lambda found: _mean(_alive(found), _top1, 1)),
    "det": ("alive: det A", "<15", lambda found: _mean(_alive(found), MEASURES["det"][0])),
    "outside": ("alive: outside", "<16", lambda found: _mean(_alive(found), lambda r: _last(r, "outside"))),
    "zoomed_out": ("det A above 1", "<17", lambda found: _rate(found, lambda r: _last(r, "det") > 1)),
}


def table(study):
    """The study as text: 95 % t-intervals over seeds for means, Wilson's for rates; then the contrasts.

    Contrasts are paired by seed; their p values are those of the t-test, after Holm.
    """
    by_row = {row: {} for row in study.rows}
    for record in study.records():
        by_row[record["row"]][record["seed"]] = record
    width = max(map(len, by_row)) + 2
    columns = [COLUMNS[name] for name in study.columns]
    wides = [wide for _, wide, _ in columns]
    gaps = ["  " * (wide[0] + after[0] == "><") for wide, after in zip(wides, wides[1:])] + [""]  # else they would touch
    lines = [f"{'row':<{width}}seeds  " + "".join(f"{name:{wide}}{gap}" for (name, wide, _), gap in zip(columns, gaps))]
    for row, records in by_row.items():
        found = list(records.values())
        cells = [f"{show(found):{wide}}{gap}" for (_, wide, show), gap in zip(columns, gaps)] if found else ["no run yet"]
        lines.append(f"{row:<{width}}{len(found):>5}  " + "".join(cells))
    lines += _contrasts(study, by_row) + _collapses(by_row) + [f"not counted: {text}" for text in study.strangers()]
    return "\n".join(line.rstrip() for line in lines)


def _contrasts(study, by_row):
    """The plan's contrasts over the seeds that both rows have, with p values corrected for asking several."""
    value, text = MEASURES[study.measure]
    lines, p_values = [], []
    for ours, theirs in study.contrasts:
        shared = sorted(by_row[ours].keys() & by_row[theirs].keys())
        if len(shared) > 1:
            pair = [{seed: value(by_row[row][seed]) for seed in shared} for row in (ours, theirs)]
            lines.append(f"{ours} minus {theirs}: {text.format(*metrics.compare(*pair))}, {len(shared)} paired seeds")
            p_values.append(metrics.paired_p(*pair))
    return [f"{line}, {p_text(p)}" for line, p in zip(lines, metrics.holm(p_values))]


def p_text(p):
    """A p value as text."""
    return f"p {p:.4f}" if p >= 1e-4 else "p below 0.0001"


def _collapses(by_row):
    """Every collapsed run: its seed and its epoch."""
    lines = []
    for row, records in by_row.items():
        lost = [f"{seed}~({collapse(record)})" for seed, record in sorted(records.items()) if collapse(record)]
        if lost:
            text = f"collapsed, seed (epoch): {row}: {', '.join(lost)}"
            wrapped = textwrap.wrap(text, 110, subsequent_indent="  ", break_on_hyphens=False)
            lines += [line.replace("~", " ") for line in wrapped]  # a seed and its epoch stay in one line
    return lines


def paired(study, ours, theirs):
    """The difference ours - theirs between two rows of a study, as `difference` has it."""
    rows = [one_of("row", row, list(study.rows)) for row in (ours, theirs)]
    records = study.records()
    results = [{record["seed"]: record["result"] for record in records if record["row"] == row} for row in rows]
    scores = [{seed: (r["test_top1"], unpack(r["correct"])) for seed, r in side.items()} for side in results]
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
    lines = [f"{ours} minus {theirs}: {mean:+z.2f}{width} points, {len(scores[0])} paired seed{'s' * (len(scores[0]) > 1)}"]
    for seed in sorted(scores[0]):
        only_ours, only_theirs, p = metrics.mcnemar(*(side[seed][1] for side in scores))
        lines.append(f"  seed {seed}: only {ours} right {only_ours}, only {theirs} right {only_theirs}, {p_text(p)}")
    return "\n".join(lines)
