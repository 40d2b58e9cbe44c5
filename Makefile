# `make run` and `make test` work on a fresh machine: they set up what they need.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 5588
DB ?= iqdb.sqlite
WORKERS ?= 1
# Tests wait for other processes more than they compute: three test processes per core keep the cores busy.
TEST_PROCESSES ?= $(shell echo $$(($$($(BIN)/python -c 'import os; print(len(os.sched_getaffinity(0)))') * 3)))

# Keep compiled Python, so that not each of the hundreds of processes that tests start compiles it again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test test-long check-shared check-image check-oldest lint check cluster clean

run: $(VENV)/.installed
	@exec $(BIN)/iqdb http $(HOST) $(PORT) $(DB)

# Compile the kernels once, before many processes would do it at the same time.
test: $(VENV)/.installed-test
	$(BIN)/python -m iqdb_core.compiling
	$(BIN)/python -m pytest -m "not long and not shared and not container" -n $(TEST_PROCESSES) --dist worksteal --durations=15

test-long: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "long"

check-shared: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "shared"

check-image: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "container"

# All tests with the oldest packages that pyproject.toml allows, in an environment of their own.
check-oldest:
	UV_RESOLUTION=lowest-direct $(MAKE) test VENV=.venv-oldest

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
	rm -rf $(VENV) .venv-* build *.egg-info

$(VENV)/.installed: pyproject.toml
	$(PYTHON) .ci/install $(VENV)
	@touch $@

# While kernels are compiled tests are collected, so that not each of their processes has to compile their Python.
# Whether either could be done is for those who run them to see.
$(VENV)/.installed-test: pyproject.toml
	$(PYTHON) .ci/install $(VENV) test
	@$(BIN)/python -m iqdb_core.compiling & $(BIN)/python -m pytest --collect-only >/dev/null 2>&1; wait
	@touch $(VENV)/.installed $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PYTHON) .ci/install $(VENV) dev
	@touch $@
