"""Compare finished runs: a line each, paired differences, and curves.

Runs that differ in the seed alone are one recipe. Two are compared on the seeds
that both have; McNemar's p, a line a seed, tells of one pair of networks alone.

  stn compare runs/* --plot curves.png
"""

import statistics
import sys
from argparse import ArgumentParser, Namespace
from itertools import combinations
from pathlib import Path

from .. import metrics, show, study
from ..experiment import BELONGS, Experiment
from ..models import count_parameters
from ..names import one_of
from ..run import Run


def add_arguments(parser: ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that stn train has written")
    plot = "png, svg or pdf: top-1 over epochs; of several seeds the mean"
    parser.add_argument("--plot", metavar="FILE", help=plot)


def _load(folders):
    """The finished runs, {folder: Run}, each Experiment once. What is left out is said."""
    runs, names = {}, {}
    for folder in folders:
        if Path(folder).exists() and not Run.file(folder).exists():  # runs/* has others
            continue
        try:
            run = Run.load(folder)
            run.model()  # weights of an older course do not fit
            if run.test is None:
                raise RuntimeError("it is not finished.")
            its = run.title, run.experiment
            if (first := names.setdefault(its, folder)) != folder:
                raise RuntimeError(f"it repeats {first}.")
            runs[str(Path(folder))] = run
        except RuntimeError as reason:
            print(f"left out {folder}: {reason}", file=sys.stderr)
    if not runs:
        where = ", ".join(folders)
        raise ValueError(f"no finished run in {where}. Name the folders of runs, say runs/*.")
    return runs


def _groups(runs):
    """Runs that differ in their seed alone, together: {name of the first: {seed: Run}}."""
    groups, first_of = {}, {}
    for name, run in runs.items():
        recipe = run.title, run.experiment.replace(seed=0)
        groups.setdefault(first_of.setdefault(recipe, name), {})[run.experiment.seed] = run
    return groups


def _print_runs(runs):
    """A line a run: what it came to, what it cost, and what differs."""
    fields = {name: run.experiment.model_dump() for name, run in runs.items()}
    values = {f: {str(own[f]) for own in fields.values()} for f in Experiment.model_fields}
    differ = [field for field, different in values.items() if len(different) > 1]
    width = max(map(len, runs)) + 2
    heading = "test top-1, %, Wilson's interval" + "  what differs" * bool(differ)
    print(f"{'run':<{width}}{'parameters':>10}  {'epochs':>6}  {'s/epoch':>7}  {heading}")
    for name, run in runs.items():
        top1, count = run.test["top1"], len(run.test["predictions"])
        low, high = metrics.wilson(round(top1 * count), count)
        seconds = statistics.median(run.history.get("seconds", [0.0]))
        model = run.experiment.model
        its_own = [f"{f} {fields[name][f]}" for f in differ if model in BELONGS.get(f, [model])]
        end = ", ".join(its_own)
        end += f"   COLLAPSED in epoch {run.collapse_epoch}" if run.collapse_epoch else ""
        cost = f"{count_parameters(run.model()):>10,}  {run.epochs:>6}  {seconds:>7.1f}"
        score = f"{100 * top1:6.2f}  ({100 * low:5.2f} to {100 * high:6.2f})"
        print(f"{name:<{width}}{cost}  {score}         {end}".rstrip())


def main(arguments: Namespace) -> int:
    """Print the comparison."""
    if arguments.plot:
        kind, folder = Path(arguments.plot).suffix[1:].lower(), Path(arguments.plot).parent
        one_of("kind of picture", kind, ("png", "svg", "pdf"))
        if not folder.is_dir():
            raise ValueError(f"--plot: no folder {folder}.")
    runs = _load(arguments.runs)
    _print_runs(runs)
    groups, apart = _groups(runs), []
    for (ours, mine), (theirs, other) in combinations(groups.items(), 2):
        try:
            print(_difference(ours, mine, theirs, other))
        except ValueError as reason:
            apart.append(f"{ours}, {theirs}: not comparable. {reason}")
    if len(apart) == 1:
        print(apart[0])
    elif apart:
        print(f"{len(apart)} pairs are not comparable: name two of the runs to see why.")
    if arguments.plot:
        histories = {
            f"{name} (seeds: {len(own)})": [run.history for run in own.values()]
            for name, own in groups.items()
        }
        show.save(arguments.plot, show.mean_curves(histories))
        print(f"{arguments.plot}: top-1 over epochs")
    return 0


def _difference(ours, mine, theirs, other):
    """What two recipes differ by on the seeds that both have.

    Raises ValueError if they cannot be compared.
    """
    one, two = (next(iter(members.values())) for members in (mine, other))
    if one.title != two.title:
        raise ValueError(f"Their pictures are those of {one.title} and of {two.title}.")
    shared = mine.keys() & other.keys()
    if not shared:
        raise ValueError("They share no seed.")
    scores = [
        {seed: (side[seed].test["top1"], side[seed].right()) for seed in shared}
        for side in (mine, other)
    ]
    return study.difference((ours, theirs), (one.experiment, two.experiment), scores)
