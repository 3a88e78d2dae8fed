"""The CoordConv paper's toy test: assets/studies/squares.jsonl, a line per run.

    python tools/squares.py [SEED ...]            at the paper's size, 64x64
    python tools/squares.py --canvas 32 [SEED ...]  small, CoordConv alone, and never stopped early

At 64x64, seeds 1000 to 1002 by default: CoordConv until it is perfect on both parts, the
deconvolution net for 300 epochs, on both splits. At 32x32, seeds 1000 to 1009: CoordConv for 20
epochs, whatever it knows by then, and at the end its certainty at every place. Runs that are there
already are passed over, so it may be stopped and started, and started twice with different seeds.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from stn_utils.exercises import squares
from stn_utils.models import count_parameters
from stn_utils.run import provenance
from stn_utils.study import append

PATH = Path(__file__).resolve().parents[1] / "assets" / "studies" / "squares.jsonl"
SEEDS = {64: range(1000, 1003), 32: range(1000, 1010)}
NETS = {
    64: {
        "coordconv": (squares.coordconv_net, {"epochs": 300, "lr": 0.01, "until_perfect": True}),
        "deconv": (squares.deconv_net, {"epochs": 300, "lr": 0.005, "batch_size": 32}),
    },
    32: {"coordconv": (squares.coordconv_net, {"epochs": 20, "lr": 0.01, "canvas": 32})},
}


def one(name, how, seed, canvas):
    """Train one network on one split; its record."""
    make, settings = NETS[canvas][name]
    torch.manual_seed(seed)
    net, began = make(canvas), time.perf_counter()
    points = squares.centres(canvas)
    known, held_out = squares.split(points, how, canvas, seed)
    lines, certain = [], []
    for line in squares.learn(net, known, held_out, **settings):
        lines.append(line)
        certain.append(squares.answers(net, held_out, canvas)[1].mean().item())
    history = {
        key: [round(v, 6) for v in values]
        for key, values in zip(("epoch", "loss", "known", "held_out"), zip(*lines))
    }
    record = {
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
    if canvas == 32:
        history["certain"] = [round(v, 4) for v in certain]  # on the held-out places, a mean
        chances = squares.answers(net, points, canvas)[1].tolist()
        record["chances"] = [round(v, 3) for v in chances]  # in the order of squares.centres
    return record


def made():
    """What the file has: (net, split, seed, canvas)."""
    lines = [
        json.loads(line)
        for line in PATH.read_text().splitlines(keepends=True)
        if line.endswith("\n")
    ]
    return {(r["net"], r["split"], r["seed"], r["settings"].get("canvas", 64)) for r in lines}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", nargs="*", type=int)
    parser.add_argument("--canvas", type=int, choices=sorted(SEEDS), default=64)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    PATH.touch()
    for seed in asked.seeds or SEEDS[asked.canvas]:
        for how in squares.SPLITS:
            for name in NETS[asked.canvas]:
                if (name, how, seed, asked.canvas) in made():
                    continue
                record = one(name, how, seed, asked.canvas)
                append(PATH, record)
                last = {key: values[-1] for key, values in record["history"].items()}
                print(name, how, seed, last, flush=True)
