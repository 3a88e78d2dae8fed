"""Sliders. Each comes twice: as ipywidgets, where a kernel runs, and as one string of HTML that needs none."""

import hashlib
import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from . import show
from .warp import affine, compose, corners, identity, warp

TEMPLATES = Path(__file__).parent / "templates"
SLIDERS = [  # name, low, high, start, step: the arguments of warp.affine
    ["angle", -180, 180, 0, 5],
    ["scale", 0.2, 2, 1, 0.05],
    ["shift_x", -1, 1, 0, 0.05],
    ["shift_y", -1, 1, 0, 0.05],
    ["shear", -1, 1, 0, 0.05],
]


def _fill(template, **values):
    """Put values into a template; the id follows from the content, so equal players are equal text."""
    page = (TEMPLATES / template).read_text()
    for name, value in values.items():
        page = page.replace(f"__{name}__", str(value))
    return page.replace("__ID__", "stn-" + hashlib.md5(page.encode()).hexdigest()[:12])


def player_html(pictures, still):
    """A self-contained player: a picture (PIL) an epoch, with slider, play button and arrow keys; no kernel, no network.

    still (PIL) is what a reader sees where scripts do not run.
    """
    uris = [show.data_uri(show.encode(p, "webp", quality=75, method=6), "webp") for p in pictures]
    strip = show.data_uri(show.encode(still, "webp", quality=75, method=6), "webp")
    return _fill("player.html", WIDTH=pictures[0].width, STRIP=strip, FRAMES=json.dumps(uris), START=len(pictures) - 1)


def player_widget(pictures):
    """The same player as ipywidgets 7.7 or 8: slider and play button move the picture while a kernel runs."""
    import ipywidgets

    encoded = [show.encode(p) for p in pictures]
    last = len(encoded) - 1
    image = ipywidgets.Image(value=encoded[last], format="png")
    slider = ipywidgets.IntSlider(value=last, max=last, description="epoch")
    button = ipywidgets.Play(value=last, max=last, interval=500)
    slider.observe(lambda change: image.set_trait("value", encoded[change["new"]]), "value")
    ipywidgets.link((button, "value"), (slider, "value"))  # not jslink: it was long broken on Colab
    return ipywidgets.VBox([image, ipywidgets.HBox([button, slider])])


def play(runs, count=None):
    """Show the epoch player: a slider that works in Colab, JupyterLab and exported pages; runs, count as in `show.frames`."""
    from IPython.display import HTML, display

    display(HTML(player_html(show.frames(runs, count), show.filmstrip(runs, count))))


def play_widget(runs, count=None):
    """The epoch player as ipywidgets; runs and count as in `show.frames`."""
    return player_widget(show.frames(runs, count))


def _explorer_still(image, theta):
    """Input with window and grid, and what the window shows, as one PIL picture; image (1, H, W) in [0, 1]."""
    side, edge = 280, 40
    sheet = Image.new("RGB", (2 * side + 3 * edge, side + 2 * edge), show.PAPER)
    for left, picture in ((edge, image), (2 * edge + side, warp(image[None], theta)[0])):
        plane = Image.fromarray((picture[0].clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        sheet.paste(plane.resize((side, side), Image.Resampling.NEAREST), (left, edge))
    box = [tuple(p) for p in ((corners(theta)[0] + 1) / 2 * side + edge).tolist()]
    pen = ImageDraw.Draw(sheet)
    pen.line(box + box[:2], fill=show.WINDOW, width=3)
    pen.ellipse([box[0][0] - 5, box[0][1] - 5, box[0][0] + 5, box[0][1] + 5], fill=show.WINDOW)
    return sheet


def explore_html(image):
    """Sliders for theta over one image (1, H, H) in [0, 1], as a self-contained page: it moves without a kernel."""
    pixels = (image[0] * 255).round().int().tolist()
    still = show.data_uri(show.encode(_explorer_still(image, affine(25.0, 0.7))), "png")
    return _fill("explorer.html", PIXELS=json.dumps(pixels), SLIDERS=json.dumps(SLIDERS), STILL=still)


def explore_widget(image):
    """Sliders for theta over one image (1, H, H) in [0, 1], as ipywidgets: the kernel does the warp."""
    import ipywidgets

    sliders = [ipywidgets.FloatSlider(description=n, min=a, max=b, value=v, step=s) for n, a, b, v, s in SLIDERS]
    picture, matrix = ipywidgets.Image(format="png", width=560), ipywidgets.HTML()

    def update(_=None):
        theta = affine(*(slider.value for slider in sliders))
        picture.value = show.encode(_explorer_still(image, theta))
        rows = ("&nbsp;&nbsp;".join(f"{value:+.2f}" for value in row) for row in theta[0].tolist())
        matrix.value = "<code>theta =<br>" + "<br>".join(rows) + "</code>"

    for slider in sliders:
        slider.observe(update, "value")
    update()
    return ipywidgets.VBox([picture, ipywidgets.HBox([ipywidgets.VBox(sliders), matrix])])


class Episode:
    """A reader's own moves on one image x (1, 1, H, W) of class y, seen by a trained ReinforcedNet: no widget in it."""

    def __init__(self, net, x, y):
        self.net, self.x, self.y, self.transformer = net.eval(), x, y, net.transformer
        self.theta, self.moves = identity(), []

    def look(self, theta):
        """What theta shows (1, H, W), the answer, its probability, and the loss."""
        with torch.no_grad():
            view = self.transformer.view(self.net.before(self.x), theta)
            logits = self.net.classifier(self.net.after(view))
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor([self.y])).item()
        return view[0], logits.argmax().item(), logits.softmax(dim=1).max().item(), loss

    def move(self, number):
        """Make one more move; returns its reward, the decrease of the loss."""
        before = self.look(self.theta)[3]
        self.theta = compose(self.theta, self.transformer.moves[[number]])
        self.moves.append(number)
        return before - self.look(self.theta)[3]

    def policy_loss(self):
        """The loss after as many moves of the policy's own."""
        return self.look(self.net.looks(self.x)[-1])[3]


def policy_widget(net, x, y, names):
    """Buttons for the moves of a reinforced transformer on one image x (1, 1, H, W) of class y; names: the moves'."""
    import ipywidgets

    game = Episode(net, x, y)
    picture, text = ipywidgets.Image(format="png", width=560), ipywidgets.HTML()

    def update(reward=None):
        view, answer, chance, loss = game.look(game.theta)
        picture.value = show.encode(_explorer_still(x[0], game.theta))
        left = game.transformer.steps - len(game.moves)
        said = f"It is a {y}. The classifier says {answer} ({100 * chance:.0f} %); loss {loss:.3f}."
        said += f" Last reward {reward:+.3f}." if reward is not None else ""
        said += f" Moves left: {left}." if left else f" Done. The policy ends at loss {game.policy_loss():.3f}."
        text.value = f"<p>{said}</p>"
        for button in buttons:
            button.disabled = not left

    def press(button):
        if len(game.moves) < game.transformer.steps:  # a second press may be quicker than the button's end
            update(game.move(buttons.index(button)))

    def restart(_):
        game.theta, game.moves = identity(), []
        update()

    buttons = [ipywidgets.Button(description=name) for name in names]
    for button in buttons:
        button.on_click(press)
    again = ipywidgets.Button(description="start again", button_style="warning")
    again.on_click(restart)
    update()
    rows = [ipywidgets.HBox(buttons[i : i + 4]) for i in range(0, len(buttons), 4)]
    return ipywidgets.VBox([picture, text, *rows, again])
