"""A study of two rows and two seeds, cheap enough to run in a test."""

import json

import yaml

from stn_utils.study import append

PLAN = {
    "question": "does it run?",
    "cost": "nothing",
    "seeds": 2,
    "contrasts": [["stn", "cnn"]],
    "common": {"dataset": "glyphs", "epochs": 1, "n_train": 64},
    "rows": {"stn": {"model": "stnet"}, "cnn": {"model": "convnet"}},
}
PAIRS = [("stn", 1000), ("cnn", 1000), ("stn", 1001), ("cnn", 1001)]


def write_plan(folder, **changes):
    (folder / "tiny.yaml").write_text(yaml.safe_dump({**PLAN, **changes}, sort_keys=False))
    return folder


def made_up(row, seed, top1=0.5, **history):
    """A record of that row as if it had run; rows that PLAN has not are transformers."""
    experiment = {**PLAN["common"], **PLAN["rows"].get(row, {"model": "stnet"}), "seed": seed}
    result = {"test_top1": top1, "parameters": 21840}
    history = {"epoch": [1], **history}
    return {
        "study": "tiny",
        "row": row,
        "seed": seed,
        "experiment": experiment,
        "history": history,
        "result": result,
    }


def write_records(study, scores):
    for row, by_seed in scores.items():
        for seed, top1 in by_seed.items():
            append(study.path, made_up(row, seed, top1))


def strict(text):
    """Parse JSON as other languages do: NaN and Infinity are no JSON."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def pairs(study):
    return [(record["row"], record["seed"]) for record in study.records()]
