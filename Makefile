# Two commands matter: `make demo` shows what Rebus does, `make test` checks that it still does it.
# Both make their own environment in .venv the first time; all they need is Python 3.11 or newer.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo test lint tests format install clean

help:
	@echo "make demo     train a small model on two cores in minutes, question it, write the report"
	@echo "make test     lint, types, layers and tests"
	@echo "make lint     ruff, mypy and the layer contract only"
	@echo "make format   let ruff tidy the code"
	@echo "make clean    remove the environment, the demo and all caches"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Rebus needs Python 3.11 or newer, and no '$(PYTHON)' was found. Name yours: make PYTHON=/path/to/python3 test" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Rebus needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=/path/to/python3 test" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/rebus demo --out demo

test: lint tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

tests: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +
