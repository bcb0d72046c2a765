"""The device library's pure modules run on CPython too: `import mtls` finds firmware/mtls."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from handfast.boards.builder import build_simulator
from handfast.resources import firmware_dir

sys.path.insert(0, str(firmware_dir()))

DEVICE_SCRIPTS = Path(__file__).parent / "device"


def interpreter_environment() -> dict[str, str]:
    """What the simulator needs to run as a plain interpreter with the library in reach."""
    return {**os.environ, "MICROPYPATH": f".frozen:{firmware_dir()}"}


@pytest.fixture(scope="session")
def micropython() -> Path:
    """The simulated Pico W's MicroPython, as a plain interpreter."""
    return build_simulator("sim-pico-w")


@pytest.fixture(params=["cpython", "micropython"])
def run_device(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a script of tests/firmware/device with arguments, and gives the lines it prints."""
    program = sys.executable
    environment = {**os.environ, "PYTHONPATH": str(firmware_dir())}
    if request.param == "micropython":
        program = str(request.getfixturevalue("micropython"))
        environment = interpreter_environment()

    def run(script: str, *arguments: str) -> list[str]:
        done = subprocess.run(
            [program, str(DEVICE_SCRIPTS / script), *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    return run
