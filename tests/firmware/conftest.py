"""The device library's pure modules run on CPython too: `import mtls` finds firmware/mtls."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from handfast.boards.builder import build_simulator
from handfast.resources import firmware_dir

sys.path.insert(0, str(Path(__file__).parent / "micropython_model"))
sys.path.insert(0, str(firmware_dir()))

from device_interpreter import run_script

# The gate, the board whose epoch is 2000, and the oldest MicroPython that is supported, of both.
BOARDS = {
    "pico-w": ("sim-pico-w", None),
    "pico-w-1.25.0": ("sim-pico-w", "1.25.0"),
    "esp32": ("sim-esp32", None),
    "esp32-1.25.0": ("sim-esp32", "1.25.0"),
}


def program(board: str) -> Path:
    profile, version = BOARDS[board]
    return build_simulator(profile, micropython=version)


@pytest.fixture(scope="session", params=BOARDS)
def micropython(request: pytest.FixtureRequest) -> Path:
    """A simulated board's MicroPython, as a plain interpreter."""
    return program(request.param)


@pytest.fixture(params=["cpython", *BOARDS])
def run_device(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a script of tests/firmware/device everywhere, its arguments relative to tmp_path."""
    interpreter = None if request.param == "cpython" else program(request.param)
    return partial(run_script, interpreter, cwd=tmp_path)
