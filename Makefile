# make demo    installs autounet into its own environment and runs the whole job on a generated data set
# make test    installs it with the test tools into another one and runs all tests
# make check   everything a change must pass: lint (ruff, mypy) and all tests
# make clean   removes the environments and caches; data, runs and demo results stay
#
# Environments are made again when pyproject.toml or constraints.txt change. Other places or another Python:
#   make test PYTHON=python3.13 VENV_TEST=/elsewhere/venv
# Tests run in as many processes as there are cores; options for them:  make test PYTEST="-k planners -x -n 0"

PYTHON    ?= python3
VENV_DEMO ?= .venv
VENV_TEST ?= .venv-test
VENV_DEV  ?= .venv-dev
PYTEST    ?=

# Files stay together: their tests share what was trained for them.
IN_PROCESSES := -n auto --dist loadfile

ROOMS     := autounet planners preprocessing training inference
SOURCES   := $(shell find $(ROOMS) -type f -not -name '*.pyc')
INPUTS    := pyproject.toml constraints.txt

# Nothing from outside the environments: no user packages, no PYTHONPATH.
export PYTHONNOUSERSITE := 1
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help demo test lint check clean python

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV_DEMO)/.installed-demo
	$(VENV_DEMO)/bin/autounet demo

test: $(VENV_TEST)/.installed-test
	$(VENV_TEST)/bin/python -m pytest $(IN_PROCESSES) $(PYTEST)

lint: $(VENV_DEV)/.installed-dev
	$(VENV_DEV)/bin/python -m ruff check .
	$(VENV_DEV)/bin/python -m ruff format --check .
	$(VENV_DEV)/bin/python -m mypy

check: lint
	$(VENV_DEV)/bin/python -m pytest $(IN_PROCESSES) $(PYTEST)

clean:
	rm -rf .venv .venv-test .venv-dev build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -type d -name __pycache__ -prune -exec rm -rf {} +

# The demo runs an installed copy, as a user would have it, so it is installed again when a source file changes; test and lint
# environments look into this folder.
$(VENV_DEMO)/.installed-demo: $(INPUTS) $(SOURCES) | python
	$(PYTHON) -m venv $(VENV_DEMO)
	@echo 'Installing into $(VENV_DEMO); the first time this downloads torch and takes some minutes.'
	$(VENV_DEMO)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt .
	@touch $@

$(VENV_TEST)/.installed-test: $(INPUTS) | python
	$(PYTHON) -m venv $(VENV_TEST)
	@echo 'Installing into $(VENV_TEST); the first time this downloads torch and takes some minutes.'
	$(VENV_TEST)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

$(VENV_DEV)/.installed-dev: $(INPUTS) | python
	$(PYTHON) -m venv $(VENV_DEV)
	@echo 'Installing into $(VENV_DEV); the first time this downloads torch and takes some minutes.'
	$(VENV_DEV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

python:
	@command -v $(PYTHON) >/dev/null || { echo "autounet needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' was not found. Name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "autounet needs Python 3.11, 3.12 or 3.13; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
