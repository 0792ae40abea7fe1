# Set-up, tests, checks and benchmarks. Needs Python 3.11 or newer, pip, git and make; `make` alone lists the targets.
# Everything is installed into .venv, from the pins in constraints.txt, and again only when those or pyproject.toml change.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help install demo examples test test-all check bench golden constraints clean

# The newest known Python that runs; a name may be there without working, so each is tried.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
# -qq: errors only
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
# More options for pytest: make test ARGS="-k journal -x"
ARGS ?=
# Most tests wait for processes that start, so two files run at a time, in their order: the longest are in front.
TWO := -n 2 --dist loadfile --no-loadscope-reorder

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' Makefile

install: .venv/installed ## .venv with what the sweeps need, and `sweeps` in it

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found. Install one, or name it: make PYTHON=/path/to/python3"; exit 2; }
	@echo "Installing into .venv. The first time this takes some minutes."
	@test -x $(BIN)/python || "$(PYTHON)" -m venv .venv
	@$(PIP) install -c constraints.txt --upgrade pip
	@$(PIP) install -c constraints.txt -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing the tools for tests."
	@$(PIP) install -c constraints.txt --group dev
	@touch $@

.venv/installed-bench: .venv/installed
	@echo "Installing what the benchmarks compare with."
	@$(PIP) install -c constraints.txt --group bench
	@touch $@

demo: .venv/installed ## a whole sweep of a small network on handwritten digits, in minutes on a laptop
	$(BIN)/sweeps run sweeps/examples/digits.yaml

examples: .venv/installed-dev ## the README's table of results: a sweep on each kind of real data, about half an hour
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/examples.py $(ARGS)

test: .venv/installed-dev ## all tests but the slow and the end-to-end ones
	$(BIN)/python -m pytest $(TWO) -m "not slow and not e2e" $(ARGS)

test-all: .venv/installed-dev ## all tests; a slow one that fails is run once more, alone
	$(BIN)/python tests/run_all.py $(TWO) $(ARGS)

check: .venv/installed-dev ## lint, format, types, contracts and golden files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/contract tests/golden $(ARGS)

ifdef NAME
bench: .venv/installed-bench .venv/installed-dev ## run tests/benchmarks/NAME.py; without NAME, list what there is
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/$(NAME).py $(ARGS)
else
bench:
	@echo "make bench NAME=one of:"
	@ls tests/benchmarks | sed -n -e '/^harness\.py$$/d' -e '/^ways\.py$$/d' -e '/^\(hub\|made\|callback\)\.py$$/d' -e 's/\.py$$//p'
endif

golden: .venv/installed ## write the golden files anew; read their diff before you commit it
	$(BIN)/python tests/golden/snapshots.py

constraints: .venv/installed-dev .venv/installed-bench ## write constraints.txt anew from what .venv holds
	{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --all --exclude-editable | sed -e '/^#/d' -e 's/+.*//'; } > constraints.new
	mv constraints.new constraints.txt

clean: ## remove what was built; .venv and runs/ stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
	find cluster sweeps tests trainables -name __pycache__ -prune -exec rm -rf {} +
