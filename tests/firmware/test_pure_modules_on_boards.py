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
# These have boards of their own, or peers; what they import serves to make files or to name errors.
ON_BOARDS_ANYWAY = {
    "test_est_client.py",
    "test_fuzz_corpus.py",
    "test_hostile_time.py",
    "test_mqtt_on_board.py",
    "test_wrap_socket.py",
}


def uses_the_library(path: Path) -> bool:
    """Whether a file of tests imports `mtls` into its own interpreter."""
    return any(
        name.partition(".")[0] == "mtls"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in imported(node)
    )


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    return [one.name for one in node.names] if isinstance(node, ast.Import) else []


PURE = [
    path
    for path in sorted(HERE.glob("test_*.py"))
    if uses_the_library(path) and path.name not in ON_BOARDS_ANYWAY
]


@pytest.mark.timeout(1000)
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
    asked = re.findall(rf"^(test_\w+\.py) asked {re.escape(board)}: \d+$", done.stdout, re.M)
    assert asked == [path.name for path in PURE], "a file whose tests never asked the board"
