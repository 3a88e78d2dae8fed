"""The CoordConv paper's toy test at its own size: assets/studies/squares.jsonl, a line per run.

    python tools/squares.py [SEED ...]

Seeds 1000 to 1002 by default: CoordConv until it is perfect on both parts, the deconvolution net
for 300 epochs, on both splits. Runs that are there already are passed over, so it may be stopped
and started, and started twice with different seeds.
"""

import json
import sys
import time
from pathlib import Path

import torch

from stn_utils.exercises import squares
from stn_utils.models import count_parameters
from stn_utils.run import provenance
from stn_utils.study import append

PATH = Path(__file__).resolve().parents[1] / "assets" / "studies" / "squares.jsonl"
SEEDS = (1000, 1001, 1002)
NETS = {
    "coordconv": (squares.coordconv_net, {"epochs": 300, "lr": 0.01, "until_perfect": True}),
    "deconv": (squares.deconv_net, {"epochs": 300, "lr": 0.005, "batch_size": 32}),
}


def one(name, how, seed):
    """Train one network on one split; its record."""
    make, settings = NETS[name]
    torch.manual_seed(seed)
    net, began = make(), time.perf_counter()
    known, held_out = squares.split(squares.centres(), how, seed=seed)
    lines = zip(*squares.learn(net, known, held_out, **settings))
    history = {
        key: [round(v, 6) for v in values]
        for key, values in zip(("epoch", "loss", "known", "held_out"), lines)
    }
    return {
        "net": name,
        "split": how,
        "seed": seed,
        "settings": settings,
        "parameters": count_parameters(net),
        "points": [len(known), len(held_out)],
        "seconds": round(time.perf_counter() - began, 1),
        "history": history,
        "provenance": provenance(torch.device("cpu"), "drawn here"),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    PATH.touch()
    for seed in [int(seed) for seed in sys.argv[1:]] or SEEDS:
        for how in squares.SPLITS:
            for name in NETS:
                lines = [
                    json.loads(line)
                    for line in PATH.read_text().splitlines(keepends=True)
                    if line.endswith("\n")
                ]
                if (name, how, seed) in {(r["net"], r["split"], r["seed"]) for r in lines}:
                    continue
                record = one(name, how, seed)
                append(PATH, record)
                last = {key: values[-1] for key, values in record["history"].items()}
                print(name, how, seed, last, flush=True)
