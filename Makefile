# make demo: train and translate on this machine. make test: every test. Both set up .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo

# Of KubeRay, for the schemas of what k8s/ builds; without them those checks say that they were skipped.
export KUBERAY_CRDS ?= $(wildcard ../shared/kuberay-crds)

.PHONY: setup demo test test-fast k8s-check lint bench

setup: $(VENV)/.installed

# constraints.txt pins what the demo and the tests were last seen working with; pyproject.toml has the ranges.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: $(PYTHON) is $$($(PYTHON) --version); Python 3.11 or newer is needed: make PYTHON=python3.12 …" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

demo: setup
	@test -f data/digits/manifest.json || $(BIN)/python -m data_shards sample digits data/digits
	$(BIN)/python -m cluster train cluster/configs/demo.yaml
	$(BIN)/python -m gmvae_drit translate docs/digits --model $(RUN)/export --to mnist-m --samples 8 --grid $(RUN)/digits.png
	$(BIN)/python -m cluster evaluate $(RUN)

test: setup
	$(BIN)/python -m pytest

test-fast: setup
	$(BIN)/python -m pytest -m "not slow"

# Part of the tests as well.
k8s-check: setup
	$(BIN)/python -m k8s.check

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m benchmarks.step --out benchmarks/results/step.md
	$(BIN)/python -m benchmarks.loader --out benchmarks/results/loader.md
	$(BIN)/python -m benchmarks.sweep --rounds 3 --trials 5 --out benchmarks/results/sweep.md
	$(BIN)/python -m benchmarks.loader --curves --rounds 3 --seconds 3 --out benchmarks/results/loader_curves.md
