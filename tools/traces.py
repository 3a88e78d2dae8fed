"""Make the stored traces that chapters draw, so that every reader sees the same run.

    python tools/traces.py [NAME ...]

A trace shows what can happen, not how often: that is what the studies are for.
"""

import base64
import json
import sys
from pathlib import Path

import torch
from pictures import COLLAPSE

from stn_utils import Experiment, Run, fit, load, study
from stn_utils.exercises import steps
from stn_utils.study.traces import TRACES as FOLDER

# Chapter 02's recipe with one learning rate for all, and with a tenth for the localization net.
ONE_RATE = COLLAPSE.replace(n_train=10_000, epochs=6, seed=1)
TRACES = {
    "one-rate": ONE_RATE,
    "a-tenth": ONE_RATE.replace(loc_lr_ratio=0.1),
    "background": ONE_RATE.replace(padding="background"),
    "no-transformer": ONE_RATE.replace(model="convnet"),
    # Chapter 09: vvshankar78's network. Ten pictures, to see how alike their windows are.
    "photographs": Experiment(
        dataset="cifar10", world="rts32", channels="s2", n_train=20_000, epochs=8
    ),
    # Chapter 10: a run of the study `birds`.
    "birds": study.load("birds").rows["window"].replace(seed=6000),
    # Chapter 08: a run of the study `addition`, trained on to epoch 40.
    "addition": study.load("addition").rows["cnn-two"].replace(seed=8000, epochs=40),
}
PICTURES = {"photographs": 10, "addition": 6}

# Chapter 03: what moves theta, step by step, in three recipes and one seed; and 20 seeds of one.
SEEDS, STEPS = range(20), 450
RECIPES = {
    "SGD 0.1": {},
    "SGD 0.1, ratio 0.1": dict(loc_lr_ratio=0.1),
    "Adam 0.001": dict(optimizer="adam", lr=0.001),
}


def save_trace(run: Run, name: str, count: int = 5, folder: Path = FOLDER) -> Path:
    """Write what `count` probe images saw in every epoch, and the history; returns the file."""
    path = Path(folder) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    parameters, images = run.probe["parameters"], run.probe["images"]
    shown = torch.arange(0, len(images), max(1, len(images) // count))[:count]
    content = {
        "experiment": run.experiment.model_dump(by_alias=True),
        "title": run.title,
        "spec": run.spec._asdict(),
        "names": run.names,
        "history": {k: [round(v, 5) for v in values] for k, values in run.history.items()},
        "labels": run.probe["labels"][shown].tolist(),
        "images": base64.b64encode(images[shown].numpy().tobytes()).decode(),
        "parameters": [] if parameters is None else parameters[:, shown].tolist(),
        "test_top1": run.tested()["top1"],
    }
    path.write_text(json.dumps(content))
    return path


def filmed(rows, windows, watched):
    """The steps round the throw: pictures, the windows on them, and what drives these."""
    thrown = next(i for i, share in enumerate(rows["outside"]) if share > 0.9)
    part = slice(thrown - 23, thrown + 5)
    numbers = {name: [float(f"{v:.4g}") for v in rows[name][part]] for name in ("g", "h2", "moved")}
    theta = [[[round(v, 4) for v in one] for one in step] for step in windows[part]]
    images = (255 * watched[: steps.FILMED]).round().int().tolist()
    return {"first": part.start + 1, "theta": theta, "images": images, **numbers}


def draw_steps():
    """assets/traces/steps.json: the two acts of the throw in 20 seeds; of the first that is thrown,
    the rows of all recipes, and the throw as a film.
    """
    world = load("mnist", "cluttered40")
    watched, _ = world.val.batch(slice(0, 200))
    found = []
    for seed in SEEDS:
        rows = steps.trace(ONE_RATE.replace(seed=seed), world, watched, STEPS)
        acts = {k: v if k == "thrown" else float(f"{v:.3g}") for k, v in steps.acts(rows).items()}
        found.append({"seed": seed, **acts})
        print(found[-1], flush=True)
    first = next(one["seed"] for one in found if one["thrown"])
    shown = {}
    for name, changes in RECIPES.items():
        rows = steps.trace(ONE_RATE.replace(seed=first, **changes), world, watched, STEPS)
        windows = rows.pop("theta")
        shown[name] = {key: [float(f"{v:.4g}") for v in values] for key, values in rows.items()}
        if name == "SGD 0.1":
            film = filmed(rows, windows, watched)
    path = FOLDER / "steps.json"
    path.write_text(json.dumps({"shown": shown, "seeds": found, "film": film}))
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the same bits on machines with more or fewer cores
    for name in sys.argv[1:] or [*TRACES, "steps"]:
        if name == "steps":
            draw_steps()
            continue
        path = save_trace(fit(TRACES[name], "cpu"), name, PICTURES.get(name, 5))
        print(path.name, path.stat().st_size, "bytes")
