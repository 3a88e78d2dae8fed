"""Draw the layer, what theta's six numbers do, and several looks, as SVG: assets/images/*.svg.

    python tools/drawings.py

The layer is drawn once whole, and once for every part that a chapter lights up.
"""

from html import escape
from pathlib import Path

from stn_utils import show
from stn_utils.warp import corners, identity

IMAGES = Path(__file__).resolve().parents[1] / "assets" / "images"
FONT = "font-family='sans-serif' text-anchor='middle'"
# name of a part: left, top, its words, what comes out of it
PARTS = {
    "localization": (150, 20, ["localization net", "looks, answers"], "theta (B, 2, 3)"),
    "grid": (360, 20, ["grid", "where to read"], "grid (B, h, w, 2)"),
    "sampler": (570, 100, ["sampler", "reads there"], "x_warped (B, C, h, w)"),
    "classifier": (790, 100, ["classifier", "what is it?"], "logits (B, classes)"),
}
WIDE, HIGH = 140, 56


def text(x, y, words, size=14, color=show.INK, weight="normal"):
    return (
        f"<text x='{x}' y='{y}' {FONT} font-size='{size}' font-weight='{weight}' "
        f"fill='{color}'>{words}</text>"
    )


def arrow(points, color=show.INK, dashed=False):
    """A line through the points, with a head at its end."""
    way = " ".join(f"{x},{y}" for x, y in points)
    dash = " stroke-dasharray='5 4'" if dashed else ""
    head = "back" if dashed else "forth"
    return (
        f"<polyline points='{way}' fill='none' stroke='{color}' stroke-width='2'{dash} "
        f"marker-end='url(#{head})'/>"
    )


def box(name, lit):
    left, top, (title, words), _ = PARTS[name]
    fill, ink = (show.WINDOW, show.PAPER) if lit else ("#f1f3f5", show.INK)
    middle = left + WIDE / 2
    return (
        f"<rect x='{left}' y='{top}' width='{WIDE}' height='{HIGH}' rx='8' fill='{fill}' "
        f"stroke='{show.INK}'/>"
        + text(middle, top + 24, title, 15, ink, "bold")
        + text(middle, top + 44, words, 12, ink)
    )


def layer(lit=()):
    """The whole network: forwards in ink, the way of the gradient in orange."""
    parts = [heads(), "".join(box(name, name in lit) for name in PARTS)]
    parts += [text(60, 122, "x", 20, weight="bold"), text(60, 142, "(B, C, H, W)", 12)]
    parts += [arrow([(60, 102), (60, 48), (148, 48)]), arrow([(108, 128), (568, 128)])]
    parts += [arrow([(290, 40), (358, 40)]), text(326, 14, "theta", 13, weight="bold")]
    parts += [text(326, 30, "(B, 2, 3)", 11)]
    parts += [arrow([(500, 40), (625, 40), (625, 98)]), text(566, 14, "grid", 13, weight="bold")]
    parts += [text(566, 30, "(B, h, w, 2)", 11)]
    parts += [arrow([(710, 120), (788, 120)]), text(750, 84, "x_warped", 13, weight="bold")]
    parts += [text(750, 100, "(B, C, h, w)", 11)]
    parts += [arrow([(930, 128), (978, 128)]), text(1015, 124, "logits", 13, weight="bold")]
    parts += [text(1015, 140, "(B, classes)", 11)]
    back = show.WINDOW
    parts += [arrow([(788, 142), (712, 142)], back, True)]
    parts += [arrow([(655, 98), (655, 60), (502, 60)], back, True)]
    parts += [arrow([(358, 60), (292, 60)], back, True)]
    parts += [
        text(540, 182, "dashed: the way of the gradient; no label says where to look", 13, back)
    ]
    return svg(1070, 195, "".join(parts), "The layer: a localization net answers theta, the grid "
               "says where to read, the sampler reads there, the classifier sees the result; "
               "the gradient flows back the same way")  # fmt: skip


def heads():
    return "<defs>" + "".join(
        f"<marker id='{name}' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' "
        f"markerHeight='7' orient='auto'><path d='M0,0 L8,4 L0,8 z' fill='{color}'/></marker>"
        for name, color in (("forth", show.INK), ("back", show.WINDOW))
    ) + "</defs>"  # fmt: skip


