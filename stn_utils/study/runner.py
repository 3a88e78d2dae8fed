"""Run what a study still lacks. Several runners can share one study: no row is run twice, no line is lost."""

import multiprocessing
import shutil
import signal
import sys

import torch
from filelock import FileLock, Timeout
from tqdm import tqdm

from .. import data, train
from ..experiment import Experiment, explain
from ..run import Run
from .plan import load, plans
from .records import append, to_record


def run_missing(study, rows=None, seeds=None, device=None, jobs=1, share=(0, 1)):
    """Fit every (row, seed) without a record, and append a record for each.

    What another study in its folder has run, seed and all, is copied from there. jobs: how many runners, each a process with
    its share of the cores. share: (rank, ranks), for machines that work side by side: `cat` puts the records of those without
    a common disk together. A runner that was killed goes on after its last whole epoch.
    Raises ValueError if glyphs stand in for the data, RuntimeError if a runner failed, KeyboardInterrupt if interrupted.
    """
    wanted, device = study.missing(rows, seeds, share), train.pick_device(device)
    if wanted and not share[0]:
        tqdm.write(f"{study.question.strip()} All of it costs {study.cost}.")
    with tqdm(total=len(wanted), desc=study.name, unit="run", file=sys.stdout, disable=not sys.stdout.isatty()) as bar:
        if jobs > 1 and len(wanted) > 1:
            _run_beside(study, wanted, device, min(jobs, len(wanted)), bar)
            return
        for row, seed in wanted:
            if not _run_one(study, row, seed, device):
                raise KeyboardInterrupt
            bar.update()


def _run_one(study, row, seed, device):
    """Make one record, unless another runner is at it or has made it; False if interrupted."""
    folder = study.unfinished / f"{row}-{seed}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", blocking=False):  # the system frees it when its holder dies
            if (row, seed) not in study.missing([row], seed - study.first_seed + 1):
                return True
            experiment = study.rows[row].but(seed=seed)
            if twin := _twin(study, experiment):
                append(study.path, {**twin, "study": study.name, "row": row})
                tqdm.write(f"{study.name}  {row}  seed {seed}  is {twin['row']} of the study {twin['study']}")
                return True
            world = data.load(experiment.dataset, experiment.world, experiment.replica, device)
            if world.dataset != experiment.dataset:
                raise ValueError(f"{row} asks for {experiment.dataset}, {world.dataset} stand in for it: no record is made.")
            if _is_stale(folder, experiment):
                shutil.rmtree(folder)
            run = train.fit(experiment, device, folder, quiet=True)
            if run.test is None:
                return False
            append(study.path, to_record(study, row, run, world.test.labels))
            shutil.rmtree(folder)
    except Timeout:
        return True
    end = f"collapsed in epoch {run.collapse_epoch}" if run.collapse_epoch else f"test top-1 {100 * run.test['top1']:.2f} %"
    tqdm.write(f"{study.name}  {row}  seed {seed}  {end}")
    return True


def _twin(study, experiment):
    """Another study's record of the same Experiment, seed and all; None if there is none."""
    others = (record for name in plans(study.folder) if name != study.name for record in load(name, study.folder).records())
    return next((record for record in others if Experiment(**record["experiment"]) == experiment), None)


def _is_stale(folder, experiment):
    """Whether the unfinished Run there is of no use: the plan was changed since, or no file of it can be read."""
    try:
        run = Run.load(folder)
        return run.experiment.but(epochs=experiment.epochs) != experiment or run.epochs > experiment.epochs
    except FileNotFoundError:
        return False
    except RuntimeError:
        return True


def _work(threads, study, wanted, device):
    torch.set_num_threads(threads)
    try:
        all(_run_one(study, *pair, device) for pair in wanted)  # ends at one that was interrupted
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {explain(error)}")


def _run_beside(study, wanted, device, jobs, bar):
    """Start runners as processes of their own, and watch the records grow."""
    threads = max(1, torch.get_num_threads() // jobs)
    start = multiprocessing.get_context("spawn").Process
    runners = [start(target=_work, args=(threads, study, wanted, device), daemon=True) for _ in range(jobs)]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runners inherit it: Ctrl-C is for this process
    try:
        for runner in runners:
            runner.start()
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        while alive := [runner for runner in runners if runner.is_alive()]:
            alive[0].join(10)
            done = {(record["row"], record["seed"]) for record in study.records()}
            bar.update(len(done.intersection(wanted)) - bar.n)
    except BaseException:
        for runner in runners:
            runner.terminate()  # typed again, they go on after their last whole epoch
        raise
    finally:
        for runner in runners:
            runner.join()
    failed = [runner.exitcode for runner in runners if runner.exitcode]
    if failed:
        raise RuntimeError(f"{len(failed)} of {jobs} runners failed (exit code {failed[0]}); what they finished is kept.")
