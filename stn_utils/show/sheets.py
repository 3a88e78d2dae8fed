"""The warps of a Run, epoch by epoch, as pictures: slider, GIF and film strip share the same frames."""

import base64
import io
from pathlib import Path

import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

from ..warp import corners, identity
from .style import DIGITS_SHOWN, FAINT, INK, PAPER, WINDOW, plane, shown

TILE, GAP, LEFT, TOP = 74, 6, 78, 30  # pixels


def _font(size, bold=False):
    name = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(name), size)


def _rim(thetas):
    """Pixels of faint paper round the inputs, at double size, so that nearly all windows (N, 2, 3) are seen whole."""
    reach = corners(thetas).abs().amax(dim=(1, 2)).nan_to_num(9, 9).quantile(0.95).clamp(1.15, 1.7).item()
    return round(TILE - (TILE - 8) / reach)  # 8: for the line and the dot


def _tile(image, theta=None, rim=0):
    """uint8 (C, H, W) -> a square PIL tile at double size; with theta (2, 3), its window drawn on it, in a rim."""
    side = 2 * TILE - 2 * rim
    tile = Image.new("RGB", (2 * TILE, 2 * TILE), FAINT)
    picture = Image.fromarray(plane(image)).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    tile.paste(picture, (rim, rim))
    if theta is not None:
        box = [tuple(p) for p in ((corners(theta[None])[0] + 1) / 2 * side + rim).tolist()]
        pen = ImageDraw.Draw(tile)
        pen.line(box + box[:2], fill=WINDOW, width=4, joint="curve")
        pen.ellipse([box[0][0] - 6, box[0][1] - 6, box[0][0] + 6, box[0][1] + 6], fill=WINDOW)
    return tile


