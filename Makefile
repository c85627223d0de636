# Every target that needs the environment makes it first. `make` alone lists the targets.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.locked

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench up down clean lock

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

setup: $(STAMP) ## make .venv from the hash-locked requirements, and compile the kernels

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || python3 -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m infra.local.kernels
	@touch $@

demo: $(STAMP) ## the whole system on real parts: train, stream, alert, refresh, check itself
	@mkdir -p build
	$(BIN)/panther demo --json > build/demo.json

test: $(STAMP) ## all tests, Kafka and Triton real
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## format, lint, types, import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP) ## the end-to-end benchmark
	$(BIN)/panther bench e2e --json

up: $(STAMP) ## start Kafka and Triton
	$(BIN)/panther up

down: $(STAMP) ## stop them
	$(BIN)/panther down

lock: $(STAMP) ## resolve the lock anew from pyproject.toml
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --generate-hashes --no-emit-index-url --python-version 3.11 --output-file requirements.lock

clean: ## remove build products and the environment
	rm -rf build $(VENV)
