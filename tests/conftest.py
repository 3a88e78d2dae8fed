"""Fixtures that several files of tests share."""

import warnings

import IPython.display
import matplotlib.pyplot as plt
import pytest
from tiny_run import fitted


@pytest.fixture
def run():
    return fitted(world="translated42")


@pytest.fixture
def drawn(monkeypatch):
    """The sizes of the figures shown; drawing them must give no warning."""
    figures = []

    def draw():
        plt.gcf().canvas.draw()
        figures.append(plt.gcf())
        plt.close()

    monkeypatch.setattr(plt, "show", draw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield figures
    plt.close("all")


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown
