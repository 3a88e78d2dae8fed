#!/bin/sh
# What only a GPU can show, within 8 minutes of a fresh machine: the tests of graphs and stacks, the
# bench, and a chapter in fast mode. From the repository's root, with STN_DATA at MNIST where it
# lies; the log goes to the folder named as the first argument, by default build/.
out=${1:-build}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
# Without a card every one of these tests is skipped, and all would look well.
$python -c "import torch; assert torch.cuda.is_available(), f'torch {torch.__version__} sees no GPU'" || exit 1
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
failed=0
step() {
    "$@" >"$out/step.log" 2>&1 || failed=1
    tee -a "$out/gpu_check.log" <"$out/step.log"
}
: >"$out/gpu_check.log"
step $python -m pytest -q -n 4 tests/test_graph.py tests/test_stack.py tests/test_train.py
step $python tools/bench.py --pairs 3 --threads 4
step env STN_FAST=1 $python -m pytest -q notebooks/01_vanilla_stn.ipynb
rm "$out/step.log"
exit $failed
