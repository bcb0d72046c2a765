"""Runs the scripts of tests/firmware/device: on CPython, and on the simulator's MicroPython."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from handfast.boards.builder import build_simulator
from handfast.resources import firmware_dir

DEVICE_SCRIPTS = Path(__file__).parent / "device"
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


def cpython_environment() -> dict[str, str]:
    path = os.pathsep.join((str(firmware_dir()), str(DEVICE_SCRIPTS.parent / "micropython_model")))
    return {**os.environ, "PYTHONPATH": path}


def micropython_environment() -> dict[str, str]:
    """What the simulator needs to run as a plain interpreter with the library in reach."""
    return {**os.environ, "MICROPYPATH": f".frozen:{firmware_dir()}"}


def run_script(interpreter: Path | None, script: str, *arguments: str, cwd: Path) -> list[str]:
    """Run a device script on that MicroPython, or on this Python, and give the lines it prints."""
    environment = micropython_environment() if interpreter else cpython_environment()
    done = subprocess.run(
        [interpreter or sys.executable, str(DEVICE_SCRIPTS / script), *arguments],
        env=environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()
