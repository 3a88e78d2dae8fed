"""assets/play.html in a real browser, as a file: it computes what torch computes, and it can be played."""

import importlib
import json
import re
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import torch

from stn_utils.warp import affine, invert, make_grid, sample

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "assets" / "play.html"
REACH = 1.6  # of the plane is on the stage; the canvas is 1
START = "#network=stnet&epoch=8&digit=4&x=0&y=0&angle=0&scale=1"


@pytest.fixture
def play(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("play")


@pytest.fixture
def opened(tab):
    """Open the page as a file with a hash, the network cut; anything it asks for beyond itself fails the test."""
    asked = []

    def open_page(hash_=START, tab=tab):
        tab.on("request", lambda request: asked.append(request.url))
        tab.context.set_offline(True)
        tab.goto(PAGE.as_uri() + hash_)
        tab.wait_for_function("!document.getElementById('play').hidden")
        return tab

    yield open_page
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def state(page):
    return page.evaluate("({...stnPlay.state})")


def settle(page):
    """Wait until what was asked for is drawn: two frames, not a time."""
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def drawn(page):
    """What the stage and the window's picture show, and the ten numbers."""
    settle(page)
    pictures = [
        page.locator(f"#{name}").evaluate("canvas => canvas.toDataURL()")
        for name in ("stage", "seen")
    ]
    return *pictures, page.locator("#bars").inner_text()


def at(page, x, y):
    """Where a place of the plane is on the screen; the canvas is [-1, 1]."""
    box = page.locator("#stage").bounding_box()
    return tuple(
        box[edge] + (v / REACH + 1) / 2 * box[side]
        for v, edge, side in ((x, "x", "width"), (y, "y", "height"))
    )


def drag(page, begin, end):
    page.mouse.move(*at(page, *begin))
    page.mouse.down()
    page.mouse.move(*at(page, *end), steps=5)
    page.mouse.up()
    settle(page)


# ---- what it computes ----


def test_theta_and_logits_are_those_of_torch_for_every_network_and_epoch(opened, play):
    content = play.content_of(PAGE.read_text())
    assert len(play.pictures(content)[0]) == 200
    found = play.differences(opened(), content)
    assert len(found) >= 8 and {
        "stnet 0",
        "stnet 8",
        "moments 8",
        "convnet 8",
        "collapsed 8",
    } <= set(found)
    assert max(found.values()) <= play.TOLERANCE, found


def test_the_canvas_is_the_one_that_the_course_makes_of_the_digit_in_that_pose(opened, play):
    content = play.content_of(PAGE.read_text())
    page, images = opened(), play.upright(content["digits"])
    poses = [(0, 0, 0, 1), (0.3, -0.2, 30, 0.8), (-0.9, 0.9, -120, 1.7), (0.1, 0.4, 180, 0.4)]
    for (x, y, angle, scale), image in zip(poses, images):
        pose = affine(angle, scale * 28 / 42, x, y)
        wanted = sample(image[None].float(), make_grid(invert(pose), (42, 42))).round().flatten()
        place = dict(x=x, y=y, angle=angle, scale=scale)
        pixels = image.flatten().tolist()
        made = page.evaluate("([pixels, pose]) => stnPlay.place(pixels, pose)", [pixels, place])
        assert (torch.tensor(made) - wanted).abs().max() <= 1  # the two may round a half apart


def test_what_is_shown_is_what_is_computed(opened):
    page = opened(START.replace("angle=0", "angle=20"))
    logits, theta = page.evaluate("""() => {
        const {digits} = JSON.parse(document.getElementById("content").textContent);
        const digit = Uint8Array.from(atob(digits[stnPlay.state.digit].pixels), c => c.charCodeAt(0));
        const {logits, theta} = stnPlay.run("stnet", 8, stnPlay.place(digit, stnPlay.state));
        return [logits, theta];
    }""")
    chances = 100 * torch.tensor(logits).softmax(dim=0)
    lines = page.locator("#bars li").all_inner_texts()
    shown = [[int(number) for number in line.split()] for line in lines]
    assert [digit for digit, _ in shown] == list(range(10))
    assert [value for _, value in shown] == pytest.approx(chances.tolist(), abs=0.51)
    best = chances.argmax().item()
    assert page.locator("#bars .wins").inner_text().split()[0] == str(best)
    assert f"It says {best}, " in page.locator("#says").inner_text()
    # Just beyond the window's first corner, where its line does not reach, is the dot.
    a, b, x, c, d, y = theta
    far = torch.tensor([a + b, c + d]).norm().item()
    beyond = 1 + 10 / (page.evaluate("stage.width") / 2 / REACH * far)
    colours = [
        page.evaluate(
            """([x, y]) => [...stage.getContext("2d").getImageData(
                (x / 1.6 + 1) / 2 * stage.width, (y / 1.6 + 1) / 2 * stage.height, 1, 1).data]""",
            [x + end * beyond * (a + b), y + end * beyond * (c + d)],
        )
        for end in (-1, 1)  # the first corner, and the one across
    ]
    assert colours[0] == [0xE8, 0x59, 0x0C, 255] != colours[1]


def test_a_drawing_comes_into_the_form_of_mnist(opened):
    page = opened()
    for left, top, width, height in [(10, 20, 60, 100), (100, 90, 130, 40), (3, 3, 9, 9)]:
        made = page.evaluate(
            """([left, top, width, height]) => {
                const ink = new Uint8Array(280 * 280);
                for (let i = 0; i < height; i++) for (let j = 0; j < width; j++)
                    ink[(top + i) * 280 + left + j] = i < height / 3 ? 255 : 128;
                return [...stnPlay.mnistForm(ink, 280)];
            }""",
            [left, top, width, height],
        )
        picture = torch.tensor(made).view(28, 28)
        rows, columns = (picture.amax(dim=d) > 12 for d in (1, 0))
        sides = rows.sum().item(), columns.sum().item()
        assert max(sides) in (20, 21)  # 21 where an edge falls between two pixels
        assert min(sides) == pytest.approx(20 * min(width, height) / max(width, height), abs=1.1)
        places = torch.arange(28) + 0.5
        for axis in (0, 1):
            mean = (picture.sum(dim=1 - axis) * places).sum() / picture.sum()
            assert mean == pytest.approx(14, abs=0.15)
    assert page.evaluate("stnPlay.mnistForm(new Uint8Array(280 * 280), 280)") is None


# ---- how it is played ----


def test_a_drag_by_mouse_moves_the_digit_and_the_window_follows(opened):
    page = opened()
    before = drawn(page)
    drag(page, (0, 0), (0.3, -0.2))
    now = state(page)
    assert now["x"] == pytest.approx(0.3, abs=0.02) and now["y"] == pytest.approx(-0.2, abs=0.02)
    assert now["angle"] == 0 and now["scale"] == 1
    assert all(one != other for one, other in zip(before[:2], drawn(page)[:2]))


def test_the_handle_turns_and_scales_and_the_digit_stays_in_its_place(opened):
    page = opened()
    half = 28 / 42
    drag(page, (half, -half), (0.8 * half, 0.8 * half))  # a quarter turn clockwise, smaller
    now = state(page)
    assert now["angle"] == pytest.approx(90, abs=1) and now["scale"] == pytest.approx(0.8, abs=0.02)
    assert (now["x"], now["y"]) == (0, 0)
    assert "beyond its training" in page.locator("#angle-said").inner_text()
    assert "beyond" not in page.locator("#scale-said").inner_text()


def test_a_digit_cannot_be_lost_off_the_canvas(opened):
    page = opened()
    drag(page, (0, 0), (5, -5))
    assert (state(page)["x"], state(page)["y"]) == (1, -1)


@pytest.fixture
def phone(chromium):
    """A page as on a phone with touch, 360 pixels wide."""
    context = chromium.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    yield page
    assert page.problems == []
    context.close()


@pytest.fixture
def touch(phone):
    """Put fingers on the phone's screen, move them, take them off."""
    session = phone.context.new_cdp_session(phone)

    def send(kind, *places):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    return send


def test_one_finger_moves_and_two_turn_and_scale(opened, phone, touch):
    page = opened(tab=phone)
    touch("touchStart", at(page, 0, 0))
    touch("touchMove", at(page, -0.4, 0.2))
    touch("touchEnd")
    now = state(page)
    assert now["x"] == pytest.approx(-0.4, abs=0.02) and now["y"] == pytest.approx(0.2, abs=0.02)
    touch("touchStart", at(page, -0.4, 0), at(page, 0.4, 0))
    touch("touchMove", at(page, 0, -0.5), at(page, 0, 0.5))
    touch("touchEnd")
    now = state(page)
    assert now["angle"] == pytest.approx(90, abs=2) and now["scale"] == pytest.approx(
        1.25, abs=0.03
    )
    assert page.evaluate("scrollY") == 0


def test_at_phone_width_nothing_reaches_beyond_the_page(opened, phone):
    for network in ("stnet", "moments", "convnet", "collapsed"):
        page = opened(START.replace("stnet", network), tab=phone)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        box = page.locator("#bars").bounding_box()
        assert box["y"] + box["height"] <= 740, "the answer is not on the first screen"


KEYS = {
    "ArrowRight": ("x", 2 / 42),
    "ArrowLeft": ("x", -2 / 42),
    "ArrowDown": ("y", 2 / 42),
    "ArrowUp": ("y", -2 / 42),
    "]": ("angle", 5),
    "[": ("angle", -5),
    "Shift+ArrowRight": ("angle", 5),
    "Shift+ArrowLeft": ("angle", -5),
    "+": ("scale", 0.05),
    "-": ("scale", -0.05),
}


def test_every_key_does_its_own(opened):
    page = opened()
    page.locator("#stage").focus()
    for key, (name, step) in KEYS.items():
        before = state(page)
        page.keyboard.press(key)
        assert state(page) == {**before, name: pytest.approx(before[name] + step)}, key
    page.keyboard.press("Control+ArrowLeft")
    assert state(page) == {**before, "scale": pytest.approx(1)}


def test_all_is_reached_by_tab_has_a_name_and_shows_its_focus(opened):
    page = opened()
    seen = []
    while True:
        page.keyboard.press("Tab")
        found = page.evaluate("""() => {
            const one = document.activeElement, label = one.labels && one.labels[0];
            const shown = one.type === "radio" ? one.nextElementSibling : one;
            return one === document.body ? null : [
                one.id || one.name, one.getAttribute("aria-label") || (label || one).textContent,
                getComputedStyle(shown).outlineStyle];
        }""")
        if found is None or found in seen:
            break
        seen.append(found)
    names = [name for name, *_ in seen]
    assert names == ["stage", "network", "epoch", "digit", "clear", "angle", "scale"]
    assert all(label.strip() and outline == "solid" for _, label, outline in seen), seen


def test_the_answer_is_spoken_once_all_is_still(opened):
    page = opened()
    spoken = page.locator("#spoken[aria-live=polite]")
    page.locator("#stage").press("]")
    settle(page)
    says = page.locator("#says").inner_text()
    assert re.match(r"It says \d, \d+ % sure\.", says)
    page.wait_for_function("text => spoken.textContent.startsWith(text)", arg=says)
    assert spoken.count() == 1


def test_epochs_and_networks_change_the_answer_and_one_epoch_alone_is_said(opened):
    page = opened(START.replace("angle=0", "angle=40"))
    pictures = [drawn(page)]
    for index in ("0", "1", "2", "3"):
        page.locator("#epoch").fill(index)
        pictures.append(drawn(page))
    assert len({stage for stage, *_ in pictures}) == 5
    assert page.locator("#epoch-said").inner_text() == "epoch 4"
    for title in ("Plain CNN", "Collapsed"):
        page.get_by_label(title).check()
        pictures.append(drawn(page))
        assert page.locator("#epoch").is_disabled()
        assert "the only one here" in page.locator("#epoch-said").inner_text()
    assert len({bars for *_, bars in pictures}) == 7
    page.get_by_label("Spatial transformer").check()
    assert drawn(page) == pictures[4]  # epoch 4, as it was left


def test_the_collapsed_window_is_off_the_canvas_and_the_page_says_so(opened):
    page = opened(START.replace("stnet", "collapsed"))
    assert "off the canvas" in page.locator("#note").inner_text()
    assert (
        page.evaluate("""() => {
        const {data} = seen.getContext("2d").getImageData(0, 0, 28, 28);
        return new Set(data.filter((_, i) => i % 4 < 3)).size;
    }""")
        == 1
    )


# ---- the address ----


def test_the_setting_is_in_the_address_and_comes_back_from_it(opened):
    page = opened()
    page.locator("#stage").focus()
    for key in ("ArrowRight", "ArrowUp", "]", "+"):
        page.keyboard.press(key)
    page.get_by_label("another 3").check()
    page.locator("#epoch").fill("2")
    wanted = state(page)
    page.wait_for_function(
        "location.hash.includes('digit=13') && location.hash.includes('epoch=2')"
    )
    hash_ = page.evaluate("location.hash")
    assert {k: v for k, (v,) in parse_qs(hash_[1:]).items()}.keys() == wanted.keys()
    before = drawn(page)
    page.goto("about:blank")
    again = opened(hash_)
    assert state(again) == {k: pytest.approx(v, abs=1e-3) for k, v in wanted.items()}
    assert again.locator("#says").inner_text() == page.locator("#says").inner_text()
    assert drawn(again)[2] == before[2]
    again.evaluate(f"location.hash = {json.dumps(START)}")
    again.wait_for_function("stnPlay.state.digit === '4' && stnPlay.state.x === 0")


@pytest.mark.parametrize(
    "hash_",
    ["#", "#nonsense", "#network=none&epoch=x&digit=99&x=NaN&y=&angle=1e9&scale=-3", "#epoch=7.6"],
)
def test_a_damaged_address_breaks_nothing(opened, hash_):
    page = opened(hash_)
    now = state(page)
    assert now["network"] == "stnet" and -1 <= now["x"] <= 1 and 0.4 <= now["scale"] <= 1.8
    assert -180 <= now["angle"] <= 180
    assert page.locator("#bars .wins").count() == 1
    assert page.evaluate("stnPlay.epoch()") == 8


# ---- a drawing of one's own ----


def stroke(page):
    box = page.locator("#pad").bounding_box()
    page.mouse.move(box["x"] + 90, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 150, steps=6)
    page.mouse.up()


def test_a_drawing_becomes_the_digit_and_without_ink_the_page_says_so(opened):
    page = opened(START.replace("digit=4", "digit=drawn"))
    assert "No ink yet" in page.locator("#says").inner_text()
    assert page.locator("#no-ink").is_visible()
    assert page.locator("#bars .wins").count() == 0
    empty = drawn(page)
    stroke(page)
    settle(page)
    assert page.locator("#no-ink").is_hidden()
    assert page.locator("#says").inner_text().startswith("It says 1")
    assert state(page)["digit"] == "drawn" and drawn(page) != empty
    page.locator("#stage").press("ArrowLeft")
    page.get_by_role("button", name="Clear").click()
    settle(page)
    assert "No ink yet" in page.locator("#says").inner_text()
    for network in ("Plain CNN", "Collapsed"):
        page.get_by_label(network).check()
        settle(page)
        assert "No ink yet" in page.locator("#says").inner_text()
    page.get_by_label("a 7", exact=True).check()
    settle(page)
    assert page.locator("#says").inner_text().startswith("It says")


# ---- browsers that cannot ----


def test_without_scripts_the_page_says_so(chromium):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(PAGE.as_uri())
    assert page.locator("noscript p").is_visible()  # playwright finds no text in a noscript
    assert not page.locator("#play").is_visible() and not page.locator("#lacks").is_visible()
    context.close()


@pytest.mark.parametrize(
    "lack",
    ["delete window.PointerEvent", "HTMLCanvasElement.prototype.getContext = () => null"],
)
def test_a_browser_that_lacks_something_is_told(tab, lack):
    tab.add_init_script(lack)
    tab.goto(PAGE.as_uri())
    assert tab.locator("#lacks").is_visible() and not tab.locator("#play").is_visible()


def test_dark_mode_is_dark_and_light_mode_is_light(chromium):
    for scheme, low, high in (("dark", 0, 80), ("light", 200, 255)):
        context = chromium.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(PAGE.as_uri())
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert all(low <= int(part) <= high for part in re.findall(r"\d+", color)), color
        context.close()
