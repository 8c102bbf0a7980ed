# Needs only make and a Python; everything else is installed into .venv.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DATA ?= digits
WORKERS ?= 2

# Keras and TensorFlow take ten seconds longer to load in each process where no bytecode is kept.
export PYTHONDONTWRITEBYTECODE :=

# TensorFlow: no notices, and no more threads than the test workers can share.
QUIET := TF_CPP_MIN_LOG_LEVEL=3 TF_ENABLE_ONEDNN_OPTS=0
ONE_THREAD := TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# What each further backend of Keras brings; the index has torch without its CUDA libraries.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BACKENDS := jax torch
BACKEND_jax := jax==0.10.2
BACKEND_torch := torch==2.13.0 $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: help env demo test lint types pytest test-pure test-slow backends bounds peer bench docs browser test-browser pictures clean

help:
	@echo "make demo [DATA=digits|mnist|fashion_mnist]  train, compress, save, show"
	@echo "make test     lint, types, tests (WORKERS=2)"
	@echo "make test-pure  the tests of the rooms that know no Keras, in half a minute"
	@echo "make test-slow  the full products of which make test runs a part"
	@echo "make lint     ruff"
	@echo "make backends  the tests of JAX and of torch, each in .venv-NAME (BACKENDS=jax: only one)"
	@echo "make bounds   the tests on the lowest and the newest packages that pyproject.toml allows (ENDS=lowest: one)"
	@echo "make peer     tensorly-torch in .venv-peer, for benchmarks/published.py --peer"
	@echo "make docs     the site, in build/site"
	@echo "make test-browser  the tab of TensorBoard in Chromium, which it installs if it can"
	@echo "make pictures  every picture of docs/, those of the tab in Chromium"
	@echo "make bench    every script in benchmarks/"
	@echo "make env      only build .venv    (PYTHON=python3.12 picks an interpreter)"
	@echo "make clean    remove what was built"

env: $(STAMP)

# The first interpreter that runs, is 3.11 to 3.13 and can make a virtual environment. What is
# imported compiles itself; to compile all that is installed takes half a minute.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	      >/dev/null 2>&1; then found=$$python; break; fi; \
	  done; \
	  if [ -z "$$found" ]; then \
	    echo "error: no Python 3.11, 3.12 or 3.13 with the venv and ensurepip modules was found" >&2; \
	    echo "       (looked for: $(PYTHON) python3 python3.13 python3.12 python3.11)." >&2; \
	    echo "       Install one (on Debian and Ubuntu: apt install python3 python3-venv)" >&2; \
	    echo "       or name it: make env PYTHON=/path/to/python3.12" >&2; \
	    exit 1; \
	  fi; \
	  echo "Building $(VENV) with $$found ($$($$found -V)); this takes a minute or two the first time."; \
	  $$found -m venv --clear $(VENV); \
	fi; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	  --constraint constraints.txt --editable '.[dev]'; \
	touch $@

demo: env
	@$(QUIET) $(BIN)/reducible-train demo --data $(DATA)

lint: env
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: env
	$(BIN)/mypy

# All but the slow ones; `make test` leaves out what `test-pure` has run.
MARKS ?= not slow

pytest: env
	$(QUIET) $(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "$(MARKS)"

# `PURE` of tests/conftest.py; a test of them that loads Keras fails here.
PURE := config container linalg report selection/allocation selection/criteria settings

test-pure: env
	$(ONE_THREAD) $(BIN)/python -m pytest -q -n $(WORKERS) -m "not keras and not slow" $(PURE:%=tests/%)

test-slow: env
	$(QUIET) $(ONE_THREAD) $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow

# One after the other, so that the tests' summary ends the output.
test: env
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target types test-pure
	@$(MAKE) --no-print-directory pytest MARKS="not slow and not pure"

backends: $(BACKENDS:%=.venv-%/.installed)
	@set -e; for name in $(BACKENDS); do \
	  $(QUIET) $(ONE_THREAD) .venv-$$name/bin/python -m pytest tests/whole/test_backends.py -k $$name; \
	done

# What meets Keras, TensorFlow, numpy and the packages of the command line; the rest knows none of them.
ENDS := lowest newest
BOUND_TESTS := $(addprefix tests/,_keras/test_keras_door.py whole/test_law.py training/test_callback.py surgery/test_transport.py \
  saving/test_saving.py saving/test_weights_files.py whole/test_models.py config/test_config.py cli/test_cli.py \
  container/test_container.py tensorboard selection/test_calibration.py)

bounds: $(ENDS:%=.venv-%/.at-bounds)
	@set -e; for end in $(ENDS); do \
	  echo "== $$end: $$(.venv-$$end/bin/python -m pip freeze | grep -iE '^(keras|keras-tuner|numpy|tensorflow)==' | xargs)"; \
	  $(QUIET) $(ONE_THREAD) .venv-$$end/bin/python -m pytest -n $(WORKERS) $(BOUND_TESTS); \
	done

.venv-%/.at-bounds: pyproject.toml .ci/bounds.py $(STAMP)
	$(BIN)/python -m venv --clear .venv-$*
	$(BIN)/python .ci/bounds.py $* demo > .venv-$*/wanted.txt
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check \
	  --requirement .venv-$*/wanted.txt --editable . hypothesis pytest pytest-xdist safetensors
	touch $@

# tensorly-torch, for `benchmarks/published.py --peer .venv-peer/bin/python`; nothing of ours.
peer: .venv-peer/.installed

.venv-peer/.installed: $(STAMP)
	$(BIN)/python -m venv --clear .venv-peer
	.venv-peer/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt $(BACKEND_torch) tensorly==0.10.0 tensorly-torch==0.5.0 packaging
	touch $@

.venv-%/.installed: $(STAMP)
	$(BIN)/python -m venv --clear .venv-$*
	.venv-$*/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev]' $(BACKEND_$*)
	touch $@

# The last line of each, its figures as JSON, is kept in benchmarks/results.
bench: env
	@set -e -o pipefail; for script in $$(grep -l '^def main' benchmarks/[a-z]*.py); do \
	  echo "== $$script"; $(QUIET) $(BIN)/python $$script 2>/dev/null | tee $(VENV)/bench.log; \
	  tail -n 1 $(VENV)/bench.log > benchmarks/results/$$(basename $$script .py).json; \
	done

# Debian's packages; elsewhere any chromium or Google Chrome with its chromedriver on the PATH.
BROWSER_IS_THERE = { command -v chromium || command -v google-chrome; } >/dev/null && command -v chromedriver >/dev/null

browser: env
	@{ $(BROWSER_IS_THERE); } || \
	  { apt-get update && apt-get install -y chromium chromium-driver && $(BROWSER_IS_THERE); } || \
	  { echo "error: Chromium and its chromedriver are wanted on the PATH, and could not be installed." >&2; \
	    echo "       Install them (on Debian, as root: apt-get install chromium chromium-driver), and" >&2; \
	    echo "       run make $(or $(MAKECMDGOALS),browser) again." >&2; exit 1; }

test-browser: browser
	$(QUIET) $(BIN)/python -m pytest tests/tensorboard/test_tab.py

pictures: browser
	$(QUIET) $(BIN)/python docs/pictures.py
	$(QUIET) $(ONE_THREAD) $(BIN)/python docs/tab_pictures.py

docs: env
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

clean:
	rm -rf $(VENV) .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
