# make demo: environment, the whole pipeline on the embedded digits, its table.   make test: the tests.
# make check: format, lint, types, layers.   make bench: speed, side by side.
# make cost: what recipes take, predicted, docs/cost-model.md.
# make gpu: checks and speed on a GPU, and what CIFAR-10 reaches there, docs/gpu.md; ARGS="same waits --minutes 5".
# make site: the documentation as pages, site/index.html.

PYTHON ?= python3
BIN := .venv/bin
# dvc.yaml's commands find sslpipe there.
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test check bench cost gpu site clean

demo: .venv/made
	$(BIN)/dvc repro
	$(BIN)/sslpipe table
	@echo "report: file://$(CURDIR)/runs/report/index.html"

test: .venv/made
	$(BIN)/python -m pytest

check: .venv/made
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/bench
	$(BIN)/python -m benchmarks

cost: .venv/made
	$(BIN)/python -m benchmarks cost --json cost.json

# Where the environment is not made, such as on a machine without a network, by $(PYTHON) and what it has.
gpu:
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu $(ARGS)

site: .venv/made
	$(BIN)/python -m sslpipe.tools.settings_pages docs
	$(BIN)/zensical build --clean --strict

# Anew when a locked version changes; code is installed in place.
.venv/made: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

# What is compared with, beside what the project itself needs.
.venv/bench: .venv/made requirements-bench.lock
	$(BIN)/python -m pip install --quiet --requirement requirements.lock --requirement requirements-bench.lock
	touch $@

clean:
	rm -rf .venv runs .sslpipe site docs/settings .cache