def tile(left, top, wide, words, fill="#f1f3f5"):
    """A rounded box, 44 high, with a word in it."""
    return (
        f"<rect x='{left}' y='{top}' width='{wide}' height='44' rx='8' fill='{fill}' "
        f"stroke='{show.INK}'/>" + text(left + wide / 2, top + 27, words, 14, weight="bold")
    )


def unrolled():
    """Three looks: forwards in ink, the way of the gradient in orange, and where it is cut."""
    parts = [heads(), text(60, 66, "theta = I", 14, weight="bold"), arrow([(105, 61), (168, 61)])]
    parts += [text(60, 266, "x", 20, weight="bold"), arrow([(75, 261), (148, 261)])]
    for k in range(3):
        left = 150 + 270 * k
        parts += [tile(left + 20, 40, 130, "compose"), tile(left, 140, 170, "localization net")]
        parts += [tile(left, 240, 170, f"picture {k + 1}", show.PAPER)]
        parts += [arrow([(left + 60, 240), (left + 60, 186)])]
        parts += [arrow([(left + 60, 140), (left + 60, 86)])]
        parts += [text(left + 18, 118, "step / 3", 12)]
        parts += [arrow([(left + 110, 86), (left + 110, 138)], show.WINDOW, True)]
        if k:
            cross = f"M{left + 46},206 l28,14 m0,-14 l-28,14"
            parts += [f"<path d='{cross}' stroke='{show.WINDOW}' stroke-width='3'/>"]
            parts += [text(left + 116, 218, "detach", 13, show.WINDOW)]
        after = "classifier" if k == 2 else ""
        parts += [arrow([(left + 150, 52), (left + (288 if k < 2 else 250), 52)])]
        parts += [text(left + (218 if k < 2 else 206), 42, f"theta {k + 1}", 12)]
        if k < 2:
            parts += [arrow([(left + 288, 72), (left + 152, 72)], show.WINDOW, True)]
            parts += [arrow([(left + 220, 52), (left + 220, 262), (left + 268, 262)])]
        else:
            parts += [arrow([(left + 250, 72), (left + 152, 72)], show.WINDOW, True)]
            parts += [text(left + 292, 58, after, 14, weight="bold")]
    parts += [text(480, 318, "each picture is x, read through the theta so far", 13)]
    parts += [text(480, 340, "dashed: the way of the gradient", 13, show.WINDOW)]
    words = (
        "Three looks, unrolled: each shows the localization net what the window shows now, and "
        "composes its step with theta; the gradient runs back through the thetas, and is cut "
        "where the picture is handed on"
    )
    return svg(1040, 355, "".join(parts), words)


def svg(width, height, inside, words):
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' role='img' "
        f"aria-label='{escape(words)}'>"
        f"<rect width='{width}' height='{height}' fill='{show.PAPER}'/>"
        f"{inside}</svg>\n"
    )


def six_numbers():
    """Six pictures: the untouched window, and where it goes when one number of theta changes."""
    steps = [(0.6, "a11: wide"), (0.5, "a12: slant"), (0.5, "tx: right"),
             (0.5, "a21: slant"), (0.6, "a22: high"), (0.5, "ty: down")]  # fmt: skip
    parts = []
    for i, (value, name) in enumerate(steps):
        theta = identity()
        theta[0, i // 3, i % 3] = value
        left, top, side = 60 + 220 * (i % 3), 50 + 210 * (i // 3), 100
        place = (corners(theta)[0] + 1) / 2 * side
        rim = " ".join(f"{left + x:.1f},{top + y:.1f}" for x, y in place.tolist())
        parts.append(
            f"<rect x='{left}' y='{top}' width='{side}' height='{side}' fill='#f1f3f5' "
            f"stroke='{show.FAINT}'/><polygon points='{rim}' fill='none' stroke='{show.WINDOW}' "
            f"stroke-width='3'/>"
        )
        x, y = place[0].tolist()
        parts.append(f"<circle cx='{left + x:.1f}' cy='{top + y:.1f}' r='6' fill='{show.WINDOW}'/>")
        parts.append(text(left + side / 2, top + side + 42, f"{name}  ({value:g})", 14))
    return svg(640, 430, "".join(parts), "What each of theta's six numbers does to the window")


if __name__ == "__main__":
    IMAGES.mkdir(exist_ok=True)
    (IMAGES / "layer.svg").write_text(layer())
    for name in PARTS:
        (IMAGES / f"layer-{name}.svg").write_text(layer((name,)))
    (IMAGES / "theta.svg").write_text(six_numbers())
    (IMAGES / "unrolled.svg").write_text(unrolled())