def _tile_row(pictures, thetas=None, rim=0):
    """A row of tiles, drawn at double size and reduced, so that lines are smooth."""
    row = Image.new("RGB", (2 * len(pictures) * (TILE + GAP), 2 * TILE), PAPER)
    for i, picture in enumerate(pictures):
        row.paste(_tile(picture, None if thetas is None else thetas[i], rim), (2 * i * (TILE + GAP), 0))
    return row.resize((row.width // 2, row.height // 2), Image.Resampling.LANCZOS)


def _sheet(rows, heading):
    """Stack labelled rows [(label, row)] under a heading."""
    sheet = Image.new("RGB", (LEFT + rows[0][1].width, TOP + len(rows) * (TILE + GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 7), heading, fill=INK, font=_font(14, bold=True))
    for i, (label, row) in enumerate(rows):
        top = TOP + i * (TILE + GAP)
        pen.multiline_text((GAP, top + TILE // 2), label, fill=INK, font=_font(12), anchor="lm")
        sheet.paste(row, (LEFT, top))
    return sheet


def epoch_label(run, epoch, title=None):
    """What is burnt into a frame; title: default the Run's own."""
    top1 = next((run.history[k] for k in ("val_top1", "test_top1") if k in run.history), [])
    score = f"{100 * top1[epoch - 1]:.1f} % right" if epoch else "before training"
    return f"{title or run.title}   epoch {epoch}   {score}"


def _beside(runs, count, draw):
    """The pictures that `draw(run, count, title, rim)` returns, several Runs side by side; the shorter wait on their last."""
    runs = runs if isinstance(runs, dict) else {None: runs}
    rim = _rim(torch.cat([shown(run, 1)[0]["thetas"].flatten(0, 1) for run in runs.values()]))
    columns = [draw(run, count or DIGITS_SHOWN // len(runs), title, rim) for title, run in runs.items()]
    longest = max(map(len, columns))
    return [stack([column[min(i, len(column) - 1)] for column in columns], across=True) for i in range(longest)]


def frames(runs, count=None):
    """One picture (PIL) per epoch, from before training on: inputs with the window above, warped below.

    runs: a Run, or {title: Run} for several side by side. count: digits of each, default ten in all.
    """

    def draw(run, count, title, rim):
        probe, chosen = shown(run, count)
        pictures = []
        for epoch, (thetas, warped) in enumerate(zip(probe["thetas"], probe["warped"])):
            inputs = _tile_row(probe["images"][chosen], thetas[chosen], rim)
            rows = [("input", inputs), ("warped", _tile_row(warped[chosen]))]
            pictures.append(_sheet(rows, epoch_label(run, epoch, title)))
        return pictures

    return _beside(runs, count, draw)


def filmstrip(runs, count=None, rows=5):
    """One still picture (PIL): the inputs, then their warp at up to `rows` epochs from first to last; as in `frames`."""

    def draw(run, count, title, rim):
        probe, chosen = shown(run, count)
        epochs = sorted({round(i * run.epochs / (rows - 1)) for i in range(rows)})
        strip = [("input", _tile_row(probe["images"][chosen], probe["thetas"][-1][chosen], rim))]
        strip += [(f"epoch {e}", _tile_row(probe["warped"][e][chosen])) for e in epochs]
        note = "" if title else f"   warped pictures over {run.epochs} epochs; the window is the last epoch's"
        return [_sheet(strip, (title or run.title) + note)]

    return _beside(runs, count, draw)[0]


def places(panels, canvas, heading, scale=8):
    """One picture (PIL) of a number per place, panels side by side: grey for places learned from, orange for others.

    panels: {title: (points (N, 2) whole pixels (x, y), values (N,) from 0, paper, to 1, full colour, held_out (N,) bool)}.
    canvas: side in pixels of what the places lie on, drawn `scale` times as large.
    """
    side = canvas * scale
    sheet = Image.new("RGB", (len(panels) * (side + 2 * GAP), side + 2 * TOP), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 7), heading, fill=INK, font=_font(14, bold=True))
    for i, (title, (points, values, held_out)) in enumerate(panels.items()):
        left = GAP + i * (side + 2 * GAP)
        pen.text((left, TOP), title, fill=INK, font=_font(12))
        pen.rectangle((left - 1, 2 * TOP - 6, left + side, 2 * TOP + side - 5), outline=FAINT)
        colours = np.where(np.asarray(held_out)[:, None], to_rgb(WINDOW), to_rgb(INK))
        shades = 1 - np.asarray(values)[:, None] * (1 - colours)
        for (x, y), shade in zip(points.tolist(), (255 * shades).round().astype(int).tolist()):
            corner = left + x * scale, 2 * TOP - 5 + y * scale
            pen.rectangle((*corner, corner[0] + scale - 1, corner[1] + scale - 1), fill=tuple(shade))
    return sheet


def _few_colours(pictures):
    """The same PIL pictures in one palette (grey, the window's colour fading), no dither: small files, no flicker."""

    def fade(start, end, steps):
        return [tuple(np.array(to_rgb(start)) * (1 - t) + np.array(to_rgb(end)) * t) for t in np.linspace(0, 1, steps)]

    colours = fade("black", "white", 32) + fade(WINDOW, "black", 8) + fade(WINDOW, PAPER, 8)
    colours += fade(WINDOW, FAINT, 6) + fade(FAINT, "black", 5) + fade(INK, PAPER, 5)
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * channel) for colour in colours for channel in colour])
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def encode_gif(pictures, path, milliseconds=500, limit=500_000):
    """Write PIL pictures as an endless GIF; the last one stays longer. Returns its size in bytes.

    Raises ValueError, and leaves no file, if it would exceed `limit` bytes.
    """
    import imageio.v3 as iio

    arrays = [np.asarray(picture.convert("RGB")) for picture in _few_colours(pictures)]
    durations = [milliseconds] * (len(arrays) - 1) + [4 * milliseconds] if len(arrays) > 1 else milliseconds
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


def moving(pictures, path, still, alt, milliseconds=500, limit=250_000):
    """Write PIL pictures as a GIF and show it, with a still picture for readers that do not move pictures."""
    from IPython.display import HTML, Image, display

    encode_gif(pictures, path, milliseconds, limit)
    display(HTML(f'<img alt="{alt}" src="{data_uri(Path(path).read_bytes(), "gif")}">'))
    display(Image(encode(still), metadata={"alt": f"Still. {alt}"}))  # IPython 7 has no alt=


def gif(runs, path, count=None):
    """Write and show the progress GIF of a Run's warps, with its film strip; runs and count as in `frames`."""
    title = " beside ".join(runs) if isinstance(runs, dict) else runs.title
    alt = f"{title}: the warp of some digits, epoch by epoch"
    moving(frames(runs, count), path, filmstrip(runs, count), alt)


def episode(run, count=DIGITS_SHOWN, step="look"):
    """One picture (PIL) per look of a trained network, from the untouched images on; step: what the headings call a look."""
    probe, chosen = shown(run, count)
    images = probe["images"][chosen]
    x = images.float() / 255
    model, pictures = run.model(), []
    with torch.no_grad():
        thetas = [identity(len(x)), *model.looks(x)]
        rim = _rim(torch.cat(thetas))
        for number, theta in enumerate(thetas):
            views = (255 * model.picture(x, theta).clamp(0, 1)).round().to(torch.uint8)
            rows = [("input", _tile_row(images, theta, rim)), ("warped", _tile_row(views))]
            heading = f"after {step} {number}" if number else f"before the first {step}"
            pictures.append(_sheet(rows, f"{run.title}   {heading}"))
    return pictures


def stack(pictures, across=False):
    """PIL pictures as one: below each other, or side by side."""
    widths, heights = zip(*(picture.size for picture in pictures))
    size = (sum(widths), max(heights)) if across else (max(widths), sum(heights))
    sheet = Image.new("RGB", size, PAPER)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (sum(widths[:i]), 0) if across else (0, sum(heights[:i])))
    return sheet
