"""The device library's pure modules run on CPython too: `import mtls` finds firmware/mtls."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from handfast.boards.builder import build_simulator
from handfast.resources import firmware_dir

sys.path.insert(0, str(firmware_dir()))

from device_interpreter import run_script


@pytest.fixture(scope="session")
def micropython() -> Path:
    """The simulated Pico W's MicroPython, as a plain interpreter."""
    return build_simulator("sim-pico-w")


@pytest.fixture(params=["cpython", "micropython"])
def run_device(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a script of tests/firmware/device, its arguments relative to tmp_path."""
    on_board = request.param == "micropython"
    interpreter = request.getfixturevalue("micropython") if on_board else None
    return partial(run_script, interpreter, cwd=tmp_path)
