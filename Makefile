# make demo    an assistant for networkx, built and measured (allow 35 minutes on two cores)
# make check   style, types, layers, documentation
# make test    everything that is quick; make test-slow: end to end, with the embedded model
# make test-postgres    the server's tests on PostgreSQL (Debian's package postgresql)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
EXAMPLE := examples/networkx-assistant

.DEFAULT_GOAL := help
.PHONY: help install demo test test-slow test-postgres check docs clean

help:
	@sed -n 's/^# //p' Makefile

install: $(STAMP)

# Runs again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tunesmith needs Python 3.11 or newer: make PYTHON=python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $(STAMP)

demo: install
	cd $(EXAMPLE) && ../../$(BIN)/tunesmith run
	cd $(EXAMPLE) && ../../$(BIN)/tunesmith report

# Two processes of one thread each use two cores better than one process does; a file stays in one of them.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

test-slow: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n $(WORKERS) --dist loadfile

test-postgres: install
	$(BIN)/python tests/serving/postgres.py $(BIN)/python -m pytest -m "not slow" tests/serving

check: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/docs

# The page of the command line is what the commands say of themselves; `make check` compares.
docs: install
	$(BIN)/python tests/docs/commands.py > docs/commands.md
	$(BIN)/python tests/docs/tree.py README.md docs/tree.md
	$(BIN)/python tests/docs/settings.py docs/stages/*.md

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
