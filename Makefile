# SPDX-License-Identifier: MIT
# The two commands that a newcomer needs: make demo, make test.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test check lint types unit integration fuzz sanitize crashes clean

demo: $(VENV)/engine
	$(BIN)/htmengine demo $(ARGS)

test: $(VENV)/tests
	$(MAKE) check

# The same as `make test` without the set-up.
check: lint types unit integration

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

unit:
	$(BIN)/python -m pytest -q tests/unit
	$(BIN)/python -m pytest -q --doctest-modules htmengine
	$(BIN)/trial --temp-directory=$(VENV)/trial tests.unit

integration:
	$(BIN)/python -m pytest -q tests/integration

$(VENV)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "HTM Engine needs Python 3.11 or newer; choose one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "HTM Engine needs Python's venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@command -v $${CXX:-c++} >/dev/null || \
	  { echo "HTM Engine needs a C++17 compiler (Debian: apt install g++)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	touch $@

# -e: the demo and the tests run on the checkout itself.  The core is compiled anew when its sources change.
$(VENV)/engine: $(VENV)/python setup.py pyproject.toml $(wildcard htmengine/htm/core/*)
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/tests: $(VENV)/engine
	$(BIN)/python -m pip install --quiet -e '.[test]'
	touch $@

# Engines are killed at seeded points and moments; what is left is compared with an undisturbed run.
SEEDS ?= 100
crashes: $(VENV)/tests
	$(BIN)/python -m tests.support.crashes --seeds $(SEEDS) $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info htmengine/htm/*.so
