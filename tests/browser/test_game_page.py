"""Chapter 07's game in a real browser, as a file: no kernel, no network."""

import re

import pytest
import torch

from stn_utils.actions import ACTIONS
from stn_utils.exercises.game import game, game_html
from stn_utils.experiment import Experiment
from stn_utils.models import build
from stn_utils.spec import ImageSpec

MOVES = ACTIONS["shifts-zooms"]
NAMES = [name for name, _ in MOVES]
KEYS = ["s", "ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "+", "-"]


@pytest.fixture(scope="module")
def played():
    """A net of four moves whose weights are drawn, a soft picture, and its class."""
    torch.manual_seed(0)
    known = ImageSpec(1, (42, 42), (28, 28), 10, [0.0], [0.5], [0.3])
    chosen = Experiment(model="reinforced", actions="shifts-zooms", steps=4, classifier="fcn")
    net = build(chosen, known)
    torch.nn.init.normal_(net.transformer.policy.choice.weight)
    return net, torch.rand(1, 1, 42, 42, generator=torch.Generator().manual_seed(1)), 3, MOVES


@pytest.fixture
def page(tab, tmp_path, played):
    asked = []
    (tmp_path / "page.html").write_text(
        f"<!doctype html><meta charset='utf-8'>{game_html(*played)}"
    )
    tab.on("request", lambda request: asked.append(request.url))
    tab.context.set_offline(True)
    tab.goto((tmp_path / "page.html").as_uri())
    root = tab.locator(".stn-game")
    root.get_by_text("Moves left: 3.").wait_for()  # its pictures are there
    yield root
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def said(root):
    return root.locator(".said").inner_text()


def loss_said(root):
    return float(re.search(r"Loss (\d+\.\d{3})", said(root))[1])


def drawn(root):
    """What the three canvases show."""
    return [
        root.locator(f"canvas.{name}").evaluate("canvas => canvas.toDataURL()")
        for name in ("input", "view", "bars")
    ]


def test_every_button_and_every_key_makes_its_own_move_and_says_its_loss(page, played):
    known = game(*played)
    start = known["losses"][known["paths"][""]]
    for number, (name, key) in enumerate(zip(NAMES, KEYS)):
        wanted = known["losses"][known["paths"][str(number)]]
        for act in (
            lambda name=name: page.locator(f"button[name='{NAMES.index(name)}']").click(),
            lambda key=key: page.page.keyboard.press(key),
        ):
            act()
            assert loss_said(page) == pytest.approx(wanted, abs=1e-6), name
            reward = re.search(rf"Your {name} earned ([+−]\d+\.\d\d)", said(page))[1]
            assert float(reward.replace("−", "-")) == pytest.approx(start - wanted, abs=0.006)
            assert "Moves left: 2." in said(page)
            page.page.keyboard.press("Escape")
            assert loss_said(page) == pytest.approx(start, abs=1e-6)


def test_after_three_moves_the_policy_and_the_best_are_shown_and_no_move_is_left(page, played):
    known = game(*played)
    first = drawn(page), said(page)
    assert page.locator(".strips > div").count() == 1
    page.focus()
    for key in ("ArrowRight", "+", "ArrowUp"):
        page.page.keyboard.press(key)
    losses = {name: known["losses"][known["paths"][known[name]]] for name in ("policy", "best")}
    assert loss_said(page) == pytest.approx(known["losses"][known["paths"]["253"]], abs=1e-6)
    assert f"ends at {losses['policy']:.3f} after 4" in said(page)
    assert f"the best 3 moves of all reach {losses['best']:.3f}" in said(page)
    strips = page.locator(".strips > div")
    assert [strip.locator("canvas").count() for strip in strips.all()] == [4, 5, 4]
    assert all(name in strips.nth(0).inner_text() for name in ("start", "right", "in", "up"))
    buttons = {b.get_attribute("name"): b for b in page.locator("button").all()}
    assert [name for name, b in buttons.items() if b.is_enabled()] == ["back", "again"]
    last = drawn(page), said(page)
    page.page.keyboard.press("ArrowLeft")  # a fourth move
    assert (drawn(page), said(page)) == last
    buttons["back"].click()
    assert "Moves left: 1." in said(page) and page.locator(".strips > div").count() == 1
    buttons["again"].click()
    assert (drawn(page), said(page)) == first


def test_keys_stay_in_the_game_and_shortcuts_pass(page):
    page.evaluate("""root => {
        window.passed = [];
        root.parentElement.addEventListener("keydown", event => window.passed.push(event.key));
    }""")
    page.focus()
    for key in ("ArrowRight", "+", "Backspace", "Escape", "Control+b", "x"):
        page.page.keyboard.press(key)
    passed = page.page.evaluate("window.passed")
    assert "b" in passed and "x" in passed
    assert not {"ArrowRight", "+", "Backspace", "Escape"} & set(passed)


def test_a_move_changes_window_view_and_bars(page):
    before = drawn(page)
    page.locator("button[name='5']").click()  # in
    assert all(a != b for a, b in zip(before, drawn(page)))


def test_two_games_on_a_page_are_two(tab, tmp_path, played):
    text = game_html(*played)
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset='utf-8'>{text}{text}")
    tab.goto((tmp_path / "page.html").as_uri())
    one, other = tab.locator(".stn-game").all()
    other.get_by_text("Moves left: 3.").wait_for()
    one.locator("button[name='1']").click()
    assert "Moves left: 2." in said(one) and "Moves left: 3." in said(other)
