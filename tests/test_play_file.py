"""assets/play.html as a file, and the tool that makes it."""

import importlib
import re
from pathlib import Path

import pytest
import torch

from stn_utils.experiment import Experiment
from stn_utils.models import build
from stn_utils.spec import ImageSpec

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "assets" / "play.html"


@pytest.fixture
def play(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    return importlib.import_module("play")


def test_the_page_is_light_and_loads_nothing(play):
    text = PAGE.read_text()
    assert PAGE.stat().st_size <= play.LARGEST == 400_000
    program = re.sub(r'(?s)<script type="application/json".*?</script>', "", text)
    loads = r"(?i)\bsrc\s*=|\bhref\s*=|url\(|@import|https?:|fetch\(|XMLHttpRequest|import\("
    assert not re.findall(loads, program)


def test_the_page_is_the_template_with_its_content(play):
    text = PAGE.read_text()
    assert play.write_page(play.content_of(text)) == text


def test_what_the_page_says_of_a_network_is_what_the_tool_says(play):
    networks = play.content_of(PAGE.read_text())["networks"]
    assert networks.keys() == play.NETWORKS.keys()
    for name, shown in play.NETWORKS.items():
        entry = networks[name]
        assert (entry["title"], entry["sentence"]) == (shown.title, shown.sentence)
        assert Experiment(**entry["experiment"]) == shown.experiment
        assert list(entry["epochs"]) == [str(epoch) for epoch in shown.epochs]


def test_weights_come_back_from_their_characters(play):
    net = build(Experiment(), ImageSpec(1, (28, 28), (28, 28), 10, [0.0], [0.5], [0.3]))
    for layers in play.halves(net).values():
        for layer in layers:
            known, weight = play.encode(layer), layer.weight.detach().clone()
            assert set(known["weights"]) <= set(play.ALPHABET)
            play.decode(known, layer)
            step = weight.flatten(1).abs().amax(dim=1) / play.MIDDLE
            apart = (layer.weight - weight).flatten(1).abs().amax(dim=1)
            assert (apart <= 0.5001 * step + 1e-7).all()
            assert play.encode(layer)["weights"] == known["weights"]


def test_a_letter_for_every_level_and_none_that_a_string_in_html_would_not_hold(play):
    assert len(play.ALPHABET) == 2 * play.MIDDLE + 1 == 91
    assert not set('"\\<&') & set(play.ALPHABET) and play.ALPHABET.isprintable()


def test_a_page_that_differs_from_torch_is_not_written(play, monkeypatch, tmp_path):
    content = play.content_of(PAGE.read_text())
    monkeypatch.setattr(play, "PAGE", tmp_path / "play.html")
    monkeypatch.setattr(play, "train", lambda name, folder: name)
    monkeypatch.setattr(play, "entry_of", lambda name, runs: content["networks"][name])
    monkeypatch.setattr(play, "digits", lambda: content["digits"])
    for gap in (2e-3, float("inf")):
        monkeypatch.setattr(play, "compare", lambda page, gap=gap: {"stnet 8": gap})
        with pytest.raises(ValueError, match="not written"):
            play.main(tmp_path)
        assert not play.PAGE.exists()
    monkeypatch.setattr(play, "compare", lambda page: {"stnet 8": 1e-6})
    play.main(tmp_path)
    assert play.PAGE.read_text() == PAGE.read_text()


def test_nan_is_as_far_from_torch_as_can_be(play):
    assert play._gap([[float("nan")]], torch.zeros(1, 1)) == float("inf")


def test_too_large_a_page_is_refused(play):
    content = play.content_of(PAGE.read_text())
    with pytest.raises(ValueError, match="above 400,000"):
        play.write_page({**content, "more": "x" * 400_000})
