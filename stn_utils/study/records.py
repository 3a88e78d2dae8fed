"""The records' file: one JSON line per finished run, whole or not there, by several writers."""

import base64
import json
import math
import os
import statistics
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from filelock import FileLock
from pydantic import BaseModel, Field
from torch import Tensor

from ..models import count_parameters
from ..run import Run

Record = dict[str, Any]


class _Result(BaseModel):
    """What every record's result has; there may be more."""

    test_top1: Annotated[float, Field(ge=0, le=1)]
    parameters: int
    correct: str | None = None
    confusion: list[list[int]] | None = None
    images: int | None = None
    collapse_epoch: int | None = None


class _Shape(BaseModel):
    """What every record has."""

    study: str
    row: str
    seed: int
    experiment: dict[str, Any]
    history: dict[str, list[int | float | None]]
    result: _Result


def read(line: bytes) -> Record:
    """A line of a records' file. Raises ValueError, naming the field, for one that is no record."""
    record = json.loads(line)
    _Shape.model_validate(record)
    return record


def pack(flags: Any) -> str:
    """Booleans (N,) -> base64 of packed bits."""
    return base64.b64encode(np.packbits(np.asarray(flags, dtype=bool)).tobytes()).decode()


def unpack(text: str, count: int | None) -> np.ndarray:
    """The inverse of `pack`: `count` booleans. None: all bits, the last up to seven False."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)


def right(record: Record) -> np.ndarray:
    """Which of its test images a record's run got right: booleans (N,)."""
    result = record["result"]
    count = result.get("images") or sum(map(sum, result.get("confusion", [])))
    return unpack(result["correct"], count or None)  # the oldest have neither, and 10,000 images


def plain(value: Any) -> Any:
    """The same with floats of six decimals, and None for nan or infinity, which JSON has not."""
    if isinstance(value, dict):
        return {name: plain(v) for name, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def to_record(study: str, row: str, run: Run, labels: Tensor) -> Record:
    """One line of a study's records: plain numbers, nan as null; labels (N,): the test set's.

    Fields of the Experiment keep the names that they have had since the first records.
    """
    test, seconds = run.tested(), run.history.get("seconds", [])
    some = ("calibration_error", "overlap", "overlaps", "oracle_top1", "oracle_images")
    result = {
        "test_top1": test["top1"],
        "test_loss": test["loss"],
        **{name: test[name] for name in some if name in test},
        "correct": pack(test["predictions"] == labels.cpu()),
        "images": len(labels),
        "classes": run.spec.classes,
        # Of 200 classes the matrix would be longer than all the rest.
        "confusion": test["confusion"].tolist() if run.spec.classes <= 20 else None,
        "collapsed": run.collapse_epoch is not None,
        "collapse_epoch": run.collapse_epoch,
        "parameters": count_parameters(run.model()),
        "seconds": round(sum(seconds), 1),
        # The median: a pause does not move it.
        "seconds_per_epoch": round(statistics.median(seconds), 3) if seconds else None,
    }
    return {
        "study": study,
        "row": row,
        "seed": run.experiment.seed,
        "experiment": run.experiment.model_dump(by_alias=True),
        "history": {k: plain(v) for k, v in run.history.items() if k != "seconds"},
        "result": plain(result),
        "provenance": run.provenance,
    }


def append(path: Path, record: Record) -> None:
    """Add one line, whole: one writer at a time, a single write.

    A last line that a kill cut short is removed first.
    """
    locks = path.parent / ".unfinished"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{path.name}.lock"), open(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # its writer is dead, or the lock would not be ours
            cut = "the last line was cut short. It is removed, its run will be made again"
            print(f"{path.name}: {cut}.")
            file.truncate(whole)
        file.write((json.dumps(record) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
