# Everything a developer or CI runs. Needs python3 (>= 3.11) and make; nothing else is preinstalled.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: install demo test test-slow lint bench fuzz clean help

help:           ## show these targets
	@grep -hE '^[a-z-]+: *[a-zA-Z$$(). /_-]*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

# A stamp per extra: installed again only when what it depends on has changed.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "datapipe needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e '.[all]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) install -q -c constraints.txt -e '.[test]'
	@touch $@

install: $(VENV)/.installed  ## make .venv and install datapipe with all it needs to run

demo: install   ## the whole way on real input: preprocess, train, resume, profile
	$(BIN)/datapipe demo $(DEMO)

lint: $(VENV)/.installed-test  ## ruff and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Twice as many processes as CPUs, since tests also wait: for a kill, a timeout, a process that starts.
WORKERS = $(shell $(PYTHON) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')

# The tests start some hundred processes of this code: where the environment forbids to keep what was compiled (images
# often do), each would compile it again, a quarter of a second each, and every pytest process all the tests.
test test-slow: export PYTHONDONTWRITEBYTECODE =

# Tests that kill processes or cut connections race with the machine: one that fails is run once more, and named as RERUN.
test: lint      ## lint, then every check but the slow ones (under 10 minutes on 2 cores)
	$(BIN)/python -m pytest -m "not slow" -n $(WORKERS) --dist loadfile --reruns 1 $(TESTS)

# None of them took more than 6 minutes by itself on 2 cores at a load of 30.
test-slow: $(VENV)/.installed-test  ## the long suite: a kill at every task
	$(BIN)/python -m pytest -m slow --timeout 1800 -n $(WORKERS) --dist loadfile $(TESTS)

bench: $(VENV)/.installed-test  ## the benchmarks, printed as tables of ratios
	$(BIN)/python benchmarks/recorder_cost.py
	$(BIN)/python benchmarks/loaders/tokens.py
	$(BIN)/python benchmarks/loaders/tables.py
	$(BIN)/python benchmarks/loaders/texts.py
	$(BIN)/python benchmarks/loaders/images.py
	$(BIN)/python benchmarks/loaders/steady.py
	$(BIN)/python benchmarks/tables.py --rows 200000
	$(BIN)/python benchmarks/audio.py
	$(BIN)/python benchmarks/train/overlap.py
	$(BIN)/python benchmarks/gpu/run.py

SECONDS ?= 600
fuzz: $(VENV)/.installed-test  ## attack every reader, SECONDS=600 each, one after the other; findings lie in fuzz-findings/
	-$(PIP) install -q -c constraints.txt --only-binary atheris -e '.[fuzz]'
	nice -n 19 $(BIN)/python benchmarks/fuzz/run.py --seconds $(SECONDS) $(TARGETS)

clean:          ## remove what make made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis datapipe-demo
	find datapipe tests benchmarks -name __pycache__ -prune -exec rm -r {} +
