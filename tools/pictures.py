"""Draw the pictures on top of README and chapters, each re-fitted from its Experiment and seed.

python tools/pictures.py [NAME ...]
"""

import io
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image, ImageDraw

from stn_utils import Experiment, fit, load, metrics, show, study, warp
from stn_utils.exercises import ch09, squares
from stn_utils.models import instead

ASSETS = Path(__file__).resolve().parents[1] / "assets"

# Short epochs, so that the window can be seen setting out: 24 of 3,000 images.
TRANSLATED = Experiment(world="translated42", n_train=3000, epochs=24)

# As in the study `normalization`, with short epochs again: one rate for all of the network, and a
# tenth of it for the localization network.
COLLAPSE = Experiment(
    world="cluttered40",
    optimizer="sgd",
    lr=0.1,
    padding="zeros",
    mean=0.1307,
    std=0.3081,
    n_train=2000,
    epochs=24,
)
# Every look of one trained network.
EPISODES = {
    "looks": Experiment(world="rts42", model="sequential", steps=5, n_train=20_000, epochs=8),
    "moves": Experiment(
        world="translated42",
        model="reinforced",
        steps=6,
        actions="shifts-zooms",
        classifier="fcn",
        n_train=20_000,
        batch_size=128,
        epochs=8,
    ),
}
# Chapter 09: upright digits, and the digit and the channel of the first map that are shown.
DEPTH = Experiment(model="convnet", n_train=10_000, epochs=4)
DIGIT, CHANNEL = 0, 6
# Chapter 08: digits seen aslant, and three families of windows.
BENT = Experiment(world="projective42", n_train=8000, epochs=12, loc_lr_ratio=0.1)
# Chapter 11: single digits and digits among clutter, a computed window and a learned one.
ALONE = Experiment(world="rts42", n_train=20_000, epochs=8)
SCENES = {"alone": ALONE, "among\nclutter": ALONE.replace(world="cluttered40")}
FAMILIES = {"affine": "affine", "projective": "projective", "tps": "thin-plate\nspline"}
PICTURES = {
    "translated42": TRANSLATED,
    "adam": {
        "SGD 0.01, momentum 0.9": COLLAPSE.replace(lr=0.01, momentum=0.9),
        "Adam 0.001": COLLAPSE.replace(lr=0.001, optimizer="adam"),
    },
}


def write(name, pictures, milliseconds):
    """Write a GIF, and print its size."""
    content = show.encode_gif(pictures, milliseconds)
    (ASSETS / "gifs" / f"{name}.gif").write_bytes(content)
    print(name, len(content), "bytes")


def draw_squares():
    """The CoordConv paper's toy test: how sure each network is of every place, every 2nd epoch."""
    known, held_out = squares.split(squares.centres(32), "quadrant", 32)
    points = torch.cat([known, held_out])
    unseen = torch.arange(len(points)) >= len(known)
    panels = {}
    contenders = [
        ("CoordConv", squares.coordconv_net, 0.01, 16),
        ("deconvolution", squares.deconv_net, 0.005, 32),
    ]
    for name, make, lr, batch_size in contenders:
        torch.manual_seed(0)
        net = make(32)
        lines = squares.learn(net, known, held_out, 40, lr, 32, batch_size)
        panels[name] = [(points, squares.answers(net, points, 32)[1], unseen) for _ in lines]
    frames = [
        squares.place_map(
            {name: seen[i] for name, seen in panels.items()}, 32, f"epoch {i + 1}: how sure?"
        )
        for i in range(1, 40, 2)
    ]
    write("squares", frames, 300)


def draw_seeds():
    """Every seed of some rows of chapter 04's studies as a dot, with the interval of the mean."""
    cnns = {
        "": "CNN",
        "-parameters": "of STN's\nsize",
        "-cost": "of STN's\ncost",
        "-longer": "trained\nlonger",
    }
    panels = {
        "MNIST": ("architectures", "mnist-convnet", "mnist-stnet"),
        "Fashion-MNIST": ("architectures", "fashion-convnet", "fashion-stnet"),
        "MNIST at random places": ("scattered", "translated42-cnn", "translated42-stn"),
    }
    show.use_style()
    figure, axes = plt.subplots(1, 3, figsize=(show.WIDTH, 2.8), width_ratios=[5, 5, 4])
    for ax, (title, (name, cnn, stn)) in zip(axes, panels.items()):
        plan = study.load(name)
        rows = {
            **{cnn + end: label for end, label in cnns.items() if cnn + end in plan.rows},
            stn: "STN",
        }
        for at, row in enumerate(rows):
            values = [100 * r["result"]["test_top1"] for r in plan.records() if r["row"] == row]
            mean, half = metrics.interval(values)
            color = show.WINDOW if row == stn else show.OTHER
            ax.plot([at - 0.1] * len(values), values, "o", color=color, markersize=5, alpha=0.6)
            ax.errorbar(at + 0.15, mean, half, fmt="_", color=color, capsize=4)
        ax.set(xticks=range(len(rows)), xlim=(-0.5, len(rows) - 0.5), title=title)
        ax.set_xticklabels(rows.values(), fontsize=8)
    axes[0].set_ylabel("test top-1, %")
    (ASSETS / "images").mkdir(exist_ok=True)
    figure.savefig(ASSETS / "images" / "seeds.png")


