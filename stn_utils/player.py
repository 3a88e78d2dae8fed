"""The epoch player: one string of HTML that needs no kernel."""

import hashlib
import json
from pathlib import Path
from typing import Any

from PIL import Image

from . import show
from .show.sheets import Runs, Sheets

TEMPLATES = Path(__file__).parent / "templates"


def fill(template: str, **values: Any) -> str:
    """Put values into a template; the id follows from the content: equal players, equal text."""
    page = (TEMPLATES / template).read_text()
    for name, value in values.items():
        page = page.replace(f"__{name}__", str(value))
    return page.replace("__ID__", "stn-" + hashlib.md5(page.encode()).hexdigest()[:12])


def player_html(pictures: Sheets, still: Image.Image, unit: str = "epoch", first: int = 0) -> str:
    """A self-contained player: a picture an epoch, with slider, play button and arrow keys.

    It needs no kernel and no network. still is what a reader sees where scripts do not run. unit,
    first: what a picture stands for, and the number of the first.
    """

    def uri(picture):
        return show.data_uri(show.encode(picture, "webp", quality=75, method=6), "webp")

    return fill(
        "player.html",
        WIDTH=pictures[0].width,
        START=len(pictures) - 1,
        STRIP=uri(still),
        UNIT=unit,
        FIRST=first,
        FRAMES=json.dumps([uri(picture) for picture in pictures]),
    )


def play(runs: Runs, count: int | None = None) -> None:
    """Show the epoch player: a slider that works in Colab, JupyterLab and exported pages.

    runs and count as in `show.frames`.
    """
    from IPython.display import HTML, display

    display(HTML(player_html(show.frames(runs, count), show.filmstrip(runs, count))))
