"""Run what a study still lacks. Several runners can share one: no run twice, no line lost."""

import collections
import contextlib
import multiprocessing
import shutil
import signal
import sys
import warnings

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from .. import data, train
from ..experiment import Experiment, explain
from ..run import Run
from ..spec import Device, pick_device
from .plan import Study, load, plans
from .records import Record, append, to_record

Duplicates = dict[Experiment, Record]  # seed and all


def run_missing(
    study: Study,
    rows: list[str] | None = None,
    seeds: int | None = None,
    device: Device = None,
    jobs: int = 1,
    shard: tuple[int, int] = (0, 1),
    stack: int = 1,
) -> None:
    """Fit every (row, seed) without a record, and append a record for each.

    What another study in its folder has run, seed and all, is copied from there. jobs: how many
    runners, each a process with its share of the cores. shard: (rank, ranks), for machines that
    work side by side: `cat` puts the records of those without a common disk together. stack: how
    many seeds of a row to train at once, on a GPU, by this process alone. A runner that was killed
    goes on after its last whole epoch, one that stacks begins again. Raises ValueError if glyphs
    stand in for the data and for both stack and jobs, RuntimeError if a runner failed,
    KeyboardInterrupt if interrupted.
    """
    if stack > 1 and jobs > 1:
        raise ValueError(f"stack={stack} and jobs={jobs}: a stack is one process; ask for one.")
    wanted, device = study.missing(rows, seeds, shard), pick_device(device)
    if wanted and not shard[0]:
        tqdm.write(f"{study.question.strip()} All of it costs {study.cost}.")
    hidden = not sys.stdout.isatty()
    bar = tqdm(desc=study.name, total=len(wanted), unit="run", file=sys.stdout, disable=hidden)
    with bar:
        duplicates = _of_other_studies(study) if wanted else {}
        if jobs > 1 and len(wanted) > 1:
            _run_beside(study, wanted, device, duplicates, min(jobs, len(wanted)), bar)
            return
        for row, own in _portions(wanted, stack):
            if not _run_some(study, row, own, device, duplicates, stack > 1):
                raise KeyboardInterrupt
            bar.update(len(own))


def _of_other_studies(study) -> Duplicates:
    """The records of the other studies in its folder; one that cannot be read is said, no more."""
    found: Duplicates = {}
    for name in plans(study.folder):
        if name == study.name:
            continue
        try:
            for record in load(name, study.folder).records():
                found.setdefault(Experiment(**record["experiment"]), record)
        except (ValueError, LookupError, TypeError, OSError) as error:
            lost = f"{explain(error)} Nothing is copied from the study {name}."
            warnings.warn(lost, stacklevel=3)
    return found


def _portions(wanted, stack):
    """What is trained at once, as (row, seeds): a run, or so many seeds of a row."""
    if stack == 1:
        return [(row, [seed]) for row, seed in wanted]
    seeds = collections.defaultdict(list)
    for row, seed in wanted:
        seeds[row].append(seed)
    return [
        (row, own[i : i + stack]) for row, own in seeds.items() for i in range(0, len(own), stack)
    ]


def _run_some(study, row, seeds, device, duplicates, stacked=False):
    """Make the records of these seeds, but for those that another runner is at or has made.

    Returns False if interrupted.
    """
    study.unfinished.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as locks:  # the system frees them when their holder dies
        free = []
        for seed in seeds:
            lock = FileLock(study.unfinished / f"{row}-{seed}.lock", blocking=False)
            with contextlib.suppress(Timeout):
                locks.enter_context(lock)
                free.append(seed)
        done = study.done()
        free = [s for s in free if (row, s) not in done and not _copied(study, row, s, duplicates)]
        if not free:
            return True
        experiment = study.rows[row].replace(seed=free[0])
        world, folder = _world_of(row, experiment, device), study.unfinished / f"{row}-{free[0]}"
        if stacked:
            runs = train.fit_stacked(experiment, free, device, world)
        else:
            if _is_stale(folder, experiment):
                shutil.rmtree(folder)
            runs = [train.fit(experiment, device, folder, quiet=True, world=world)]
        for run in runs:
            if run.test is None:
                return False
            _keep(study, row, run, world)
        if not stacked:
            shutil.rmtree(folder)
    return True


def _copied(study, row, seed, duplicates):
    """Whether another study has this run, and its record is a record here, too."""
    twin = duplicates.get(study.rows[row].replace(seed=seed))
    if twin is None:
        return False
    append(study.path, {**twin, "study": study.name, "row": row})
    source = f"is {twin['row']} of the study {twin['study']}"
    tqdm.write(f"{study.name}  {row}  seed {seed}  {source}")
    return True


def _world_of(row, experiment, device):
    """The World that an Experiment names. Raises ValueError if another stands in for it."""
    world = data.load(experiment.dataset, experiment.world, experiment.replica, device)
    if world.dataset != experiment.dataset:
        instead = f"{row} asks for {experiment.dataset}, {world.dataset} stand in for it"
        raise ValueError(f"{instead}: no record is made.")
    return world


def _keep(study, row, run, world):
    """Append a finished Run's record, and say how it ended."""
    append(study.path, to_record(study.name, row, run, world.test.labels))
    end = f"test top-1 {100 * run.test['top1']:.2f} %"
    if run.collapse_epoch:
        end = f"collapsed in epoch {run.collapse_epoch}"
    tqdm.write(f"{study.name}  {row}  seed {run.experiment.seed}  {end}")


def _is_stale(folder, experiment):
    """Whether the unfinished Run there is of no use.

    The plan was changed since, or it cannot be read.
    """
    try:
        run = Run.load(folder)
        same = run.experiment.replace(epochs=experiment.epochs) == experiment
        return not same or run.epochs > experiment.epochs
    except FileNotFoundError:
        return False
    except RuntimeError:
        return True


def _work(threads, study, wanted, device, duplicates):
    torch.set_num_threads(threads)
    try:  # ends at one that was interrupted
        all(_run_some(study, row, [seed], device, duplicates) for row, seed in wanted)
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {explain(error)}")


def _run_beside(study, wanted, device, duplicates, jobs, bar):
    """Start runners as processes of their own, and watch the records grow."""
    threads = max(1, torch.get_num_threads() // jobs)
    start = multiprocessing.get_context("spawn").Process
    work = threads, study, wanted, device, duplicates
    runners = [start(target=_work, args=work, daemon=True) for _ in range(jobs)]
    # The runners inherit it: Ctrl-C is for this process.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for runner in runners:
            runner.start()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        while alive := [runner for runner in runners if runner.is_alive()]:
            alive[0].join(10)
            bar.update(len(study.done().intersection(wanted)) - bar.n)
    except BaseException:
        for runner in runners:
            runner.terminate()  # typed again, they go on after their last whole epoch
        raise
    finally:
        for runner in runners:
            runner.join()
    failed = [runner.exitcode for runner in runners if runner.exitcode]
    if failed:
        how = f"{len(failed)} of {jobs} runners failed (exit code {failed[0]})"
        raise RuntimeError(f"{how}; what they finished is kept.")