def draw_collapse():
    """The stored traces of chapter 02 beside each other: one rate, and a tenth of it."""
    traces = {"localization rate 0.1": "one-rate", "localization rate 0.01": "a-tenth"}
    pictures = show.frames({title: study.load_trace(name) for title, name in traces.items()})
    write("collapse", pictures, 900)


def draw_depth():
    """A digit turns; a window that knows the angle turns back the picture, or the first map."""
    show.use_style()
    cnn = fit(DEPTH, "cpu", quiet=True)
    x, y = load("mnist", "clean28").test.batch(torch.tensor([DIGIT]))
    angles = [*range(0, 91, 6), *range(84, 0, -6)]
    frames = [_undone(cnn, x, y.item(), float(angle)) for angle in angles]
    write("depth", frames, 200)


@torch.no_grad()
def _undone(cnn, x, digit, angle):
    """One frame: the turned digit, and both ways back, with how sure the network is of it."""
    theta = warp.affine(angle=angle)
    turned, plain = warp.warp(x, warp.invert(theta)), cnn.model().eval()
    front = plain.classifier[:3]
    maps = [front(plain.normalize(picture))[0, CHANNEL] for picture in (turned, x)]
    back = warp.warp(maps[0][None, None], theta, padding="border")[0, 0]
    panels = {
        "the digit": (turned, plain),
        "picture, turned back": (warp.warp(turned, theta), ch09.perfect(cnn, "input", theta)),
        "map, turned back": (back, ch09.perfect(cnn, "conv1", theta)),
    }
    figure, axes = plt.subplots(2, 3, figsize=(6, 2.7), height_ratios=[8, 1])
    for (above, below), (title, (picture, net)) in zip(axes.T, panels.items()):
        sure = 100 * net(turned).softmax(dim=1)[0, digit].item()
        above.imshow(picture.squeeze(), vmin=0, vmax=maps[1].max() if picture is back else 1)
        above.set(xticks=[], yticks=[], title=title)
        below.barh(0, sure, color=show.WINDOW)
        below.set(xlim=(0, 100), xticks=[], yticks=[], xlabel=f"a {digit}: {sure:.0f} %")
        for ax in (above, below):
            ax.grid(False)
    content = io.BytesIO()
    figure.savefig(content, format="png")
    plt.close(figure)
    return Image.open(content).convert("RGB")


def draw(name):
    """Make one picture: fit what it shows, and write its GIF; prints the size."""
    if name in OTHERS:
        return OTHERS[name]()
    if name in EPISODES:
        pictures, milliseconds = (
            show.episode(fit(EPISODES[name], "cpu"), step=name[:-1]),
            800,
        )  # a look, a move
    else:
        wanted, milliseconds = PICTURES[name], 300
        runs = (
            {title: fit(e, "cpu") for title, e in wanted.items()}
            if isinstance(wanted, dict)
            else fit(wanted, "cpu")
        )
        pictures = show.frames(runs)
    write(name, pictures, milliseconds)


def draw_birds():
    """The stored trace of chapter 10: five birds, and the window after every epoch."""
    write("birds", show.frames(study.load_trace("birds"), 5), 900)


def draw_bent():
    """Three digits seen aslant; the meshes of three families glide from epoch to epoch."""
    tracks = {}
    for family, title in FAMILIES.items():
        probe, looks, chosen = show.shown(fit(BENT.replace(family=family), "cpu"), 3)
        x = probe["images"][chosen].float() / 255
        grids = [warp.grid_of(look[chosen], (28, 28)) for look in looks]
        between = [g for a, b in zip(grids, grids[1:]) for g in (a, torch.lerp(a, b, 0.5))]
        tracks[title] = x, [*between, grids[-1]]
    steps = range(2 * BENT.epochs + 1)
    sheets = [{title: (x, grid[i]) for title, (x, grid) in tracks.items()} for i in steps]
    write("bent", [_meshes(rows, f"epoch {i // 2}") for i, rows in enumerate(sheets)], 150)


