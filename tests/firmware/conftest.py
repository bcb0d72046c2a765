"""The device library's pure modules run on CPython too: `import mtls` finds firmware/mtls."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from handfast.resources import firmware_dir

sys.path.insert(0, str(Path(__file__).parent / "micropython_model"))
sys.path.insert(0, str(firmware_dir()))

from device_interpreter import BOARDS, program, run_script


@pytest.fixture(scope="session", params=BOARDS)
def micropython(request: pytest.FixtureRequest) -> Path:
    """A simulated board's MicroPython, as a plain interpreter."""
    return program(request.param)


@pytest.fixture(params=["cpython", *BOARDS])
def run_device(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a script of tests/firmware/device everywhere, its arguments relative to tmp_path."""
    interpreter = None if request.param == "cpython" else program(request.param)
    return partial(run_script, interpreter, cwd=tmp_path)
