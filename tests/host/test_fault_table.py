"""docs/reference/faults.md is held to the tests: each has a row, and each count is what is run."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "faults.md").read_text()
ROW = re.compile(r"^\| (.+) \| `(test_\w+)` \| (\d+)( or more)? \| (.+) \|$", re.MULTILINE)
FILES = (
    "tests/faults/test_frozen_step_faults.py",
    "tests/faults/test_install_faults.py",
    "tests/faults/test_provision_faults.py",
    "tests/faults/test_serial_faults.py",
    "tests/host/serial/test_serial_recovery.py",
)
sys.path[:0] = [str(ROOT / "tests" / "faults")]
import test_frozen_step_faults as frozen_step  # noqa: E402
import test_install_faults as install  # noqa: E402


@pytest.fixture(scope="module")
def collected() -> Counter[str]:
    """Return how many cases each test has."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", *FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    return Counter(re.findall(r"^tests/[\w/.]+::(test_\w+)", done.stdout, re.MULTILINE))


def in_loops() -> dict[str, tuple[int, bool]]:
    """Return the cases of tests that count more than pytest does, and whether those are a minimum.

    A loop has as many cases as the installation has steps; it fails itself if those get fewer.
    """
    operations, writes = install.FEWEST_OPERATIONS, install.FEWEST_WRITES
    two = len(install.START)
    cuts = two * (len(range(operations)) + len(range(1, operations, 4)))
    unplugged = len(range(writes - 1)) + len(range(0, writes - 1, 5))
    step = frozen_step.FEWEST_OPERATIONS
    return {
        frozen_step.test_power_cut_in_the_step_leaves_the_copied_library_whole_or_gone.__name__: (
            len(range(step)) + len(range(0, step, 4)),
            True,
        ),
        frozen_step.test_unplugged_in_the_step_it_is_resumed.__name__: (
            frozen_step.UNPLUGGED,
            False,
        ),
        install.test_power_cut_in_an_installation_leaves_the_old_application_or_the_new.__name__: (
            cuts,
            True,
        ),
        install.test_unplugged_at_every_write_it_goes_on_where_it_stopped.__name__: (
            unplugged,
            True,
        ),
        install.test_power_cut_again_while_the_new_application_is_moved_in.__name__: (
            two * install.SECOND_CUTS,
            False,
        ),
    }


def test_every_test_has_one_row(collected: Counter[str]) -> None:
    assert len(collected) > 40
    listed = Counter(test for _, test, *_ in ROW.findall(PAGE))
    assert listed == Counter(dict.fromkeys(collected, 1))


def test_every_count_is_what_is_run(collected: Counter[str]) -> None:
    counted = {test: (number, False) for test, number in collected.items()} | in_loops()
    told = {test: (int(number), bool(more)) for _, test, number, more, _ in ROW.findall(PAGE)}
    assert told == counted


def test_every_row_is_read() -> None:
    """A row that the pattern does not fit would go unchecked."""
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    heads = [line for line in rows if line.startswith(("| fault", "|---"))]
    assert len(rows) - len(heads) == len(ROW.findall(PAGE))
