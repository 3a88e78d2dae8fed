"""The sliders in a real browser: as an exported page without a network, and inside JupyterLab."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pytest
import torch
from PIL import Image

from stn_utils.exercises.explorer import explore_html, microscope_html
from stn_utils.player import player_html
from stn_utils.warp import affine, warp

LABELS = ["epoch 0", "epoch 1", "epoch 2"]


def player_page():
    pictures = [Image.new("RGB", (120, 60), colour) for colour in ("red", "green", "blue")]
    return player_html(pictures, still=pictures[0])


def soft_picture():
    """A picture (1, 12, 12) in [0, 1] of whole grey levels, no two rows or columns alike."""
    rows, columns = torch.meshgrid(torch.arange(12), torch.arange(12), indexing="ij")
    return ((rows * 17 + columns * 5) % 256 / 255)[None]


def shown(player):
    return player.locator("output").inner_text(), player.locator("img.frame").get_attribute("src")


def frames_of(page_text):
    return json.loads(re.search(r"frames = (\[.*?\]);", page_text)[1])


def expect_frame(player, frames, i):
    assert shown(player) == (LABELS[i], frames[i])


# ---- exported: a file, no kernel, no network ----


@pytest.fixture
def exported(tab, tmp_path):
    """Open a page's text as a file, the network cut; anything it asks for beyond itself fails the test."""
    asked = []

    def open_page(text):
        (tmp_path / "page.html").write_text(f"<!doctype html><meta charset='utf-8'>{text}")
        tab.on("request", lambda request: asked.append(request.url))
        tab.clock.install(time=0)
        tab.goto((tmp_path / "page.html").as_uri())
        return tab

    tab.context.set_offline(True)
    yield open_page
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == 1


def test_the_exported_player_starts_at_the_last_epoch_and_follows_its_slider(exported):
    text = player_page()
    player = exported(text).locator(".stn-player")
    expect_frame(player, frames_of(text), 2)
    for i in (0, 2, 1):
        player.locator("input").fill(str(i))
        expect_frame(player, frames_of(text), i)


def test_the_exported_player_follows_the_mouse(exported):
    text = player_page()
    player = exported(text).locator(".stn-player")
    box = player.locator("input").bounding_box()
    for i, place in ((0, 0.03), (1, 0.5), (2, 0.97)):
        player.page.mouse.click(box["x"] + place * box["width"], box["y"] + box["height"] / 2)
        expect_frame(player, frames_of(text), i)


def test_the_exported_player_follows_the_keyboard_and_stops_at_both_ends(exported):
    text = player_page()
    player = exported(text).locator(".stn-player")
    player.locator("input").focus()
    steps = [
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("Home", 0),
        ("ArrowLeft", 0),
        ("ArrowRight", 1),
        ("End", 2),
    ]
    for key, i in steps:
        player.page.keyboard.press(key)
        expect_frame(player, frames_of(text), i)


def test_play_goes_through_every_epoch_to_the_last_and_stops_there(exported):
    player = exported(player_page()).locator(".stn-player")
    player.evaluate("""root => {
        window.seen = [];
        new MutationObserver(() => window.seen.push(root.querySelector("output").textContent))
            .observe(root.querySelector("output"), {childList: true});
    }""")
    button, clock = player.locator("button"), player.page.clock
    clock.pause_at(3_600_000)  # from here on time stands still, but for what the test lets pass
    at_rest = button.inner_text()
    button.click()
    assert button.inner_text() != at_rest
    clock.run_for(60_000)
    assert player.page.evaluate("window.seen") == LABELS and button.inner_text() == at_rest


def test_play_pauses_when_pressed_again_or_when_the_slider_is_moved(exported):
    player = exported(player_page()).locator(".stn-player")
    button, clock = player.locator("button"), player.page.clock
    clock.pause_at(3_600_000)
    at_rest = button.inner_text()
    for pause in (button.click, lambda: player.locator("input").fill("0")):
        button.click()
        assert button.inner_text() != at_rest
        pause()
        left = shown(player)
        clock.run_for(60_000)
        assert button.inner_text() == at_rest and shown(player) == left
    assert left[0] == LABELS[0]


