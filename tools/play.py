"""Make assets/play.html: trained networks that run in the page, no kernel, no network.

    python tools/play.py [FOLDER]

FOLDER (default runs/play) keeps the Runs; those that are there are not trained again. The page is
written only if what its JavaScript computes is what torch computes with the same weights.
"""

import base64
import json
import shutil
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pictures import COLLAPSE
from torch import Tensor, nn

from stn_utils import Experiment, Run, fit, load
from stn_utils.data.worlds import distort, distortion
from stn_utils.models import Net, build
from stn_utils.spec import ImageSpec, write_whole

ROOT = Path(__file__).resolve().parents[1]
TEMPLATE, PAGE = ROOT / "tools" / "play.html", ROOT / "assets" / "play.html"
WORLD = "rts42"

TRANSFORMER = Experiment(world=WORLD, n_train=20_000, epochs=8)
# Chapter 02's recipe: one large rate for all of the network, normalized pictures, zeros outside.
# Seed 2 is the first that collapses; 0 and 1 had not after four epochs.
COLLAPSED = COLLAPSE.replace(world=WORLD, n_train=10_000, epochs=8, seed=2)


class Shown(NamedTuple):
    """A network of the page: what it is called, what is said of it, and its weights after which."""

    title: str
    sentence: str
    experiment: Experiment
    epochs: tuple[int, ...]


NETWORKS = {
    "stnet": Shown(
        "Spatial transformer",
        "Nobody told it where the digits are: it learned where to look from their names alone.",
        TRANSFORMER,
        (0, 1, 2, 4, 8),
    ),
    "moments": Shown(
        "Moments",
        "Its window is computed from the ink, by a formula: it moves and zooms, and never turns. "
        "Only the classifier behind it learned.",
        TRANSFORMER.replace(model="convnet", pose="moments"),
        (8,),
    ),
    "convnet": Shown(
        "Plain CNN",
        "A classifier without a window, trained on the same pictures, for as many epochs.",
        TRANSFORMER.replace(model="convnet", output_size=42),
        (8,),
    ),
    "collapsed": Shown(
        "Collapsed",
        "A transformer trained with too large steps: one threw its window off the canvas, where "
        "all is an even dark grey.",
        COLLAPSED,
        (8,),
    ),
}
# A weight is one printable character: those that a string in JSON, in HTML, may hold as they are.
ALPHABET = "".join(c for c in map(chr, range(32, 127)) if c not in '"\\<&')
MIDDLE = len(ALPHABET) // 2  # it stands for 0, the 45 before and after for -1 to 1 times a scale
PER_CLASS = 2  # test digits that the page has
COPIES = 10  # of each of them on a canvas, for the comparison with torch
TOLERANCE = 1e-3
LARGEST = 400_000  # bytes of the page
# What the page answers for pictures that lie behind each other, in base64; a list of numbers would
# take a browser's tab minutes to read.
ANSWERS = """([name, epoch, text, size]) => {
    const pixels = Uint8Array.from(atob(text), letter => letter.charCodeAt(0)), answers = [];
    for (let i = 0; i < pixels.length; i += size) {
        const {theta, logits} = stnPlay.run(name, epoch, pixels.subarray(i, i + size));
        answers.push({theta, logits});
    }
    return answers;
}"""
COSTED = 2000  # test pictures on which the price of few levels is told


# ---- weights as characters ----


def decimal(values: Tensor) -> list[float]:
    """Numbers in five digits: what the page reads, and what torch is given here."""
    return [float(f"{value:.5g}") for value in values.tolist()]


def encode(layer: nn.Module) -> dict:
    """The weights of a layer, one character each, with a scale for every output; its bias."""
    rows = layer.weight.detach().double().flatten(1)
    scales = torch.tensor(decimal(rows.abs().amax(dim=1) / MIDDLE), dtype=torch.double)
    steps = (rows / scales.clamp(min=1e-12)[:, None]).round().clamp(-MIDDLE, MIDDLE)
    letters = "".join(ALPHABET[int(step) + MIDDLE] for step in steps.flatten())
    return {
        "shape": list(layer.weight.shape),
        "scales": scales.tolist(),
        "weights": letters,
        "bias": decimal(layer.bias.detach()),
    }


