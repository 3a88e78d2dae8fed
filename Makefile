# The course's verbs. `make help` lists them. Each is safe to repeat.
PYTHON ?= python3
PY := .venv/bin/python
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

help:  ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

lab: .venv/.ok  ## set up, then open the course in JupyterLab
	.venv/bin/jupyter lab $(ROOT) --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb

test: .venv/.ok  ## set up, then run every test; chapters run in fast mode
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(PY) -m pytest -q -n 2 --dist loadfile  # a file's tests, and a notebook's cells, stay together

site: .venv/.ok  ## the chapters as they are stored, as a site in build/ that needs no network
	$(PY) tools/pages.py

course: .venv/.ok  ## the same of chapters that are run first, and a teacher's hand-out and answer key
	STN_FALLBACK=glyphs $(PY) tools/notebooks.py course
	$(PY) tools/teacher.py

notebooks: .venv/.ok  ## run every chapter at full size and store its outputs
	$(PY) tools/notebooks.py store

play: .venv/.ok  ## train the networks of assets/play.html, and write the page
	$(PY) tools/play.py

data: .venv/.ok  ## fetch the data sets into the cache
	$(PY) -m stn_utils data

bench: .venv/.ok  ## an epoch against the PyTorch tutorial's loop and the floor; two study runs at once against one
	$(PY) tools/bench.py
	$(PY) tools/bench_study.py

address: .venv/.ok  ## set the public address once: make address URL=https://github.com/OWNER/REPO
	$(PY) tools/address.py "$(URL)"

.venv/.ok: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("python3 is %d.%d; the course needs 3.11 or newer. Try: make PYTHON=python3.12" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[lab,test]'
	@mkdir -p .venv/share/jupyter/lab/settings
	@echo '{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false}}' > .venv/share/jupyter/lab/settings/overrides.json
	@touch $@

.PHONY: help lab test site course notebooks play data bench address
