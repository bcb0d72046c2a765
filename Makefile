# Handfast. `make demo` and `make test` are all a newcomer needs; both set up what they use.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := .venv/bin
# Two workers a core: most tests wait for a board, a peer or a deadline.
WORKERS ?= $(shell echo $$(( $$(nproc) * 2 )))

.PHONY: help demo test test-emulated test-upstream test-wokwi lint power-cuts soak fuzz \
	bench-device bench-harness bench-emulated firmware-matrix setup setup-dev setup-emulated clean

help:
	@echo "make demo          simulated boards enrol, call a REST API over mutual TLS, renew, and are revoked"
	@echo "make test          the whole test suite"
	@echo "make test-upstream MicroPython's own TLS, asyncio and socket tests, on every board"
	@echo "make test-emulated a board's life on the real firmware for an RP2040, in an emulator of it"
	@echo "make test-wokwi    boards in Wokwi's cloud (needs WOKWI_CLI_TOKEN)"
	@echo "make lint          ruff and mypy"
	@echo "make power-cuts    a board's power fails at every flash operation, and again while it recovers"
	@echo "make soak          an emulated RP2040's network comes up again and again (a minute or two, once it is built)"
	@echo "make fuzz          the device's parsers under a coverage-guided fuzzer (about four minutes)"
	@echo "make bench-device  instructions and bytes that the device library costs a board"
	@echo "make bench-harness how fast files get to a board, against mpremote"
	@echo "make bench-emulated the library's cost in instructions of a Cortex-M3, which QEMU emulates"
	@echo "make firmware-matrix what each build option of custom firmware costs, and that it boots"
	@echo "make clean         remove .venv (builds stay in the user's cache folder)"

setup:
	@scripts/setup.sh

setup-dev:
	@scripts/setup.sh dev

setup-emulated:
	@scripts/setup.sh emulated

demo: setup
	@$(BIN)/handfast demo $(ARGS)

test: setup-dev
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-upstream: setup-emulated
	@$(BIN)/python -m tests.upstream --workers $(WORKERS) $(ARGS)

# A worker for each processor, which an emulated chip takes for itself; a file may be one board's life.
test-emulated: setup-emulated
	@$(BIN)/python -m pytest -n $$(nproc) --dist loadfile tests/emulated $(ARGS)

test-wokwi: setup-dev
	@[ -n "$${WOKWI_CLI_TOKEN:-}" ] || { echo "test-wokwi: set WOKWI_CLI_TOKEN (https://wokwi.com/dashboard/ci)" >&2; exit 3; }
	@$(BIN)/python -m pytest tests/wokwi_cloud $(ARGS)

lint: setup-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

power-cuts: setup-dev
	@$(BIN)/python -m tests.power_cuts $(ARGS)

soak: setup-emulated
	@$(BIN)/python -m tests.soak $(ARGS)

# atheris is not among the packages of `dev`: it has wheels for few versions of Python.
fuzz: setup-dev
	@$(BIN)/python -c "import atheris" 2>/dev/null || $(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench-device: setup-dev
	@command -v valgrind >/dev/null || { echo "bench-device: valgrind is missing; as root: apt-get install valgrind" >&2; exit 3; }
	@$(BIN)/python -m benchmarks.device

bench-harness: setup-dev
	@$(BIN)/python -m benchmarks.harness $(ARGS)

bench-emulated: setup-dev
	@$(BIN)/python -m benchmarks.emulated

firmware-matrix: setup-emulated
	@$(BIN)/python -m benchmarks.firmware_matrix $(ARGS)

clean:
	rm -rf .venv
