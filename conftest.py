"""Tests, and the kernels of the notebooks under test, run small, offline and single-threaded."""

import os

import matplotlib
import torch

os.environ.update(STN_FAST="1", STN_OFFLINE="1", STN_FALLBACK="glyphs", OMP_NUM_THREADS="1")
# A kernel without data falls back to glyphs and says so on stderr, which nbval does not compare.
torch.set_num_threads(1)
matplotlib.use("agg")
