"""The records' file: one JSON line per finished run, whole or not there, written by several runners at once."""

import base64
import json
import math
import os
import statistics

import numpy as np
from filelock import FileLock

from ..models import count_parameters


def pack(flags):
    """Booleans (N,) -> base64 of packed bits."""
    return base64.b64encode(np.packbits(np.asarray(flags, dtype=bool)).tobytes()).decode()


def unpack(text, count=None):
    """The inverse of `pack`: `count` booleans; without it, as many as the bytes hold, the last up to seven False."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=count).astype(bool)


def to_record(study, row, run, labels):
    """One line of a study's records: plain numbers, nan as null; labels (N,) are those of the test set."""

    def plain(value):
        if isinstance(value, list):
            return [plain(v) for v in value]
        return (round(value, 6) if math.isfinite(value) else None) if isinstance(value, float) else value

    correct = run.test["predictions"] == labels.cpu()
    seconds = run.history.get("seconds", [])
    return {
        "study": study.name,
        "row": row,
        "seed": run.experiment.seed,
        "experiment": run.experiment.model_dump(),
        "history": {name: plain(values) for name, values in run.history.items() if name != "seconds"},
        "result": {
            "test_top1": plain(run.test["top1"]),
            "test_loss": plain(run.test["loss"]),
            "calibration_error": plain(run.test["calibration_error"]),
            **({"oracle_top1": plain(run.test["oracle_top1"])} if "oracle_top1" in run.test else {}),
            "correct": pack(correct),
            "confusion": run.test["confusion"].tolist(),
            "collapsed": run.collapse_epoch is not None,
            "collapse_epoch": run.collapse_epoch,
            "parameters": count_parameters(run.model()),
            "seconds": round(sum(seconds), 1),
            "seconds_per_epoch": round(statistics.median(seconds), 3) if seconds else None,  # a pause does not move it
        },
        "provenance": run.provenance,
    }


def append(path, record):
    """Add one line, whole: one writer at a time, a single write. A last line that a kill cut short is removed first."""
    locks = path.parent / ".unfinished"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"{path.name}.lock"), open(path, "ab+") as file:
        file.seek(0)
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):  # its writer is dead, or the lock would not be ours
            print(f"{path.name}: the last line was cut short. It is removed, its run will be made again.")
            file.truncate(whole)
        file.write((json.dumps(record) + "\n").encode())
        file.flush()
        os.fsync(file.fileno())
