"""Study: a plan of Experiments x seeds -> one JSON line per finished run -> one table with intervals."""

import base64
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from . import metrics
from .experiment import Experiment, one_of
from .models import count_parameters

FOLDER = Path(__file__).parents[1] / "assets" / "studies"


@dataclass
class Study:
    """A plan (NAME.yaml) and its records (NAME.jsonl), side by side in `folder`.

    rows: {row name: Experiment without its seed}. contrasts: pairs of rows whose difference is asked for.
    """

    name: str
    question: str
    cost: str
    seeds: int
    rows: dict
    contrasts: list
    folder: Path = FOLDER
    first_seed: int = 1000  # seeds below are for looking around; a study's are fresh

    @property
    def path(self):
        return self.folder / f"{self.name}.jsonl"

    def records(self):
        """All finished runs, as dicts. A last line that a kill cut short is passed over."""
        if not self.path.exists():
            return []
        lines = self.path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]

    def missing(self, rows=None, seeds=None):
        """The (row, seed) pairs that have no record yet, seed by seed."""
        rows = [one_of("row", row, list(self.rows)) for row in rows or self.rows]
        done = {(record["row"], record["seed"]) for record in self.records()}
        wanted = range(self.first_seed, self.first_seed + (seeds or self.seeds))
        return [(row, seed) for seed in wanted for row in rows if (row, seed) not in done]


def plans(folder=FOLDER):
    """Names of the studies that have a plan."""
    return sorted(path.stem for path in Path(folder).glob("*.yaml"))


def load(name, folder=FOLDER):
    """Read a study's plan. Raises ValueError for an unknown study, or a row that is no valid Experiment."""
    one_of("study", name, plans(folder))
    plan = yaml.safe_load((Path(folder) / f"{name}.yaml").read_text())
    common = plan.pop("common", {})
    for row in {row for pair in plan["contrasts"] for row in pair}:
        one_of("row in a contrast", row, list(plan["rows"]))
    plan["rows"] = {row: Experiment(**{**common, **fields}) for row, fields in plan["rows"].items()}
    return Study(name=name, folder=Path(folder), **plan)


def pack(flags):
    """Booleans (N,) -> base64 of packed bits."""
    return base64.b64encode(np.packbits(np.asarray(flags, dtype=bool)).tobytes()).decode()


def unpack(text, count):
    """The inverse of `pack`: `count` booleans."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)


def to_record(study, row, run, labels):
    """One line of a study's records: plain numbers, nan as null; labels (N,) are those of the test set."""

    def plain(value):
        if isinstance(value, list):
            return [plain(v) for v in value]
        return (round(value, 6) if math.isfinite(value) else None) if isinstance(value, float) else value

    correct = run.test["predictions"] == labels.cpu()
    return {
        "study": study.name,
        "row": row,
        "seed": run.experiment.seed,
        "experiment": run.experiment.model_dump(),
        "history": {name: plain(values) for name, values in run.history.items() if name != "seconds"},
        "result": {
            "test_top1": plain(run.test["top1"]),
            "test_loss": plain(run.test["loss"]),
            "correct": pack(correct),
            "parameters": count_parameters(run.model()),
            "seconds": round(sum(run.history["seconds"]), 1),
        },
        "provenance": run.provenance,
    }


def append(path, record):
    """Add one line, whole: a single write to a file opened for appending.

    Raises ValueError, and writes nothing, if the last line is cut short.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab+") as file:
        cut = file.seek(0, os.SEEK_END) > 0 and file.seek(-1, os.SEEK_END) >= 0 and file.read(1) != b"\n"
        if cut:
            raise ValueError(f"{path}: the last line is cut short; remove it, its run will be made again.")
        file.write((json.dumps(record) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())


def run_missing(study, rows=None, seeds=None, device=None):
    """Fit every (row, seed) without a record, one after the other, and append a record for each."""
    from .data import load as load_world
    from .train import fit

    for row, seed in study.missing(rows, seeds):
        if (row, seed) not in study.missing(seeds=seeds):
            continue  # another process finished it meanwhile
        experiment = study.rows[row].but(seed=seed)
        world = load_world(experiment.dataset, experiment.world, experiment.replica)
        if world.dataset != experiment.dataset:
            raise ValueError(f"{row} asks for {experiment.dataset}, {world.dataset} stand in for it: no record is made.")
        run = fit(experiment, device, quiet=True)
        if run.test is None:
            break  # interrupted
        append(study.path, to_record(study, row, run, world.test.labels))
        print(f"{study.name}  {row}  seed {seed}  test top-1 {100 * run.test['top1']:.2f} %", flush=True)


def _percent(values):
    mean, half = metrics.interval([100 * value for value in values])
    return f"{mean:6.2f}" + (f" ± {half:.2f}" if half is not None else "       ")


def table(study):
    """The study as text: test top-1 in percent with 95 % t-intervals over seeds, then the contrasts.

    Contrasts are paired by seed; their p values are those of the t-test, after Holm.
    """
    by_row = {row: {} for row in study.rows}
    for record in study.records():
        by_row[record["row"]][record["seed"]] = record["result"]
    width = max(map(len, by_row)) + 2
    lines = [f"{'row':<{width}}{'seeds':>5}  {'test top-1, %':<15}{'lowest':>7}{'parameters':>12}"]
    for row, results in by_row.items():
        scores = [result["test_top1"] for result in results.values()]
        if not scores:
            lines.append(f"{row:<{width}}    0  no run yet")
            continue
        parameters = next(iter(results.values()))["parameters"]
        lines.append(f"{row:<{width}}{len(scores):>5}  {_percent(scores):<15}{100 * min(scores):>7.2f}{parameters:>12,}")
    return "\n".join(lines + _contrast_lines(study, by_row))


def _contrast_lines(study, by_row):
    """The plan's contrasts over the seeds that both rows have, with p values corrected for asking several."""
    from scipy import stats

    lines, p_values = [], []
    for ours, theirs in study.contrasts:
        shared = sorted(by_row[ours].keys() & by_row[theirs].keys())
        if len(shared) > 1:
            pair = [{seed: 100 * by_row[row][seed]["test_top1"] for seed in shared} for row in (ours, theirs)]
            mean, half = metrics.compare(*pair)
            lines.append(f"{ours} minus {theirs}: {mean:+.2f} ± {half:.2f} points, {len(shared)} paired seeds")
            p_values.append(float(stats.ttest_1samp(metrics.differences(*pair), 0).pvalue))
    return [f"{line}, p {p:.4f}" for line, p in zip(lines, metrics.holm(p_values))]
