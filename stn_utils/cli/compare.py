"""Compare finished runs: a line each, paired differences between those that differ in more than the seed, and their curves.

stn compare runs/* --plot curves.png
"""

import statistics
from itertools import combinations
from pathlib import Path

from .. import metrics, show, study
from ..models import count_parameters
from ..run import Run


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that stn train has written")
    parser.add_argument("--plot", metavar="FILE", help="draw top-1 over epochs into this file; of several seeds the mean")


def _groups(runs):
    """Runs that differ in their seed alone, together: {name of the first: {seed: Run}}."""
    groups, first_of = {}, {}
    for name, found in runs.items():
        recipe = found.experiment.but(seed=0).model_dump_json()
        members = groups.setdefault(first_of.setdefault(recipe, name), {})
        if found.experiment.seed in members:
            raise ValueError(f"{name} repeats seed {found.experiment.seed} of {first_of[recipe]}: name each run once.")
        members[found.experiment.seed] = found
    return groups


def run(arguments):
    """Print the comparison."""
    folders = [folder for folder in arguments.runs if Run.lies_in(folder) or not Path(folder).exists()]  # runs/* has others
    runs = {str(Path(folder)): Run.load(folder) for folder in folders}
    unfinished = [name for name, found in runs.items() if found.test is None]
    if unfinished or not runs:
        raise ValueError(f"not finished: {', '.join(unfinished)}." if runs else f"no run in {', '.join(arguments.runs)}.")
    width = max(map(len, runs)) + 2
    print(f"{'run':<{width}}{'parameters':>10}  {'epochs':>6}  {'s/epoch':>7}  test top-1, %, with Wilson's interval")
    for name, found in runs.items():
        top1, count = found.test["top1"], len(found.test["predictions"])
        low, high = metrics.wilson(round(top1 * count), count)
        seconds = statistics.median(found.history.get("seconds", [0.0]))
        lost = f"   COLLAPSED in epoch {found.collapse_epoch}" if found.collapse_epoch else ""
        print(f"{name:<{width}}{count_parameters(found.model()):>10,}  {found.epochs:>6}  {seconds:>7.1f}  {100 * top1:6.2f}  "
              f"({100 * low:.2f} to {100 * high:.2f}){lost}")  # fmt: skip
    groups = _groups(runs)
    for (ours, mine), (theirs, other) in combinations(groups.items(), 2):
        print(_difference(ours, mine, theirs, other))
    if arguments.plot:
        records = [{"row": name, "history": found.history} for name in groups for found in groups[name].values()]
        show.save(arguments.plot, show.bands, records, dict(zip(groups, groups)))
        print(f"{arguments.plot}: top-1 over epochs")
    return 0


def _difference(ours, mine, theirs, other):
    """What two recipes differ by on the seeds that both have, or why they cannot be compared."""
    shared = mine.keys() & other.keys()
    if not shared:
        return f"{ours}, {theirs}: not comparable in pairs, they share no seed."
    experiments = [next(iter(members.values())).experiment for members in (mine, other)]
    try:
        scores = [{seed: (side[seed].test["top1"], side[seed].right()) for seed in shared} for side in (mine, other)]
        return study.difference((ours, theirs), experiments, scores)
    except ValueError as reason:
        return f"{ours}, {theirs}: not comparable. {reason}"
