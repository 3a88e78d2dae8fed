"""Compare finished runs: a line each, paired differences, and curves.

Runs that differ in the seed alone are one recipe. Two are compared on the seeds
that both have; McNemar's p, a line a seed, tells of one pair of networks alone.

  stn compare runs/* --plot curves.png
"""

import statistics
import sys
from itertools import combinations
from pathlib import Path

from .. import metrics, show, study
from ..experiment import BELONGS, Experiment, one_of
from ..models import count_parameters
from ..run import Run


def add_arguments(parser):
    """What the command takes."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders that stn train has written")
    parser.add_argument("--plot", metavar="FILE", help="png, svg or pdf: top-1 over epochs; of several seeds the mean")


def _load(folders):
    """The finished runs, {folder: Run}, each Experiment once. What is left out is said on stderr."""
    runs, names = {}, {}
    for folder in folders:
        if Path(folder).exists() and not Run.lies_in(folder):  # runs/* has others
            continue
        try:
            found = Run.load(folder)
            found.model()  # weights of an older course do not fit
            if found.test is None:
                raise RuntimeError("it is not finished.")
            if (first := names.setdefault(found.experiment.model_dump_json(), folder)) != folder:
                raise RuntimeError(f"it repeats {first}.")
            runs[str(Path(folder))] = found
        except RuntimeError as reason:
            print(f"left out {folder}: {reason}", file=sys.stderr)
    if not runs:
        raise ValueError(f"no finished run in {', '.join(folders)}. Name the folders of runs, say runs/*.")
    return runs


def _groups(runs):
    """Runs that differ in their seed alone, together: {name of the first: {seed: Run}}."""
    groups, first_of = {}, {}
    for name, found in runs.items():
        recipe = found.experiment.but(seed=0).model_dump_json()
        groups.setdefault(first_of.setdefault(recipe, name), {})[found.experiment.seed] = found
    return groups


def run(arguments):
    """Print the comparison."""
    if arguments.plot:
        one_of("kind of picture", Path(arguments.plot).suffix[1:].lower(), ("png", "svg", "pdf"))
        if not Path(arguments.plot).parent.is_dir():
            raise ValueError(f"--plot: no folder {Path(arguments.plot).parent}.")
    runs = _load(arguments.runs)
    fields = {name: found.experiment.model_dump() for name, found in runs.items()}
    differ = [field for field in Experiment.model_fields if len({str(own[field]) for own in fields.values()}) > 1]
    width = max(map(len, runs)) + 2
    heading = "test top-1, %, Wilson's interval" + "  what differs" * bool(differ)
    print(f"{'run':<{width}}{'parameters':>10}  {'epochs':>6}  {'s/epoch':>7}  {heading}")
    for name, found in runs.items():
        top1, count = found.test["top1"], len(found.test["predictions"])
        low, high = metrics.wilson(round(top1 * count), count)
        seconds = statistics.median(found.history.get("seconds", [0.0]))
        model = found.experiment.model
        own = ", ".join(f"{field} {fields[name][field]}" for field in differ if model in BELONGS.get(field, [model]))
        lost = f"   COLLAPSED in epoch {found.collapse_epoch}" if found.collapse_epoch else ""
        print(f"{name:<{width}}{count_parameters(found.model()):>10,}  {found.epochs:>6}  {seconds:>7.1f}  {100 * top1:6.2f}  "
              f"({100 * low:5.2f} to {100 * high:6.2f})         {own}{lost}".rstrip())  # fmt: skip
    groups, apart = _groups(runs), []
    for (ours, mine), (theirs, other) in combinations(groups.items(), 2):
        try:
            print(_difference(ours, mine, theirs, other))
        except ValueError as reason:
            apart.append(f"{ours}, {theirs}: not comparable. {reason}")
    if apart:
        print(apart[0] if len(apart) == 1 else f"{len(apart)} pairs are not comparable: name two of the runs to see why.")
    if arguments.plot:
        records = [{"row": name, "history": found.history} for name in groups for found in groups[name].values()]
        show.save(arguments.plot, show.bands, records, dict(zip(groups, groups)))
        print(f"{arguments.plot}: top-1 over epochs")
    return 0


def _difference(ours, mine, theirs, other):
    """What two recipes differ by on the seeds that both have. Raises ValueError if they cannot be compared."""
    shared = mine.keys() & other.keys()
    if not shared:
        raise ValueError("They share no seed.")
    experiments = [next(iter(members.values())).experiment for members in (mine, other)]
    scores = [{seed: (side[seed].test["top1"], side[seed].right()) for seed in shared} for side in (mine, other)]
    return study.difference((ours, theirs), experiments, scores)
