# Two commands on a fresh machine: `make demo` and `make test`. Python 3.11 or newer, no root.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
CORES ?= $(shell $(PYTHON) -c "import os; print(len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count())")

# minutes for faults of further calls by chance, in `make faults`
MINUTES ?= 45

# more that goes into `make bundle`, as in EXTRAS=zarr,gpu-cuda12
EXTRAS ?= zarr

.PHONY: demo test test-fast faults lint docs site bundle clean

PIP := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt $(PIP_FLAGS)

# what users need; in a bundle from the wheels that lie there
$(VENV)/.installed: $(wildcard pyproject.toml) constraints.txt
	@echo 'installing tomopipe and what it needs into $(VENV): 0.8 GB, some minutes'
	$(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(wildcard wheels),--no-index --find-links wheels tomopipe,-e .)
	touch $@

# and what tests and linters do
$(VENV)/.developed: $(VENV)/.installed lab/pyproject.toml
	$(PIP) -e '.[torch,dev]' -e ./lab
	touch $@

demo: $(VENV)/.installed
	test -e $(DEMO)/truth.json || $(BIN)/tomopipe lab simulate $(DEMO)
	$(BIN)/tomopipe run $(DEMO) -- --cores $(CORES)

# two workers more than cores: tests of SLURM, and of runs of Snakemake, wait most of their time
test: $(VENV)/.developed
	$(BIN)/python -m pytest -n $$(($(CORES) + 2))

# three fifths of all tests, in four minutes of one core
test-fast: $(VENV)/.developed
	$(BIN)/python -m pytest tests/unit -m "not slow" -p no:cacheprovider

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
	$(BIN)/python docs/config.py
	$(BIN)/python docs/cli.py
	$(BIN)/python docs/api.py
	$(BIN)/python docs/signs.py

# the pages as a site, build/site/index.html; a link that leads nowhere is an error
site: $(VENV)/.installed
	$(PIP) -e '.[site]'
	rm -rf build/pages
	mkdir -p build/pages
	cp --parents *.md CITATION.cff $$(find docs config examples lab -name '*.md' -o -path 'docs/figures/*.[ps]*g') examples/*.py examples/*/*.py build/pages
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# one archive to install from without a network, for this platform and version of Python
bundle: $(VENV)/.installed
	rm -rf dist
	mkdir -p dist/tomopipe-bundle
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check -c constraints.txt \
	    -w dist/tomopipe-bundle/wheels '.[$(EXTRAS)]'
	cp Makefile constraints.txt LICENSE README.md docs/how-to/install.md dist/tomopipe-bundle
	python=$$($(BIN)/python -c "import sysconfig; print(sysconfig.get_python_version())") && \
	for file in Containerfile tomopipe.def; do \
	    sed "s/python:[0-9.]*-slim/python:$$python-slim/" install/$$file > dist/tomopipe-bundle/$$file; done && \
	tar -C dist -cf "dist/tomopipe-bundle-python$$python-$$(uname -sm | tr ' ' -).tar" tomopipe-bundle

clean:
	rm -rf $(DEMO) $(VENV) build dist
