"""Figures, film strips and GIFs. One palette, one width, panels in the order input, grid on input, warped.

Collecting frames, drawing them and encoding them are three functions, so that slider, GIF and film strip
share the same frames.
"""

import base64
import io
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from .diagnose import collapse_epoch
from .warp import corners, make_grid

INK, PAPER, FAINT = "#1f2933", "#ffffff", "#c5cdd5"
WINDOW, OTHER, THIRD = "#e8590c", "#1c7ed6", "#2b8a3e"  # the transformer's window and curve; the baseline; the rest
WIDTH = 9  # inches, every figure
DIGITS_SHOWN = 10

plt.rcParams.update({
    "figure.facecolor": PAPER, "savefig.facecolor": PAPER, "figure.dpi": 90, "figure.titlesize": 11,
    "figure.constrained_layout.use": True, "figure.constrained_layout.h_pad": 0.07,
    "axes.prop_cycle": plt.cycler(color=[WINDOW, OTHER, THIRD, INK]), "axes.edgecolor": INK, "axes.labelcolor": INK,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e9ecef",
    "text.color": INK, "xtick.color": INK, "ytick.color": INK, "axes.titlesize": 10, "font.size": 10,
    "legend.frameon": False, "image.cmap": "gray", "lines.linewidth": 2,
})  # fmt: skip


def _plane(image):
    """An image (C, H, W) or (H, W), tensor or array, as (H, W) or (H, W, 3)."""
    image = torch.as_tensor(image).detach().cpu()
    if image.ndim == 3:
        image = image[0] if len(image) == 1 else image.permute(1, 2, 0)
    return image.numpy()


def _picture(ax, image, title=None, low=None, high=None, show_range=False):
    """One image with nothing around it; pixel coordinates, pixel 0 centred at 0."""
    plane = _plane(image)
    ax.imshow(plane, vmin=low, vmax=high)
    ax.grid(False)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    if title:
        ax.set_title(title)
    if show_range:
        ax.set_xlabel(f"{plane.min():.2g} to {plane.max():.2g}", fontsize=8)


def images(batch, titles=None, low=0, high=1, suptitle=None):
    """A row of images (N, C, H, W) or a list of (H, W), the value range under each."""
    count = len(batch)
    side = WIDTH / max(count, 5)
    figure, axes = plt.subplots(1, count, figsize=(side * count, side + 0.45), squeeze=False)
    for i, ax in enumerate(axes[0]):
        _picture(ax, batch[i], titles[i] if titles is not None else None, low, high, show_range=True)
    if suptitle:
        figure.suptitle(suptitle)
    plt.show()


def _to_pixel_axis(points, shape):
    """Normalized (..., 2) -> pixel positions for an image of the given (H, W)."""
    size = torch.tensor([shape[-1], shape[-2]], dtype=points.dtype)
    return ((points.detach().cpu() + 1) * size - 1) / 2


def draw_window(ax, theta, shape, color=WINDOW):
    """Outline of the window theta (2, 3) on an image of shape (..., H, W); a dot marks its top left corner."""
    box = _to_pixel_axis(corners(theta[None])[0], shape)
    closed = torch.cat([box, box[:1]])
    ax.plot(closed[:, 0], closed[:, 1], color=color, linewidth=1.6)
    ax.plot(*box[0], "o", color=color, markersize=4)


def draw_grid(ax, theta, shape, size, color=WINDOW):
    """The sampling points of theta (2, 3), one per output pixel of size (h, w), on an image of shape (..., H, W)."""
    points = _to_pixel_axis(make_grid(theta[None], size)[0].reshape(-1, 2), shape)
    ax.plot(points[:, 0], points[:, 1], ".", color=color, markersize=2 if len(points) > 20 else 6)


