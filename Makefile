# `make demo` and `make test` set everything up by themselves; nothing but Python 3.11 or later and make is assumed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint format faults bench docs clean

demo: $(READY)  ## train the default forecaster, test it, register it, forecast with it (about a minute)
	$(BIN)/python -m tasks.forecasting.train
	$(BIN)/python -m tasks.forecasting.predict --input docs/example.csv --output runs/forecast.csv --plot runs/forecast.png

test: $(READY)  ## all tests, offline, in two processes of one thread each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY)  ## style, the most common defects, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## rewrite files in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

faults: $(READY)  ## kills, full disks, broken and hostile files: what happens, in figures; about half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults

bench: $(READY)  ## speed against peers, written to docs/benchmarks.md; on a machine that does nothing else
	$(BIN)/python -m benchmarks

docs: $(READY)  ## docs/commands.md, docs/core.md, docs/licences.md, and the reference of the core in docs/api
	$(BIN)/python -m docs.commands > docs/commands.md
	$(BIN)/python -m docs.licences
	$(BIN)/python -m docs.api

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find core tasks tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: Python 3.11 or later is needed; run make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	@touch $@
