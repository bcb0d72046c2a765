"""The tests of the library's pure modules, as they are, with the library in MicroPython."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from device_interpreter import BOARDS

HERE = Path(__file__).parent


def uses_the_library(path: Path) -> bool:
    """Whether a file of tests imports `mtls` into its own interpreter."""
    return any(
        isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "mtls"
        for node in ast.parse(path.read_text("utf-8")).body
    )


# These have a board of their own, or a peer: what they import serves to make its files.
ON_BOARDS_ANYWAY = {"test_mqtt_on_board.py", "test_wrap_socket.py", "test_hostile_time.py"}
PURE = [
    path
    for path in sorted(HERE.glob("test_*.py"))
    if uses_the_library(path) and path.name not in ON_BOARDS_ANYWAY
]


@pytest.mark.parametrize("board", BOARDS)
def test_every_file_passes_on(board: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--tb=short", *PURE],
        env={**os.environ, "HANDFAST_LIBRARY_ON": board},
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
    counted = re.search(r"^(\d+) passed, 0 failed, 0 skipped", done.stdout, re.MULTILINE)
    assert counted, done.stdout[-2_000:]
    assert int(counted[1]) > 2000
