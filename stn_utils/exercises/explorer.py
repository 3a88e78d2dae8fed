"""Explorers of a theta and of the sampler, pages with sliders; these and the player as widgets."""

import html
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from .. import show
from ..player import fill
from ..show.sheets import Runs, Sheets
from ..warp import affine, corners, warp

SIDE = 360  # pixels of an explorer's picture, and what is round it
SLIDERS = [  # name, low, high, start, step: the arguments of warp.affine
    ["angle", -180, 180, 0, 5],
    ["scale", 0.2, 2, 1, 0.05],
    ["shift_x", -1, 1, 0, 0.05],
    ["shift_y", -1, 1, 0, 0.05],
    ["shear", -1, 1, 0, 0.05],
]


def playground_html(height: int = 1000) -> str:
    """The page in which trained networks run (`tools/play.py` makes it), inside another page.

    height: of its frame, in pixels, until it is there; then it is as high as what is in it.
    """
    page = (Path(__file__).parents[2] / "assets" / "play.html").read_text()
    style = f"width:100%;height:{height}px;border:0"
    title = "Play with a spatial transformer"
    grow = "this.style.height = 20 + this.contentDocument.documentElement.scrollHeight + 'px'"
    return (
        f'<iframe title="{title}" style="{style}" onload="{grow}" '
        f'srcdoc="{html.escape(page)}"></iframe>'
    )


def _bytes(image):
    """An image (C, H, W) in [0, 1] as (H, W) or (H, W, 3), uint8."""
    return show.plane((image.clamp(0, 1) * 255).round().to(torch.uint8))


def _size(image):
    return image.shape[1], image.shape[2]


def explorer_still(image: Tensor, theta: Tensor) -> Image.Image:
    """Input with window and grid, and what the window shows; image (C, H, W) in [0, 1].

    It is seen from so far away that window and picture are whole.
    """
    shape = torch.tensor(image.shape[:0:-1]) / max(image.shape[1:])  # x, y
    reach = max(1.28, 1.05 * (corners(theta).abs() * shape).max().item())
    sheet = Image.new("RGB", (2 * SIDE, SIDE), show.PAPER)
    sheet.paste(show.FAINT, (0, 0, SIDE, SIDE))
    warped = warp(image[None], theta)[0]
    for middle, picture, far in ((SIDE // 2, image, reach), (3 * SIDE // 2, warped, 1.28)):
        width, height = (round(length) for length in (shape * SIDE / far).tolist())
        frame = middle - width // 2, (SIDE - height) // 2, width, height
        pixels = Image.fromarray(_bytes(picture))
        sheet.paste(pixels.resize((width, height), Image.Resampling.NEAREST), frame[:2])
        if picture is image:
            show.window(sheet, theta, frame, line=3, dot=5, dots=10)
    return sheet


def explore_html(image: Tensor) -> str:
    """Sliders for theta over one image (C, H, W) in [0, 1], C 1 or 3, as a self-contained page.

    It moves without a kernel.
    """
    pixels = json.dumps(_bytes(image).tolist(), separators=(",", ":"))
    still = show.data_uri(
        show.encode(explorer_still(image, affine(25.0, 0.7, size=_size(image)))), "png"
    )
    return fill("explorer.html", PIXELS=pixels, SLIDERS=json.dumps(SLIDERS), STILL=still)


def microscope_html(image: Tensor) -> str:
    """A microscope for the sampler, as a self-contained page: it moves without a kernel.

    Point at a pixel of the output, and see where it reads the small picture (n, n), whole numbers
    from 0 on: its four neighbours with their weights, the value, and where the value grows.
    """
    still = explorer_still(image[None].float() / image.max(), affine(shift_x=0.25))
    uri = show.data_uri(show.encode(still), "png")
    return fill("microscope.html", PIXELS=json.dumps(image.int().tolist()), STILL=uri)


def explore_widget(image: Tensor) -> Any:
    """Sliders for theta over one image (C, H, W) in [0, 1], as ipywidgets: the kernel warps."""
    import ipywidgets

    sliders = [
        ipywidgets.FloatSlider(description=name, min=low, max=high, value=start, step=step)
        for name, low, high, start, step in SLIDERS
    ]
    picture, matrix = ipywidgets.Image(format="png", width=560), ipywidgets.HTML()

    def update(_=None):
        theta = affine(*(slider.value for slider in sliders), size=_size(image))
        picture.value = show.encode(explorer_still(image, theta))
        rows = ("&nbsp;&nbsp;".join(f"{value:+.2f}" for value in row) for row in theta[0].tolist())
        matrix.value = "<code>theta =<br>" + "<br>".join(rows) + "</code>"

    for slider in sliders:
        slider.observe(update, "value")
    update()
    return ipywidgets.VBox([picture, ipywidgets.HBox([ipywidgets.VBox(sliders), matrix])])


def player_widget(pictures: Sheets) -> Any:
    """The epoch player as ipywidgets 7.7 or 8: a slider and a play button, while a kernel runs."""
    import ipywidgets

    encoded = [show.encode(p) for p in pictures]
    last = len(encoded) - 1
    image = ipywidgets.Image(value=encoded[last], format="png")
    slider = ipywidgets.IntSlider(value=last, max=last, description="epoch")
    button = ipywidgets.Play(value=last, max=last, interval=500)
    slider.observe(lambda change: image.set_trait("value", encoded[change["new"]]), "value")
    ipywidgets.link((button, "value"), (slider, "value"))  # not jslink: long broken on Colab
    return ipywidgets.VBox([image, ipywidgets.HBox([button, slider])])


def play_widget(runs: Runs, count: int | None = None) -> Any:
    """The epoch player as ipywidgets; runs and count as in `show.frames`."""
    return player_widget(show.frames(runs, count))
