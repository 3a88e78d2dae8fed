"""stn, or python -m stn_utils: Train, compare and try the course's networks outside a notebook.

  stn doctor                                        is this machine ready?
  stn train --dataset fashion-mnist --epochs 20     train a network; writes runs/NAME
  stn compare runs/* --plot curves.png              which one is better, and by how much
  stn predict runs/NAME digit.png                   a picture of your own
  stn export runs/NAME                              the network as ONNX
  stn study vanilla --show                          the table behind a chapter

The data lie in ~/.cache/stn-course, or where STN_DATA says. STN_OFFLINE=1 asks
no network; STN_FALLBACK=glyphs draws digits where the data is absent. RANK and
WORLD_SIZE, which torchrun sets, share out the runs of a study, and the batches
of a training.
"""

import argparse
import contextlib
import inspect
import os
import sys
import warnings

from .. import ranks
from .. import study as studies
from ..data import DATASETS, LICENCES, DataUnavailable, find
from ..doctor import check_machine
from ..experiment import explain
from ..names import one_of
from . import compare, export, predict, train


def data(arguments: argparse.Namespace) -> int:
    """List the data sets: where each was found, its licence; fetch what is absent.

    Fails if one cannot be had; birds, which nobody fetches for you, if they are asked for.
    """
    failed = 0
    for name in [one_of("dataset", name, DATASETS) for name in arguments.names] or DATASETS:
        try:
            print(f"OK      {name:<15} {find(name)}; {LICENCES[name]}")
        except DataUnavailable as reason:
            failed |= name != "birds" or bool(arguments.names)
            print(f"ABSENT  {name:<15} {reason}")
    return failed


def study(arguments: argparse.Namespace) -> int:
    """Run what a study still lacks, or print its table.

    Under torchrun every rank takes its share. Each run adds a line to
    assets/studies/NAME.jsonl. Stop it when you like: typed again, it goes on after
    the last whole epoch. What another study has run already is copied from there.

      stn study vanilla --show
      stn study vanilla --jobs 2 --seeds 1
    """
    chosen = studies.load(arguments.name)
    for row in arguments.rows or ():
        one_of("row", row, chosen.rows)
    if not arguments.show:
        shard, device = ranks.started(), arguments.device or ranks.own_gpu()
        wanted = arguments.rows, arguments.seeds, device, arguments.jobs
        studies.run_missing(chosen, *wanted, shard, arguments.stack)
        if shard[0]:
            return 0  # one table is enough
    print(studies.table(chosen))
    if left := len(chosen.missing()):
        runs = f"{left} run{'s' * (left > 1)} of the plan not in yet"
        print(f"{runs}; the whole plan costs {chosen.cost}.")
    return 0


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=form, **options)

    def error(self, message):
        fault = message.split(" (choose from")[0]
        raise ValueError(f"{fault}. {self.prog} --help says what it takes.")


def _parser():
    epilog = "stn COMMAND --help says what a command takes. Errors are one line, and exit with 2."
    parser = _Parser(prog="stn", description=__doc__.split(":", 1)[1].strip(), epilog=epilog)
    names = "train | compare | predict | export | study | data | doctor"
    commands = parser.add_subparsers(title="commands", required=True, metavar=names)

    def command(name, call, text):
        sub = commands.add_parser(
            name, help=text.splitlines()[0], description=inspect.cleandoc(text)
        )
        sub.set_defaults(call=call)
        return sub

    own = {"train": train, "compare": compare, "predict": predict, "export": export}
    for name, module in own.items():
        module.add_arguments(command(name, module.main, module.__doc__))
    sub = command("study", study, study.__doc__)
    sub.add_argument("name", help=f"of {', '.join(studies.plans())}")
    sub.add_argument("--rows", nargs="+", metavar="ROW", help="only these rows")
    stacked = "1, seeds of a row trained as one net, for a GPU"
    counts = ("--seeds", 1000, "the plan's"), ("--jobs", 64, "1, runs at once")
    for flag, most, text in (*counts, ("--stack", 64, stacked)):
        help, span = f"how many; default: {text}", f"1-{most}"
        sub.add_argument(flag, help=help, type=int, choices=range(1, most + 1), metavar=span)
    sub.set_defaults(jobs=1, stack=1)
    sub.add_argument("--device", help="cuda, mps or cpu; default: the fastest present")
    sub.add_argument("--show", action="store_true", help="only print the table")
    sub = command("data", data, data.__doc__)
    sub.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(DATASETS)}; default all"
    )
    doctor = "Check this machine, a line per part."
    command("doctor", lambda arguments: 0 if check_machine() else 1, doctor)
    return parser, commands.choices


def _parsed(argv):
    """The arguments; raises ValueError, naming the nearest, for what no command takes."""
    parser, commands = _parser()
    if argv and not argv[0].startswith("-"):
        one_of("command", argv[0], commands)
    arguments, unknown = parser.parse_known_args(argv)
    for word in unknown:
        command = commands.get(argv[0], parser)
        if word.startswith("-"):
            one_of("flag", word.split("=")[0], command._option_string_actions)
        command.error(f"{command.prog} takes no {word!r}")
    for name, value in vars(arguments).items():
        if "" in (value if isinstance(value, list) else [value]):
            raise ValueError(f"{name}: expected a value, got ''.")
    return arguments


@contextlib.contextmanager
def _warnings_in_a_line():
    usual = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = usual


def main(argv: list[str] | None = None) -> int:
    """Run a command line; returns its exit code."""
    try:
        with _warnings_in_a_line():
            arguments = _parsed(sys.argv[1:] if argv is None else argv)
            code = arguments.call(arguments)
        sys.stdout.flush()  # a reader that has closed is noticed here, not at the interpreter's end
        return code
    except KeyboardInterrupt:
        print("Interrupted. What was finished is kept.", file=sys.stderr)
        return 130
    except (ValueError, RuntimeError, OSError) as error:  # DataUnavailable is a RuntimeError
        if isinstance(error, BrokenPipeError):  # the reader of our output, `head` say, has closed
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        print(f"error: {explain(error)}", file=sys.stderr)
        return 2