def looks(x, theta, x_warped, titles=None, suptitle=None, grid=(6, 6)):
    """Three rows: inputs (N, C, H, W), the sampling grid and window of theta (N, 2, 3) on them, warped pictures.

    grid: how many sampling points to draw; a full grid of 28x28 would hide the image.
    """
    count = len(x)
    side = WIDTH / max(count, 5)
    height, width = x.shape[-2:]
    beyond = (corners(theta).abs().max().item() - 1) / 2 + 0.03  # of the image; a window may reach beyond it
    rim = max(height, width) * min(max(beyond, 0.05), 0.5)
    figure, axes = plt.subplots(3, count, figsize=(side * count, 3 * side + 0.3), squeeze=False)
    for i in range(count):
        _picture(axes[0, i], x[i], titles[i] if titles is not None else None, 0, 1)
        _picture(axes[1, i], x[i], None, 0, 1)
        draw_grid(axes[1, i], theta[i].detach().cpu(), x.shape, grid)
        draw_window(axes[1, i], theta[i].detach().cpu(), x.shape)
        axes[1, i].set(xlim=(-rim - 0.5, width + rim - 0.5), ylim=(height + rim - 0.5, -rim - 0.5), facecolor=FAINT)
        _picture(axes[2, i], x_warped[i], None, 0, 1)
    for ax, name in zip(axes[:, 0], ("input", "grid on input", "warped")):
        ax.set_ylabel(name)
    if suptitle:
        figure.suptitle(suptitle)
    plt.show()


def before_after(run, count=DIGITS_SHOWN, epoch=-1):
    """The probe images of a Run before and after its warp, at an epoch (0 is before training)."""
    probe, chosen = _shown(run, count)
    epoch = range(run.epochs + 1)[epoch]
    looks(probe["images"][chosen] / 255, probe["thetas"][epoch][chosen], probe["warped"][epoch][chosen] / 255,
          suptitle=f"{run.title}, {run.experiment.model}, epoch {epoch}")  # fmt: skip


def curves(runs, name="top1", title=None):
    """History of several Runs {label: Run}: `top1`, `loss`, or any other entry, over epochs."""
    _, ax = plt.subplots(figsize=(WIDTH, 3))
    for label, run in runs.items():
        key = next((k for k in (f"val_{name}", f"test_{name}", name) if k in run.history), None)
        if key is None:
            raise ValueError(f"{label} has no {name!r} in its history: {', '.join(run.history)}.")
        values = np.array(run.history[key], dtype=float)
        label += f" (collapsed in epoch {run.collapse_epoch})" if run.collapse_epoch else ""
        ax.plot(run.history["epoch"], 100 * values if name == "top1" else values, "o-", markersize=4, label=label)
        ax.set(xlabel="epoch", ylabel=f"{key.split('_')[0]} top-1, %" if name == "top1" else key.replace("_", " "))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_title(title or next(iter(runs.values())).title)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))  # beside the curves, never on them
    plt.show()


def seeds(records, rows, name="det", low=None, high=None):
    """A study's history entry over epochs, a panel per row, a line per seed; a dotted line is a run that collapsed.

    records: those of the study. rows: {row name: title}. name: an entry of the history; `top1` is in percent.
    """
    figure, axes = plt.subplots(1, len(rows), figsize=(WIDTH, 2.6), sharex=True, sharey=True, squeeze=False)
    for ax, (row, title) in zip(axes[0], rows.items()):
        for record in (record for record in records if record["row"] == row):
            history = record["history"]
            key = next(key for key in (f"val_{name}", f"test_{name}", name) if key in history)
            values = np.array(history[key], dtype=float) * (100 if name == "top1" else 1)
            lost = collapse_epoch(history)
            ax.plot(history["epoch"], values, ":" if lost else "-", color=INK if lost else WINDOW, linewidth=1)
        ax.set(xlabel="epoch", title=title)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylim(low, high)
    axes[0, 0].set_ylabel({"top1": "top-1, %", "det": "det A", "outside": "share outside"}.get(name, name.replace("_", " ")))
    plt.show()


def confusion(run):
    """The test confusion matrix of a Run: rows true, columns answered; colour shows the mistakes alone."""
    if run.test is None:
        raise ValueError(f"{run.title}: this Run is not finished, it has no test result.")
    counts = run.test["confusion"].numpy()
    mistakes = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    _, ax = plt.subplots(figsize=(WIDTH * 0.5, WIDTH * 0.5))
    ax.imshow(mistakes, cmap="Oranges", vmax=max(1, 1.5 * mistakes.max()))
    for (row, column), count in np.ndenumerate(counts):
        if count:
            ax.text(column, row, count, ha="center", va="center", fontsize=8)
    ticks = range(len(counts))
    ax.set(xlabel="answered", ylabel="true", xticks=ticks, yticks=ticks)
    ax.set_title(f"{run.title}: {100 * run.test['top1']:.2f} % right")
    ax.grid(False)
    plt.show()


