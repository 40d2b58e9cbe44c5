# Two commands do all the set-up on a fresh machine: `make run` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 5588
DB ?= iqdb.sqlite
WORKERS ?= 1
# Tests wait for processes about as often as they compute: two for each core and one more keep the cores busy.
TEST_PROCESSES ?= $(shell echo $$(($$($(BIN)/python -c 'import os; print(len(os.sched_getaffinity(0)))') * 2 + 1)))

.PHONY: run test test-long check-shared lint check cluster bench clean

run: $(VENV)/.installed
	@exec $(BIN)/iqdb http $(HOST) $(PORT) $(DB)

# The kernels are compiled once, and not by every process that finds none; so is Python, of which hundreds start.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.installed-test
	$(BIN)/python -m iqdb_core.compiling
	$(BIN)/python -m pytest -m "not long and not shared" -n $(TEST_PROCESSES) --dist worksteal --durations=15

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "long"

check-shared: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "shared"

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell
	$(BIN)/yamllint --strict .

check: lint test

cluster: $(VENV)/.installed-test
	@PATH="$(CURDIR)/$(BIN):$$PATH" exec $(BIN)/python -m tests.cluster --port $(PORT) --workers $(WORKERS)

clean:
	rm -rf $(VENV) build *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# An editable install of the project with some of its extras, if any.
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(INSTALL) .
	@touch $@

# Kernels are compiled while the rest is fetched and unpacked. Whether they could be is for those who run them to see.
$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m iqdb_core.compiling & $(INSTALL) ".[test]"; code=$$?; wait; exit $$code
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(INSTALL) ".[dev]"
	@touch $@
