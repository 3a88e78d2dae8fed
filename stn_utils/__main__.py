"""python -m stn_utils data | study | doctor"""

import argparse
import os
import sys
import warnings

from . import study as studies
from .data import DATASETS, DataUnavailable, sources
from .doctor import check_machine
from .experiment import explain, one_of


def data(arguments):
    """List the data sets: where each was found, its licence; fetch what is absent."""
    failed = 0
    for name in [one_of("dataset", name, DATASETS) for name in arguments.names] or DATASETS:
        try:
            source = "drawn on demand" if name == "glyphs" else sources.find(name)[1]
            print(f"OK      {name:<14} {source}; {sources.LICENCE[name]}")
        except DataUnavailable as reason:
            failed = 1
            print(f"ABSENT  {name:<14} {reason}")
    return failed


def study(arguments):
    """Run what a study still lacks, or print its table."""
    chosen = studies.load(arguments.name)
    if not arguments.show:
        studies.run_missing(chosen, arguments.rows, arguments.seeds, arguments.device, arguments.jobs)
    print(studies.table(chosen))
    return 0


def doctor(arguments):
    """Check this machine, a line per part."""
    return 0 if check_machine() else 1


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m stn_utils", description="The course's tools outside a notebook.")
    commands = parser.add_subparsers(required=True, metavar="data | study | doctor")

    sub = commands.add_parser("data", help=data.__doc__, description=data.__doc__)
    sub.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(DATASETS)}; default all")
    sub.set_defaults(call=data)

    sub = commands.add_parser("study", help=study.__doc__, description=study.__doc__)
    sub.add_argument("name", help=f"of {', '.join(studies.plans())}")
    sub.add_argument("--seeds", type=int, choices=range(1, 1001), metavar="N", help="how many seeds; default: the plan's")
    sub.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows")
    sub.add_argument("--jobs", type=int, default=1, choices=range(1, 65), metavar="N", help="runs at once; default 1")
    sub.add_argument("--device", help="cuda, mps or cpu; default: the fastest present")
    sub.add_argument("--show", action="store_true", help="only print the table")
    sub.set_defaults(call=study)

    sub = commands.add_parser("doctor", help=doctor.__doc__, description=doctor.__doc__)
    sub.set_defaults(call=doctor)

    arguments = parser.parse_args(argv)
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        return arguments.call(arguments)
    except (ValueError, RuntimeError, DataUnavailable) as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, `head` say, has closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
