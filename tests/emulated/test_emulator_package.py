"""The emulator's own tests and types, with the node and the packages that its lock pins."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from handfast.boards.rp2040_build import build_emulator, node_of


@pytest.fixture(scope="module")
def emulator() -> Path:
    return build_emulator(dev=True)


def run(emulator: Path, *arguments: str) -> None:
    done = subprocess.run(
        [node_of(emulator), *arguments],
        cwd=emulator,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_types_hold(emulator: Path) -> None:
    run(emulator, "node_modules/typescript/bin/tsc", "--noEmit")


def test_its_own_tests_pass(emulator: Path) -> None:
    run(emulator, "--test", "test/")