@torch.no_grad()
def decode(known: dict, layer: nn.Module) -> None:
    """Give a layer the weights that the page has."""
    steps = torch.tensor([ALPHABET.index(letter) - MIDDLE for letter in known["weights"]])
    scales = torch.tensor(known["scales"], dtype=torch.double)
    rows = steps.view(len(scales), -1) * scales[:, None]
    layer.weight.copy_(rows.view_as(layer.weight))
    layer.bias.copy_(torch.tensor(known["bias"]))


def halves(net: Net) -> dict[str, list[nn.Module]]:
    """The layers with weights of each half; what stands between them is always the same.

    After a convolution: pool by 2, then ReLU. After a dense layer but the last: ReLU.
    """
    parts = {"localization": net.transformer, "classifier": net.classifier}
    kinds = nn.Conv2d, nn.Linear
    return {
        name: [layer for layer in part.modules() if isinstance(layer, kinds)]
        for name, part in parts.items()
    }


def network_of(entry: dict, epoch: int | str) -> Net:
    """The torch network that has the page's weights of an epoch, in evaluation mode."""
    net = build(Experiment(**entry["experiment"]), ImageSpec(**entry["spec"]))
    for half, layers in halves(net).items():
        for known, layer in zip(entry["epochs"][str(epoch)][half], layers, strict=True):
            decode(known, layer)
    return net.eval()


# ---- Runs ----


def train(name: str, folder: Path) -> dict[int, Run]:
    """The Runs of a network after each of its epochs, {epoch: Run}; kept in the folder.

    What this relies on: `fit` goes on from a Run of fewer epochs that lies in its folder, and comes
    to the bits of an uninterrupted one, since every epoch draws its numbers from (seed, epoch).
    """
    experiment, epochs = NETWORKS[name].experiment, NETWORKS[name].epochs
    runs, before = {}, None
    for epoch in epochs:
        here = folder / f"{name}-{epoch}"
        if before and not Run.file(here).exists():
            shutil.copytree(before, here)
        runs[epoch] = fit(experiment.replace(epochs=epoch), "cpu", here)
        before = here
    if name == "collapsed" and not runs[epochs[-1]].collapse_epoch:
        raise ValueError("collapsed: this seed has not; choose another one.")
    return runs


@torch.no_grad()
def answers(net: Net, images: Tensor) -> Tensor:
    """The classes that a network says of uint8 images."""
    return torch.cat([net(part.float() / 255).argmax(dim=1) for part in images.split(250)])


def entry_of(name: str, runs: dict[int, Run]) -> dict:
    """What the page knows of a network; prints what it costs to have few levels a weight."""
    shown, last = NETWORKS[name], runs[max(runs)]
    entry: dict[str, Any] = {
        "title": shown.title,
        "sentence": shown.sentence,
        "experiment": last.experiment.model_dump(exclude_defaults=True),
        "spec": last.spec._asdict(),
        "epochs": {},
    }
    for epoch, run in runs.items():
        state = {h: list(map(encode, layers)) for h, layers in halves(run.model()).items()}
        entry["epochs"][str(epoch)] = state
        test = run.test_split()
        right = answers(network_of(entry, epoch), test.images) == test.labels
        state["top1"] = round(100 * right.float().mean().item(), 2)
        whole, here = (100 * part[:COSTED].float().mean() for part in (run.right(), right))
        print(
            f"{name} epoch {epoch}: top-1 {100 * run.test['top1']:.2f} %, in the page "
            f"{state['top1']:.2f} %; on the first {COSTED}: {whole:.2f} %, {here:.2f} %, "
            f"cost {whole - here:+.2f} points"
        )
    return entry


# ---- digits ----


def digits() -> list[dict]:
    """The first test digits of each class, upright; no network was trained on them."""
    test = load("mnist", "clean28").test
    chosen = [(test.labels == c).nonzero()[:PER_CLASS, 0] for c in range(10)]
    order = torch.stack(chosen, dim=1).flatten().tolist()  # 0 to 9, then 0 to 9 again
    return [
        {
            "label": test.labels[i].item(),
            "pixels": base64.b64encode(test.images[i].numpy().tobytes()).decode(),
        }
        for i in order
    ]


def upright(known: list[dict]) -> Tensor:
    """The page's digits as uint8 images (N, 1, 28, 28)."""
    images = [bytearray(base64.b64decode(digit["pixels"])) for digit in known]
    return torch.stack([torch.frombuffer(i, dtype=torch.uint8) for i in images]).view(-1, 1, 28, 28)


# ---- the page ----


def content_of(page: str) -> dict:
    """What a page has embedded: networks, digits and the world."""
    return json.loads(page.split('<script type="application/json" id="content">')[1].split("<")[0])


def write_page(content: dict) -> str:
    """The template with its content; raises ValueError if it has become too large."""
    embedded = json.dumps(content, separators=(",", ":"))
    page = TEMPLATE.read_text().replace("__CONTENT__", embedded)
    if len(page.encode()) > LARGEST:
        raise ValueError(f"the page has {len(page.encode()):,} bytes, above {LARGEST:,}.")
    return page


def pictures(content: dict) -> tuple[Tensor, Tensor]:
    """200 canvases (N, 1, 42, 42) as the course makes them of the page's digits, and the poses."""
    images = upright(content["digits"]).repeat(COPIES, 1, 1, 1)
    return distort(images, seed=0, **distortion(content["world"]))


@torch.no_grad()
def differences(tab, content: dict) -> dict[str, float]:
    """How far the page, open in a browser's tab, is from torch: {network, epoch: largest}.

    Over theta and logits of 200 pictures.
    """
    images, found = pictures(content)[0], {}
    pixels = base64.b64encode(images.numpy().tobytes()).decode()
    for name, entry in content["networks"].items():
        for epoch in entry["epochs"]:
            net = network_of(entry, epoch)
            trace = net.trace(images.float() / 255)
            answered = tab.evaluate(ANSWERS, [name, int(epoch), pixels, images[0].numel()])
            gap = _gap([a["logits"] for a in answered], trace.logits)
            if trace.parameters:
                gap = max(gap, _gap([a["theta"] for a in answered], trace.parameters[-1]))
            found[f"{name} {epoch}"] = gap
    return found


def _gap(ours, theirs):
    gap = (torch.tensor(ours) - theirs).abs().max().item()
    return gap if gap == gap else float("inf")  # nan is as far as can be


def compare(page: str) -> dict[str, float]:
    """The differences of a page, opened in a headless Chromium."""
    from playwright.sync_api import sync_playwright  # comes with the extra `test`

    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if not path:
        raise FileNotFoundError(f"none of {', '.join(names)} is on the path to compare in.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.set_content(page)
        found = differences(tab, content_of(page))
        browser.close()
    return found


def main(folder: Path) -> None:
    """Train, embed, compare, write."""
    networks = {name: entry_of(name, train(name, folder)) for name in NETWORKS}
    page = write_page({"world": WORLD, "networks": networks, "digits": digits()})
    found = compare(page)
    for name, gap in found.items():
        print(f"{name}: differs from torch by at most {gap:.1e}")
    if max(found.values()) > TOLERANCE:
        raise ValueError(f"the page differs from torch by more than {TOLERANCE}; not written.")
    write_whole(PAGE, page.encode())
    print(PAGE.name, len(page.encode()), "bytes")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the same bits on machines with more or fewer cores
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "runs" / "play")
