# Handfast. `make demo` and `make test` are all a newcomer needs; both set up what they use.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
# Two workers a core: most tests wait for a board, a peer or a deadline.
WORKERS ?= $(shell echo $$(( $$(nproc) * 2 )))

.PHONY: help demo test lint power-cuts fuzz bench-device setup setup-dev clean

help:
	@echo "make demo          simulated boards enrol, call a REST API over mutual TLS, renew, and are revoked"
	@echo "make test          the whole test suite"
	@echo "make lint          ruff and mypy"
	@echo "make power-cuts    a board's power fails at every flash operation, and again while it recovers"
	@echo "make fuzz          the device's parsers under a coverage-guided fuzzer (about four minutes)"
	@echo "make bench-device  instructions and bytes that the device library costs a board"
	@echo "make clean         remove .venv (builds stay in the user's cache folder)"

setup:
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh dev

demo: setup
	@$(BIN)/handfast demo $(ARGS)

test: setup-dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: setup-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

power-cuts: setup-dev
	@$(BIN)/python -m tests.power_cuts $(ARGS)

# atheris is not among the packages of `dev`: it has wheels for few versions of Python.
fuzz: setup-dev
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench-device: setup-dev
	@command -v valgrind >/dev/null || { echo "bench-device: valgrind is missing; as root: apt-get install valgrind" >&2; exit 3; }
	@$(BIN)/python -m benchmarks.device

clean:
	rm -rf .venv
