#!/bin/sh
# What only a GPU can show, within 8 minutes of a fresh machine: the tests of graphs and stacks, the
# bench, and a chapter in fast mode. From the repository's root, with STN_DATA at MNIST where it
# lies; the log goes to the folder named as the first argument, by default build/.
out=${1:-build}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
{
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    $python -m pytest -q -n 4 tests/test_graph.py tests/test_stack.py tests/test_train.py
    $python tools/bench.py --pairs 3 --threads 4
    STN_FAST=1 $python -m pytest -q notebooks/01_vanilla_stn.ipynb
} 2>&1 | tee "$out/gpu_check.log"
