"""The suite's own rule about skips, tried on small suites."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def run(folder: Path, *, allowed: str, workers: tuple[str, ...]) -> tuple[int, str]:
    shutil.copy(CONFTEST, folder)
    (folder / "allowed_skips.txt").write_text(allowed)
    (folder / "test_some.py").write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "@pytest.mark.skip(reason='no such tool')\n"
        "def test_skipped(): pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *workers, str(folder)]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_skip_that_is_not_on_the_list_fails_the_run(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    code, said = run(tmp_path, allowed="", workers=workers)
    assert code == 1
    assert "test_skipped: Skipped: no such tool" in said
    assert said.rstrip().endswith("1 passed, 0 failed, 1 skipped")


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_skip_on_the_list_with_its_reason_passes(
    tmp_path: Path, workers: tuple[str, ...]
) -> None:
    allowed = "test_some.py::test_skipped | no such tool  # it is not packaged\n"
    assert run(tmp_path, allowed=allowed, workers=workers)[0] == 0


@pytest.mark.parametrize(
    "allowed", ["test_some.py::test_skipped | another reason\n", "test_some.py::test_skipped\n"]
)
def test_a_skip_on_the_list_with_another_reason_or_none_fails_the_run(
    tmp_path: Path, allowed: str
) -> None:
    assert run(tmp_path, allowed=allowed, workers=())[0] == 1
