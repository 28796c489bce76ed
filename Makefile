# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11 or newer, no root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
CORES ?= $(shell $(PYTHON) -c "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())")

# minutes for faults of further calls by chance, in `make faults`
MINUTES ?= 45

.PHONY: demo test faults lint docs clean

PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

# what users need
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[slurm]'
	touch $@

# and what tests and linters do
$(VENV)/.developed: $(VENV)/.installed lab/pyproject.toml
	$(PIP) -e '.[slurm,torch,dev]' -e ./lab
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m tomopipe.simulate.demo $(DEMO) --cores $(CORES)

test: $(VENV)/.developed
	$(BIN)/python -m pytest -n $(CORES)

# calls that fail, killed and stopped processes, two runs at once: up to 90 minutes
faults: $(VENV)/.developed
	TOMOPIPE_TEST_FAULTS=$(MINUTES) $(BIN)/python -m pytest -s -q tests/faults/test_faults.py tests/unit/storage/test_run_folder.py

lint: $(VENV)/.developed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/mypy
	$(BIN)/lint-imports

# the pages that are made from the code
docs: $(VENV)/.installed
	$(BIN)/python -m tomopipe.config

clean:
	rm -rf $(DEMO) $(VENV)