def _meshes(rows, heading, left=190, side=218, rim=38, view=108):
    """One frame: {title: (images, grids)}, each image with its mesh, then what the windows show.

    Drawn at double size. side: of a tile; rim: of faint paper in it; view: of a warped picture.
    """
    count, space = len(next(iter(rows.values()))[0]), 8
    width = left + count * (side + view + 2 * space) + 2 * space
    sheet = Image.new("RGB", (width, 76 + len(rows) * (side + space)), show.PAPER)
    pen, inner = ImageDraw.Draw(sheet), side - 2 * rim
    pen.text((12, 14), heading, fill=show.INK, font=show.sheets.font(28, bold=True))
    for row, (title, (x, grids)) in enumerate(rows.items()):
        top = 60 + row * (side + space)
        write_at = dict(fill=show.INK, font=show.sheets.font(26), anchor="lm")
        pen.multiline_text((12, top + side // 2), title, **write_at)
        for i, (picture, shows) in enumerate(zip(x, warp.sample(x, grids))):
            at = left + i * (side + space)
            sheet.paste(show.FAINT, (at, top, at + side, top + side))
            sheet.paste(_enlarged(picture, inner), (at + rim, top + rim))
            frame = (at + rim, top + rim, inner, inner)
            show.window(sheet, grids[[i]], frame, line=4, dot=6)
            at = left + count * (side + space) + 2 * space + i * (view + space)
            sheet.paste(_enlarged(shows, view), (at, top + (side - view) // 2))
    return sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)


def draw_instead():
    """Digits alone and among clutter: the window that their moments make, and a transformer's."""
    tracks = {}
    for title, experiment in SCENES.items():
        probe, looks, chosen = show.shown(fit(experiment, "cpu"), 4)
        x = probe["images"][chosen].float() / 255
        computed, looks = instead.Moments()(x), looks[:, chosen]
        steps = [a.lerp(b, part) for a, b in zip(looks, looks[1:]) for part in (0.0, 0.33, 0.67)]
        tracks[title] = x, [torch.stack([s, computed], dim=1) for s in [*steps, looks[-1]]]
    frames = []
    for i in range(3 * ALONE.epochs + 1):
        rows = {title: (x, thetas[i]) for title, (x, thetas) in tracks.items()}
        frames.append(_pairs(rows, f"epoch {i // 3}"))
    write("instead", frames, 200)


def _pairs(rows, heading, left=150, side=236, rim=38, view=114):
    """One frame: {title: (images, thetas (B, 2, 2, 3))}, each image with both windows, and below it
    what they show, rimmed in their colours. Drawn at double size.
    """
    gap, high = 16, side + view + 32
    count = len(next(iter(rows.values()))[0])
    sheet = Image.new("RGB", (left + count * (side + gap), 64 + len(rows) * high), show.PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((12, 14), heading, fill=show.INK, font=show.sheets.font(28, bold=True))
    words = {"learned": show.WINDOW, "computed": show.OTHER}
    for i, (word, colour) in enumerate(words.items()):
        at = (left + 60 + i * 160, 16)
        pen.text(at, word, fill=colour, font=show.sheets.font(26, bold=True))
    for row, (title, (x, thetas)) in enumerate(rows.items()):
        top = 64 + row * high
        write_at = dict(fill=show.INK, font=show.sheets.font(26), anchor="lm")
        pen.multiline_text((12, top + side // 2), title, **write_at)
        for i, picture in enumerate(x):
            at = left + i * (side + gap)
            tile, inner = Image.new("RGB", (side, side), show.FAINT), side - 2 * rim
            tile.paste(_enlarged(picture, inner), (rim, rim))
            show.window(tile, thetas[[i]], (rim, rim, inner, inner), line=5, dot=8)
            sheet.paste(tile, (at, top))
            for j, colour in enumerate(words.values()):
                corner = at + j * (side - view), top + side + 8
                shows = warp.warp(x[[i]], thetas[[i], j], (28, 28))[0]
                sheet.paste(_enlarged(shows, view), corner)
                edges = (*corner, corner[0] + view - 1, corner[1] + view - 1)
                pen.rectangle(edges, outline=colour, width=4)
    return sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)


def _enlarged(picture, side):
    """A grey picture (1, H, W), 0 to 1, as a PIL one."""
    pixels = (255 * picture[0].clamp(0, 1)).byte().numpy()
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)


OTHERS = {
    "bent": draw_bent,
    "birds": draw_birds,
    "instead": draw_instead,
    "squares": draw_squares,
    "seeds": draw_seeds,
    "collapse": draw_collapse,
    "depth": draw_depth,
}


if __name__ == "__main__":
    torch.set_num_threads(1)  # the same bits on machines with more or fewer cores
    for name in sys.argv[1:] or [*PICTURES, *EPISODES, *OTHERS]:
        draw(name)