# ---- frames: drawn once, then shown as GIF, film strip or player ----

TILE, GAP, LEFT, TOP = 74, 6, 78, 30  # pixels
RIM = 22  # pixels of faint paper round an input at double size: a window may reach beyond the image


def _font(size, bold=False):
    from matplotlib import font_manager
    from PIL import ImageFont

    name = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(name), size)


def _tile(image, theta=None):
    """uint8 (C, H, W) -> a square PIL tile at double size; with theta (2, 3), its window drawn on it, in a rim."""
    from PIL import Image, ImageDraw

    rim = 0 if theta is None else RIM
    side = 2 * TILE - 2 * rim
    tile = Image.new("RGB", (2 * TILE, 2 * TILE), FAINT)
    picture = Image.fromarray(_plane(image)).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    tile.paste(picture, (rim, rim))
    if theta is not None:
        box = [tuple(p) for p in ((corners(theta[None])[0] + 1) / 2 * side + rim).tolist()]
        pen = ImageDraw.Draw(tile)
        pen.line(box + box[:2], fill=WINDOW, width=4, joint="curve")
        pen.ellipse([box[0][0] - 6, box[0][1] - 6, box[0][0] + 6, box[0][1] + 6], fill=WINDOW)
    return tile


def _tile_row(pictures, thetas=None):
    """A row of tiles, drawn at double size and reduced, so that lines are smooth."""
    from PIL import Image

    row = Image.new("RGB", (2 * len(pictures) * (TILE + GAP), 2 * TILE), PAPER)
    for i, picture in enumerate(pictures):
        row.paste(_tile(picture, None if thetas is None else thetas[i]), (2 * i * (TILE + GAP), 0))
    return row.resize((row.width // 2, row.height // 2), Image.Resampling.LANCZOS)


def _sheet(rows, heading):
    """Stack labelled rows [(label, row)] under a heading."""
    from PIL import Image, ImageDraw

    sheet = Image.new("RGB", (LEFT + rows[0][1].width, TOP + len(rows) * (TILE + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 7), heading, fill=INK, font=_font(14, bold=True))
    for i, (label, row) in enumerate(rows):
        top = TOP + i * (TILE + GAP)
        pen.multiline_text((GAP, top + TILE // 2), label, fill=INK, font=_font(12), anchor="lm")
        sheet.paste(row, (LEFT, top))
    return sheet


def _shown(run, count):
    """The probe of a Run and the indices to show: one image of each class first, then the second ones."""
    if run.probe["thetas"] is None:
        raise ValueError(f"{run.experiment.model} has no looks: there is no warp to show.")
    labels = run.probe["labels"]
    per_class = len(labels) // len(labels.unique())
    order = torch.arange(len(labels)).view(-1, per_class).T.flatten()
    return run.probe, order[:count]


def epoch_label(run, epoch, title=None):
    """What is burnt into a frame; title: default the Run's own."""
    top1 = next((run.history[k] for k in ("val_top1", "test_top1") if k in run.history), [])
    score = f"{100 * top1[epoch - 1]:.1f} % right" if epoch else "before training"
    return f"{title or run.title}   epoch {epoch}   {score}"


def _beside(runs, count, draw):
    """What `draw(run, count, title)` makes of each Run, side by side; one Run, or several as {title: Run}.

    `draw` returns a list of pictures (PIL). A Run with fewer epochs waits on its last picture.
    """
    from PIL import Image

    if not isinstance(runs, dict):
        return draw(runs, count or DIGITS_SHOWN, None)
    columns = [draw(run, count or DIGITS_SHOWN // len(runs), title) for title, run in runs.items()]
    sheets = []
    for i in range(max(map(len, columns))):
        parts = [column[min(i, len(column) - 1)] for column in columns]
        sheet = Image.new("RGB", (sum(part.width for part in parts), max(part.height for part in parts)), PAPER)
        for j, part in enumerate(parts):
            sheet.paste(part, (sum(other.width for other in parts[:j]), 0))
        sheets.append(sheet)
    return sheets


def frames(runs, count=None):
    """One picture (PIL) per epoch, from before training on: inputs with the window above, warped below.

    runs: a Run, or {title: Run} for several side by side. count: digits of each, default ten in all.
    """

    def draw(run, count, title):
        probe, chosen = _shown(run, count)
        pictures = []
        for epoch, (thetas, warped) in enumerate(zip(probe["thetas"], probe["warped"])):
            rows = [("input", _tile_row(probe["images"][chosen], thetas[chosen])), ("warped", _tile_row(warped[chosen]))]
            pictures.append(_sheet(rows, epoch_label(run, epoch, title)))
        return pictures

    return _beside(runs, count, draw)


def filmstrip(runs, count=None, rows=5):
    """One still picture (PIL): the inputs, then their warp at up to `rows` epochs from first to last; as in `frames`."""

    def draw(run, count, title):
        probe, chosen = _shown(run, count)
        epochs = sorted({round(i * run.epochs / (rows - 1)) for i in range(rows)})
        strip = [("input", _tile_row(probe["images"][chosen], probe["thetas"][-1][chosen]))]
        strip += [(f"epoch {e}", _tile_row(probe["warped"][e][chosen])) for e in epochs]
        note = "" if title else f"   warped pictures over {run.epochs} epochs; the window is the last epoch's"
        return [_sheet(strip, (title or run.title) + note)]

    return _beside(runs, count, draw)[0]


def _palette():
    """The colours of every frame, as a PIL palette: grey levels, and the window's colour fading into its surroundings."""
    from matplotlib.colors import to_rgb
    from PIL import Image

    def fade(start, end, steps):
        return [tuple(np.array(to_rgb(start)) * (1 - t) + np.array(to_rgb(end)) * t) for t in np.linspace(0, 1, steps)]

    colours = fade("black", "white", 32) + fade(WINDOW, "black", 8) + fade(WINDOW, PAPER, 8)
    colours += fade(WINDOW, FAINT, 6) + fade(FAINT, "black", 5) + fade(INK, PAPER, 5)
    image = Image.new("P", (1, 1))
    image.putpalette([round(255 * channel) for colour in colours for channel in colour])
    return image


def _few_colours(pictures):
    """The same PIL pictures in the shared palette, without dither: small files, no flicker between frames."""
    from PIL import Image

    palette = _palette()
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def encode_gif(pictures, path, milliseconds=500, limit=500_000):
    """Write PIL pictures as an endless GIF; the last one stays longer. Returns its size in bytes.

    Raises ValueError, and leaves no file, if it would exceed `limit` bytes.
    """
    import imageio.v3 as iio

    arrays = [np.asarray(picture.convert("RGB")) for picture in _few_colours(pictures)]
    durations = [milliseconds] * (len(arrays) - 1) + [4 * milliseconds]
    content = iio.imwrite("<bytes>", arrays, extension=".gif", duration=durations, loop=0)
    if len(content) > limit:
        raise ValueError(f"{path}: {len(content):,} bytes, more than {limit:,}. Show fewer digits or epochs.")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(content)
    return len(content)


def data_uri(content, kind):
    """Bytes as a data: URI, so that a picture stands inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encode(picture, kind="png", **options):
    """A PIL picture as bytes: png in the shared palette, or webp."""
    if kind == "png":
        (picture,), options = _few_colours([picture]), {"optimize": True}
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def gif(runs, path, count=None, limit=250_000):
    """Write the progress GIF of a Run's warps and show it, with a film strip for readers that do not move pictures.

    runs and count as in `frames`.
    """
    from IPython.display import HTML, Image, display

    encode_gif(frames(runs, count), path, limit=limit)
    title = " beside ".join(runs) if isinstance(runs, dict) else runs.title
    alt = f"{title}: the warp of some digits, epoch by epoch"
    display(HTML(f'<img alt="{alt}" src="{data_uri(Path(path).read_bytes(), "gif")}">'))
    display(Image(encode(filmstrip(runs, count)), metadata={"alt": f"Film strip. {alt}"}))  # IPython 7 has no alt=
