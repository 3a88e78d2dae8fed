"""Fixtures that several files of tests share."""

import importlib
from pathlib import Path

import IPython.display
import pytest
import torch
from tiny_run import fitted
from tiny_study import write_plan
from tiny_world import tiny_load

import stn_utils.data
from stn_utils import study
from stn_utils.experiment import Experiment


@pytest.fixture
def one_thread():
    """Equal bits need it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small(monkeypatch):
    """An Experiment on few glyphs, for `train`."""
    monkeypatch.setattr(stn_utils.data, "load", tiny_load)
    return Experiment(dataset="glyphs", epochs=3, n_train=200)


@pytest.fixture
def tiny(tmp_path):
    """A study of two rows and two seeds, without a record."""
    return study.load("tiny", write_plan(tmp_path))


@pytest.fixture
def run():
    return fitted(world="translated42")


@pytest.fixture
def displayed(monkeypatch):
    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown


@pytest.fixture
def tiny_data(monkeypatch):
    """A world of few glyphs for all that loads one."""
    monkeypatch.setattr(stn_utils.data, "load", tiny_load)


@pytest.fixture
def save_trace(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "tools")
    return importlib.import_module("traces").save_trace
