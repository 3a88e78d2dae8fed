"""The warps of a Run, epoch by epoch, as pictures: slider, GIF and film strip share frames."""

import base64
import functools
import html
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from PIL import Image, ImageDraw, ImageFont

from ..run import Run
from ..spec import write_whole
from ..warp import identity
from .draw import reach, window
from .style import DIGITS_SHOWN, FAINT, INK, PAPER, WINDOW, plane, shown

TILE, GAP, LEFT, TOP = 74, 6, 78, 30  # pixels
Runs = Run | dict[str, Run]  # one, or {title: Run} for several side by side
Sheets = list[Image.Image]


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of labels and headings; size in pixels."""
    name = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(name), size)


def _rim(looks):
    """Pixels of faint paper round the inputs, at double size.

    So wide that nearly all windows are seen whole.
    """
    reaches = torch.cat([reach(look) for look in looks])
    farthest = reaches.nan_to_num(9, 9).quantile(0.95).clamp(1.15, 1.7).item()
    return round(TILE - (TILE - 8) / farthest)  # 8: for the line and the dot


def _tile(image, look=None, rim=0):
    """uint8 (C, H, W) -> a square PIL tile at double size, with its gap.

    The picture keeps its shape. With a look (1, 2, 3) or (1, h, w, 2) its window is drawn on it,
    in a rim.
    """
    pixels = plane(image)
    scale = (2 * TILE - 2 * rim) / max(pixels.shape[:2])
    height, width = (round(side * scale) for side in pixels.shape[:2])
    left, top = TILE - width // 2, TILE - height // 2
    tile = Image.new("RGB", (2 * (TILE + GAP), 2 * TILE), PAPER)
    tile.paste(FAINT, (left - rim, top - rim, left + width + rim, top + height + rim))
    picture = Image.fromarray(pixels).convert("RGB")
    tile.paste(picture.resize((width, height), Image.Resampling.BICUBIC), (left, top))
    if look is not None:
        window(tile, look, (left, top, width, height), line=4, dot=6)
    return tile


def _tile_row(pictures, looks=None, rim=0):
    """A row of tiles, drawn at double size and reduced, so that lines are smooth."""
    looks = [None] * len(pictures) if looks is None else looks.split(1)
    row = stack([_tile(*pair, rim) for pair in zip(pictures, looks)], across=True)
    return row.resize((row.width // 2, row.height // 2), Image.Resampling.LANCZOS)


def _sheet(rows, heading):
    """Stack labelled rows [(label, row)] under a heading."""
    size = LEFT + rows[0][1].width, TOP + len(rows) * (TILE + GAP)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP, 7), heading, fill=INK, font=font(14, bold=True))
    for i, (label, row) in enumerate(rows):
        top = TOP + i * (TILE + GAP)
        pen.multiline_text((GAP, top + TILE // 2), label, fill=INK, font=font(12), anchor="lm")
        sheet.paste(row, (LEFT, top))
    return sheet


def epoch_label(run: Run, epoch: int, title: str | None = None) -> str:
    """What is burnt into a frame; title: default the Run's own."""
    top1 = next((run.history[k] for k in ("val_top1", "test_top1") if k in run.history), [])
    score = f"{100 * top1[epoch - 1]:.1f} % right" if epoch else "untrained"
    return f"{title or run.title}   epoch {epoch}   {score}"


def _beside(runs, count, draw):
    """The sheets that `draw(run, count, title, rim)` returns, several Runs side by side.

    The shorter wait on their last.
    """
    runs = runs if isinstance(runs, dict) else {None: runs}
    count = DIGITS_SHOWN // len(runs) if count is None else count
    if count < 1:
        raise ValueError(f"runs: at most {DIGITS_SHOWN} side by side, got {len(runs)}.")
    rim = _rim([shown(run, 1)[1].flatten(0, 1) for run in runs.values()])
    columns = [draw(run, count, title, rim) for title, run in runs.items()]
    sheets = []
    for i in range(max(map(len, columns))):
        row = [column[min(i, len(column) - 1)] for column in columns]
        sheets.append(stack(row, across=True))
    return sheets


def frames(runs: Runs, count: int | None = None) -> Sheets:
    """One picture per epoch, from before training on: inputs with the window above, warped below.

    count: digits of each Run, default ten in all.
    """

    def draw(run, count, title, rim):
        probe, looks, chosen = shown(run, count)
        pictures = []
        for epoch, warped in enumerate(probe["warped"]):
            inputs = _tile_row(probe["images"][chosen], looks[epoch][chosen], rim)
            rows = [("input", inputs), ("warped", _tile_row(warped[chosen]))]
            pictures.append(_sheet(rows, epoch_label(run, epoch, title)))
        return pictures

    return _beside(runs, count, draw)


def filmstrip(runs: Runs, count: int | None = None) -> Image.Image:
    """One still picture: the inputs, then their warp at up to five epochs from first to last.

    The rest as in `frames`.
    """

    def draw(run, count, title, rim):
        probe, looks, chosen = shown(run, count)
        epochs = sorted({round(i * run.epochs / 4) for i in range(5)})
        strip = [("input", _tile_row(probe["images"][chosen], looks[-1][chosen], rim))]
        strip += [(f"epoch {e}", _tile_row(probe["warped"][e][chosen])) for e in epochs]
        note = f"   over {run.epochs} epochs, with the last one's window"
        return [_sheet(strip, title or run.title + note)]

    return _beside(runs, count, draw)[0]


@functools.cache
def _grey_palette():
    """Greys, and the course's colours fading into them and into each other."""

    def fade(start, end, steps):
        ends = np.array(to_rgb(start)), np.array(to_rgb(end))
        return [tuple(ends[0] * (1 - t) + ends[1] * t) for t in np.linspace(0, 1, steps)]

    colours = fade("black", "white", 32) + fade(WINDOW, "black", 8) + fade(WINDOW, PAPER, 8)
    colours += fade(WINDOW, FAINT, 6) + fade(FAINT, "black", 5) + fade(INK, PAPER, 5)
    palette = Image.new("P", (1, 1))
    palette.putpalette([round(255 * channel) for colour in colours for channel in colour])
    return palette


def _few_colours(pictures):
    """The same PIL pictures in one palette, no dither: small files, no flicker.

    Where the fixed palette of greys would lose a colour, the pictures' own are added to it.
    """
    palette = _grey_palette()
    if not all(map(_is_grey, pictures)):
        own = stack(pictures).quantize(256 - len(palette.getpalette()) // 3).getpalette()
        palette = palette.copy()
        palette.putpalette(_grey_palette().getpalette() + own)
    return [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]


def _is_grey(picture):
    """Whether all but 1 pixel in 100 keep their colour, for the eye, in the palette of greys."""
    grey = picture.quantize(palette=_grey_palette(), dither=Image.Dither.NONE)
    pair = [np.asarray(p.convert("RGB"), dtype=int) for p in (picture, grey)]
    return (abs(pair[0] - pair[1]).max(axis=2) > 24).mean() <= 0.01


def encode_gif(pictures: Sheets, milliseconds: int = 500, limit: int = 500_000) -> bytes:
    """Pictures as a GIF that stops after three rounds; the last one stays longer.

    Raises ValueError if it would exceed `limit` bytes.
    """
    import imageio.v3 as iio

    arrays = [np.asarray(picture.convert("RGB")) for picture in _few_colours(pictures)]
    durations: Any = [milliseconds] * (len(arrays) - 1) + [4 * milliseconds]
    durations = durations if len(arrays) > 1 else milliseconds
    content = iio.imwrite("<bytes>", arrays, extension=".gif", duration=durations, loop=3)
    if len(content) > limit:
        size = f"{len(content):,} bytes as a GIF, more than {limit:,}"
        raise ValueError(f"pictures: {size}. Show fewer digits or epochs.")
    return content


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a data: URI, so that a picture stands inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def encode(picture: Image.Image, kind: str = "png", **options: Any) -> bytes:
    """A picture as bytes: png, in few colours if it is grey, or webp."""
    if kind == "png":
        options = {"optimize": True}
        if _is_grey(picture):
            (picture,) = _few_colours([picture])
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def show_animation(
    pictures: Sheets,
    path: Path | str,
    still: Image.Image,
    alt: str,
    milliseconds: int = 500,
    limit: int = 250_000,
) -> None:
    """Write pictures as a GIF and show it; `still` is for readers that do not move pictures.

    A fold round it stops it for those whom it disturbs. Where nothing can be written it is shown
    all the same, and a warning says so.
    """
    from IPython.display import HTML, Image, display

    content = encode_gif(pictures, milliseconds, limit)
    try:
        write_whole(Path(path), content)
    except OSError as error:
        warnings.warn(f"{path} could not be written ({error.strerror}).", stacklevel=2)
    picture = f'<img alt="{html.escape(alt)}" src="{data_uri(content, "gif")}">'
    display(HTML(f"<details open><summary>animation (fold to stop)</summary>{picture}</details>"))
    display(Image(encode(still), metadata={"alt": f"Still. {alt}"}))  # IPython 7 has no alt=


def gif(runs: Runs, path: Path | str, count: int | None = None) -> None:
    """Write and show the progress GIF of a Run's warps, with its film strip; as in `frames`."""
    title = " beside ".join(runs) if isinstance(runs, dict) else runs.title
    alt = f"{title}: the warp of some pictures, epoch by epoch"
    show_animation(frames(runs, count), path, filmstrip(runs, count), alt)


def episode(run: Run, count: int = DIGITS_SHOWN, step: str = "look") -> Sheets:
    """One picture per look of a trained network, from the untouched images on.

    step: what the headings call a look.
    """
    probe, _, chosen = shown(run, count)
    images = probe["images"][chosen]
    x = images.float() / 255
    model, pictures = run.model(), []
    with torch.no_grad():
        looks = [identity(len(x)), *model.looks(x)]
        rim = _rim(looks)
        for number, look in enumerate(looks):
            views = (255 * model.warped(x, look).clamp(0, 1)).round().to(torch.uint8)
            rows = [("input", _tile_row(images, look, rim)), ("warped", _tile_row(views))]
            heading = f"after {step} {number}" if number else f"before the first {step}"
            pictures.append(_sheet(rows, f"{run.title}   {heading}"))
    return pictures


def stack(pictures: Sheets, across: bool = False) -> Image.Image:
    """Pictures as one: below each other, or side by side."""
    widths, heights = zip(*(picture.size for picture in pictures))
    size = (sum(widths), max(heights)) if across else (max(widths), sum(heights))
    sheet = Image.new("RGB", size, PAPER)
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (sum(widths[:i]), 0) if across else (0, sum(heights[:i])))
    return sheet