def test_the_same_player_twice_on_a_page_moves_one_at_a_time(exported):
    text = player_page()
    players = exported(text + text).locator(".stn-player").all()
    players[0].locator("input").fill("0")
    players[1].locator("input").fill("1")
    for i, player in enumerate(players):
        expect_frame(player, frames_of(text), i)


def test_without_scripts_the_still_is_there(chromium, tmp_path):
    context = chromium.new_context(java_script_enabled=False)
    (tmp_path / "page.html").write_text(player_page())
    page = context.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.get_by_alt_text("film strip", exact=False).bounding_box()["width"] == 120
    context.close()


SETTINGS = [
    {},
    {"angle": 30},
    {"angle": -115, "scale": 0.6},
    {"scale": 1.8, "shift_x": 0.4},
    {"shift_x": -0.25, "shift_y": 0.65},
    {"angle": 45, "scale": 0.75, "shift_x": 0.1, "shift_y": -0.2, "shear": 0.5},
]


def colour_picture():
    """A picture (3, 8, 12), no channel like another."""
    picture = soft_picture()[:, :8]
    return torch.cat([picture, picture.flip(2), 1 - picture])


@pytest.mark.parametrize("picture", [soft_picture(), colour_picture()], ids=["grey", "colour"])
def test_the_exported_explorer_shows_the_whole_input_whatever_the_sliders_say(exported, picture):
    explorer = exported(explore_html(picture)).locator(".stn-explorer")
    height, width = picture.shape[1:]
    explorer.locator("input[name=scale]").fill("0.2")  # the window covers little of it
    explorer.locator("input[name=shift_x]").fill("1")
    cell = 360 / 1.28 / max(height, width)  # the window reaches 1.2 half images, times 1.05
    pixels = torch.tensor(
        explorer.locator("canvas.input").evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        )
    ).view(360, 360, 4)
    top, left = (180 - side * cell / 2 for side in (height, width))
    for row in range(height):
        for column in range(width // 2):  # left of the window
            at = int(top + (row + 0.5) * cell), int(left + (column + 0.5) * cell)
            wanted = (picture[:, row, column] * 255).expand(3)
            assert (pixels[at][:3] - wanted).abs().max() <= 1, (row, column)


def test_the_microscope_says_what_the_sampler_reads_and_which_way_it_grows(exported):
    """Value, place and both slopes of every output pixel, against `warp` and autograd."""
    image = torch.randint(9, (5, 5), generator=torch.Generator().manual_seed(1)).double()
    page = exported(microscope_html(image)).locator(".stn-microscope")
    for setting in (
        {"shift_x": 0.31},
        {"shift_x": -0.47, "shift_y": 0.23, "scale": 0.7},
        {"shift_x": 1.5},
    ):
        for name in ("shift_x", "shift_y", "scale"):
            page.locator(f"input[name={name}]").fill(
                str(setting.get(name, 1 if name == "scale" else 0))
            )
        theta = affine(**setting).double().requires_grad_()
        values = warp(image[None, None], theta)[0, 0]
        page.locator("canvas.output").focus()
        for key in (
            ("ArrowUp",) * 5 + ("ArrowLeft",) * 5 + ("ArrowDown", "ArrowRight", "ArrowRight")
        ):
            page.page.keyboard.press(key)
        text = page.locator("pre").inner_text()
        assert "output pixel (row 1, column 2)" in text
        value = float(re.search(r"= (-?\d+\.\d\d)", text)[1])
        right, down = map(
            float, re.search(r"slope  (\S+) a pixel to the right, (\S+) down", text).groups()
        )
        (slope,) = torch.autograd.grad(values[1, 2], theta)
        assert value == pytest.approx(values[1, 2].item(), abs=0.006)
        assert (2.5 * right, 2.5 * down) == pytest.approx(slope[0, :, 2].tolist(), abs=0.03)
        assert ("no gradient here" in text) == (not slope.any())


@pytest.mark.parametrize("picture", [soft_picture(), colour_picture()], ids=["grey", "colour"])
def test_the_exported_explorer_agrees_with_warp_pixel_by_pixel(exported, picture):
    explorer = exported(explore_html(picture)).locator(".stn-explorer")
    pictures = set()
    for setting in SETTINGS:
        for name in ("angle", "scale", "shift_x", "shift_y", "shear"):
            value = setting.get(name, 1 if name == "scale" else 0)
            explorer.locator(f"input[name={name}]").fill(str(value))
        theta = affine(
            **{name: float(value) for name, value in setting.items()}, size=picture.shape[1:]
        )
        ours = (warp(picture[None], theta)[0] * 255).flatten(1).T
        pixels = explorer.locator("canvas.warped").evaluate(
            "canvas => [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
        )
        theirs = torch.tensor(pixels).view(-1, 4)
        assert (theirs[:, :3] - ours).abs().max() <= 1, setting
        assert theirs[:, 3].unique().tolist() == [255]
        printed = [
            float(number)
            for number in re.findall(r"-?\d\.\d\d", explorer.locator("pre").inner_text())
        ]
        assert printed == pytest.approx(theta.flatten().tolist(), abs=0.0051), setting
        pictures.add(explorer.locator("canvas.input").evaluate("canvas => canvas.toDataURL()"))
    assert len(pictures) == len(SETTINGS), "the window on the input does not follow the sliders"


def test_the_exported_explorer_follows_the_keyboard(exported):
    explorer = exported(explore_html(soft_picture())).locator(".stn-explorer")
    explorer.locator("input[name=shift_x]").focus()
    for _ in range(3):
        explorer.page.keyboard.press("ArrowRight")
    assert explorer.locator("pre").inner_text().splitlines()[0].endswith("0.15 ]")


# ---- inside JupyterLab ----

CELLS = [
    "from IPython.display import HTML, display\n"
    "import test_players as made_up\n"
    "from stn_utils.exercises import explorer\n"
    "from PIL import Image",
    "display(HTML(made_up.player_page()))",
    "display(HTML(explorer.explore_html(made_up.soft_picture())))",
    "pictures = [Image.new('RGB', (60, 30), colour) for colour in ('red', 'green', 'blue')]\n"
    "display(explorer.player_widget(pictures))",
    "display(explorer.explore_widget(made_up.soft_picture()))",
    "print('all', 'cells', 'ran')",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, chromium):
    """The address of a JupyterLab of its own, with nothing of the user's, on a notebook of players."""
    pytest.importorskip("jupyterlab", reason="JupyterLab is not installed")
    home = tmp_path_factory.mktemp("lab")
    (home / "root").mkdir()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(notebook, home / "root" / "players.ipynb")
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    folders = {
        name: str(home / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_WORKSPACES_DIR",
                     "IPYTHONDIR")
    }  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parent
    paths = filter(None, [os.environ.get("PYTHONPATH"), str(here.parents[1]), str(here)])
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
         "--ServerApp.port_retries=0", "--IdentityProvider.token=", f"--ServerApp.root_dir={home / 'root'}"],
        env={**os.environ, **folders, "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "OMP_NUM_THREADS": "1",
             "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    said, ready = [], threading.Event()

    def listen():
        for line in server.stderr:
            said.append(line)
            if "is running at" in line:
                ready.set()
        ready.set()  # it has ended

    threading.Thread(target=listen, daemon=True).start()
    ready.wait()
    try:
        assert server.poll() is None, "".join(said)
        yield f"http://127.0.0.1:{port}/lab/tree/players.ipynb"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module")
def notebook(lab, chromium):
    """The notebook in Lab, all its cells run."""
    context = chromium.new_context(viewport={"width": 1300, "height": 3000})
    context.set_default_timeout(600_000)  # a cold disk may take minutes to load torch
    page = context.new_page()
    page.goto(lab)
    page.locator(".jp-Notebook .jp-Cell").nth(len(CELLS) - 1).wait_for()
    page.locator("#jp-main-statusbar").get_by_text(
        "| Idle"
    ).wait_for()  # before it has a kernel, Lab asks which one
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.get_by_text("all cells ran", exact=True).wait_for()
    yield page
    context.close()


def active_cell(page):
    return page.evaluate("[...document.querySelectorAll('.jp-Notebook .jp-Cell')]"
                         ".findIndex(cell => cell.classList.contains('jp-mod-active'))")  # fmt: skip


def test_in_lab_the_player_follows_mouse_and_arrow_keys_and_stays_in_its_cell(notebook):
    player = notebook.locator(".stn-player")
    frames = frames_of(player_page())
    expect_frame(player, frames, 2)
    player.locator("input").click()  # in the middle
    expect_frame(player, frames, 1)
    cell = active_cell(notebook)
    steps = [
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("ArrowUp", 2),
        ("ArrowDown", 1),
        ("Home", 0),
        ("End", 2),
    ]
    for key, i in steps:
        notebook.keyboard.press(key)
        expect_frame(player, frames, i)
        assert active_cell(notebook) == cell, f"{key} went to another cell"


def test_in_lab_the_explorer_follows_arrow_keys_and_stays_in_its_cell(notebook):
    explorer = notebook.locator(".stn-explorer")
    explorer.locator("input[name=shift_y]").click()
    cell, before = active_cell(notebook), explorer.locator("pre").inner_text()
    for key in ("ArrowDown", "ArrowUp"):
        notebook.keyboard.press(key)
        after = explorer.locator("pre").inner_text()
        assert after != before and active_cell(notebook) == cell, key
        before = after


@pytest.mark.parametrize("root", [".stn-player", ".stn-explorer"])
def test_in_lab_shortcuts_with_control_pass_on_to_lab_and_bare_arrows_do_not(notebook, root):
    notebook.locator(f"{root} input").first.focus()
    notebook.locator(root).evaluate("""root => {
        window.passed = [];
        root.parentElement.addEventListener("keydown", event => window.passed.push([event.ctrlKey, event.key]));
    }""")
    for key in ("ArrowRight", "Home", "Control+s"):
        notebook.keyboard.press(key)
    assert [True, "s"] in notebook.evaluate("window.passed")
    assert not {"ArrowRight", "Home"} & {key for _, key in notebook.evaluate("window.passed")}


def test_in_lab_the_widgets_slider_changes_picture_and_number(notebook):
    widget = notebook.locator(".jp-OutputArea-output:has(.widget-play)")
    image, handle = widget.locator("img"), widget.locator(".noUi-handle")
    widget.get_by_text("2", exact=True).wait_for()
    for key, i in (("ArrowLeft", 1), ("ArrowLeft", 0), ("ArrowRight", 1)):
        before = image.get_attribute("src")
        handle.press(key)
        widget.get_by_text(str(i), exact=True).wait_for()
        notebook.wait_for_function(
            "([img, src]) => img.src !== src", arg=[image.element_handle(), before]
        )


def test_in_lab_the_explorer_widgets_slider_changes_picture_and_matrix(notebook):
    widget = notebook.locator(".jp-OutputArea-output:has(code):has(.noUi-handle)")
    image, matrix = widget.locator("img"), widget.locator("code")
    before, theta = image.get_attribute("src"), matrix.inner_text()
    widget.locator(".noUi-handle").nth(1).press("ArrowLeft")
    notebook.wait_for_function(
        "([code, text]) => code.innerText !== text", arg=[matrix.element_handle(), theta]
    )
    notebook.wait_for_function(
        "([img, src]) => img.src !== src", arg=[image.element_handle(), before]
    )
