# Two commands for a newcomer: `make demo` and `make test`. Each makes .venv by itself; `make install` makes
# it, and no more.
PYTHON ?= python3
BIN := .venv/bin
TENSORRT := 10.13.3.9 10.16.1.11 11.4.0.106
ifneq ($(wildcard ../shared/data),)
export ACCEL_DATA ?= $(abspath ../shared/data)
endif

.PHONY: install demo test lint bench ledger lock fuzz gpu-test gpu-bench clean
install: .venv/.demo

demo: .venv/.demo
	$(BIN)/accel optimize examples/minilm.py --target cpu-local --max-drop 0.5pt --out release

test: .venv/.dev lint
	$(BIN)/python .ci/suite.py

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev
	$(BIN)/python -m pytest benchmarks --benchmark-only --benchmark-sort=name --benchmark-columns=min,median,iqr,max,rounds

ledger: .venv/.dev
	$(BIN)/accel kernels build --target all --ledger kernels/ledger.json

lock: .venv/.dev
	$(BIN)/pip install -q -c constraints.txt --upgrade --target .venv/.uv uv
	PATH="$(CURDIR)/.venv/.uv/bin:$$PATH" $(BIN)/python requirements/lock.py $(MORE)

# every night: files that break the opener, then random graphs, files and words with new seeds
MINUTES ?= 60
fuzz: .venv/.dev
	$(BIN)/pip install -q -c constraints.txt --only-binary :all: atheris
	ACCEL_FUZZ=20 $(BIN)/python -m pytest -n 2 tests/fuzz
	$(BIN)/python -m tests.fuzz.nightly --minutes $(MINUTES)

# on a machine with a GPU; with its own Python: make gpu-test BIN=$$(dirname $$(which python3))
OWN := $(if $(filter .venv/bin,$(BIN)),.venv/.dev)
ON_GPU = PYTHONPATH=$(CURDIR)$${PYTHONPATH:+:$$PYTHONPATH} $(BIN)/python3 -m pytest -W default -m gpu

ifneq ($(wildcard /usr/local/cuda),)
gpu-test gpu-bench: export CUDA_HOME ?= /usr/local/cuda
endif

gpu-test: $(OWN)
	$(ON_GPU) tests/gpu

gpu-bench: $(OWN)
	$(ON_GPU) benchmarks/gpu

# Locks, whole and by hash: nothing is resolved here. torch after them, with nothing left to bring but
# itself and, from PyPI, gigabytes of CUDA.
LOCKED = $(BIN)/pip install -q --require-hashes --no-deps --only-binary :all: -r
EDITABLE = $(BIN)/pip install -q --no-deps --no-build-isolation -e .

.venv/.demo: pyproject.toml constraints.txt requirements/cpu.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)) and "the locks are for Python 3.11 and 3.12: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(LOCKED) requirements/cpu.txt
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(EDITABLE)
	touch $@

.venv/.dev: .venv/.demo requirements/dev.txt
	$(LOCKED) requirements/dev.txt
	$(EDITABLE)
	# MLPerf's load generator comes as wheels for some platforms; absent, its tests skip
	-$(BIN)/pip install -q -c constraints.txt --only-binary :all: mlcommons-loadgen
	# TensorRT's Python code, a folder a version, with none of its libraries; absent, its tests skip
	-for v in $(TENSORRT); do $(BIN)/pip install -q --no-deps --target .venv/.tensorrt-$$v tensorrt-cu13-bindings==$$v; done
	touch $@

# release/ stays: it may be a blessed baseline
clean:
	rm -rf .venv .accel build dist *.egg-info
