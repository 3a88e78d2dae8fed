"""Chapter 05: what two projects published, beside our records, as long texts to fold away."""

from .. import metrics

DARIOTILVES = {"none": 98.36, "both": 97.82, "localization": 98.30, "classifier": 96.59}
EPOCHS = (5, 10, 25, 50)
VICSESI = {
    "top-1, %": {
        "conv": {5: 97.70, 10: 98.00, 25: 98.90, 50: 99.21},
        "CoordConv": {5: 96.97, 10: 98.34, 50: 99.08},
        "slope 1, CoordConv": {50: 99.13},
    },
    "test loss": {
        "conv": {50: 0.0296},
        "CoordConv": {50: 0.0312},
        "slope 1, CoordConv": {50: 0.0293},
    },
}


def after_five(plan):
    """DarioTilves' four values beside five runs of each, and single runs' falls by a point."""
    clean = [r for r in plan.records() if r["row"].startswith("clean")]
    lines = ["clean digits, 5 epochs   DarioTilves, one run   ours, top-1 %   lowest   highest"]
    for half, theirs in DARIOTILVES.items():
        ours = [100 * r["result"]["test_top1"] for r in clean if r["row"] == f"clean-{half}"]
        mean, width = metrics.interval(ours)
        start = f"{half:<24} {theirs:>20.2f}   {mean:.2f} ± {width:.2f}"
        lines.append(f"{start}    {min(ours):.2f}     {max(ours):.2f}")
    falls = [
        f"{r['row']}, seed {r['seed']}: {100 * a:.2f} -> {100 * b:.2f}"
        for r in clean
        for a, b in zip(r["history"]["test_top1"], r["history"]["test_top1"][1:])
        if b < a - 0.01
    ]
    heading = f"{len(falls)} falls by more than a point in one epoch, in {len(clean)} runs:"
    return "\n".join([*lines, "", heading, *falls])


def _after(plan, row, name, epoch):
    """By seed, an entry of the history after an epoch."""
    return {r["seed"]: r["history"][name][epoch - 1] for r in plan.records() if r["row"] == row}


def _line(name, cells, wide=37):
    return (f"{name:<{wide}}" + "".join(f"{cell:<18}" for cell in cells)).rstrip()


def _levels(plan, title, name, factor, digits):
    lines = [_line(title, [f"epoch {epoch}" for epoch in EPOCHS])]
    for row in plan.rows:
        found = [[factor * v for v in _after(plan, row, name, epoch).values()] for epoch in EPOCHS]
        cells = [
            "{:.{d}f} ± {:.{d}f}".format(*metrics.interval(values), d=digits) for values in found
        ]
        lines.append(_line(f"{row:<18} {len(found[0])} seeds", cells))
    for row, values in VICSESI[title].items():
        cells = [f"{values[e]:.{digits}f}" if e in values else "" for e in EPOCHS]
        lines.append(_line(f"vicsesi, 1 run, {row}", cells))
    return lines


def _differences(plan):
    lines = [_line("minus conv, points, paired", [f"epoch {epoch}" for epoch in EPOCHS])]
    for row in list(plan.rows)[1:]:
        pairs = [
            [_after(plan, one, "test_top1", epoch) for one in (row, "conv")] for epoch in EPOCHS
        ]
        means = ["{:+.2f} ± {:.2f}".format(*(100 * v for v in metrics.compare(*p))) for p in pairs]
        singles = [[100 * (ours[s] - plain[s]) for s in ours] for ours, plain in pairs]
        lines.append(_line(row, means))
        ranges = [f"{min(points):+.2f} to {max(points):+.2f}" for points in singles]
        lines.append(_line("  the five pairs, from, to", ranges))
    published = VICSESI["top-1, %"]
    for row, theirs in list(published.items())[1:]:
        cells = [f"{theirs[e] - published['conv'][e]:+.2f}" if e in theirs else "" for e in EPOCHS]
        lines.append(_line(f"vicsesi, {row}", cells))
    return lines


def _falls(plan):
    steps = {}
    for r in plan.records():
        top1 = r["history"]["test_top1"][9:]
        steps[r["row"], r["seed"]] = [100 * (b - a) for a, b in zip(top1, top1[1:])]
    lines = ["deepest change of top-1 from one epoch to the next, after epoch 10, in points"]
    seeds = range(plan.first_seed, plan.first_seed + plan.seeds)
    lines.append(f"{'seed':<18}" + "".join(f"{seed:>8}" for seed in seeds))
    for row in plan.rows:
        deepest = [f"{min(steps[run]):>8.2f}" for run in sorted(steps) if run[0] == row]
        lines.append(f"{row:<18}" + "".join(deepest))
    falls = [run for run, changes in steps.items() for change in changes if change < -1]
    ends = sum(changes[-1] < -1 for changes in steps.values())
    lines.append(
        f"falls of more than a point: {len(falls)} in {sum(map(len, steps.values()))} steps, "
        f"in {len(set(falls))} of {len(steps)} runs; in a run's last step: {ends}"
    )
    return lines


def by_epochs(plan):
    """The study of 5, 10, 25 and 50 epochs beside vicsesi's runs, and how single runs fall."""
    levels = [
        _levels(plan, "top-1, %", "test_top1", 100, 2),
        _levels(plan, "test loss", "test_loss", 1, 4),
    ]
    return "\n\n".join("\n".join(part) for part in [*levels, _differences(plan), _falls(plan)])
