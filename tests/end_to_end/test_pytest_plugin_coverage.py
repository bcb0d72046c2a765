"""--handfast-coverage: what boards have run, in the report of coverage.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from plugin_support import RUN_S, Project

DEVICE = '''\
"""Runs on the board."""
from micropython import const

_LIMIT = const(3)


def level(number):
    """Say how much it is."""
    if number > _LIMIT:
        return "much"
    for _ in range(2):
        pass
    return "little"


def never(number):
    return number


async def later():
    while True:
        try:
            return level(
                1,
            )
        except ValueError:
            return None
        finally:
            pass
'''

HOST = """\
def used():
    return 1


def unused():
    return 2
"""

TESTS = '''\
import host_part

def test_a_little(board):
    """Nothing of `never`, nor of what is much."""
    push(board)
    assert board.call("levels.level", 1) == "little"
    assert host_part.used() == 1

def test_after_a_reset_and_a_power_cut(board):
    push(board)
    board.exec("import asyncio, levels\\nasyncio.run(levels.later())")
    board.power_cycle()
    assert board.call("levels.level", 2) == "little"

def push(board):
    from pathlib import Path
    board._repl().push({"/levels.py": Path("device/levels.py").read_bytes()})
'''


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    made.write("device/levels.py", DEVICE)
    made.write("host_part.py", HOST)
    made.write("test_levels.py", TESTS)
    return made


def run(project: Project, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=project.folder,
        env=project.environment() | {"COVERAGE_FILE": ".coverage"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def report(project: Project) -> dict[str, Any]:
    run(project, "coverage", "json", "-q", "-o", "report.json")
    files: dict[str, Any] = json.loads((project.folder / "report.json").read_text())["files"]
    return files


def number_of(text: str, line: str) -> int:
    return next(n for n, each in enumerate(text.splitlines(), 1) if each.strip() == line)


MISSING = [
    number_of(DEVICE, line)
    for line in ('return "much"', "return number", "except ValueError:", "return None")
]


def test_lines_that_no_board_ran_are_missing_in_the_one_report(project: Project) -> None:
    run(
        project,
        *("coverage", "run", "--source=.", "-m", "pytest", "-p", "no:cacheprovider"),
        *("--handfast-coverage",),
    )
    files = report(project)
    assert files["device/levels.py"]["missing_lines"] == MISSING
    assert files["host_part.py"]["missing_lines"] == [number_of(HOST, "return 2")]
    app = files["device/app.py"]  # nobody imported it
    assert app["summary"]["covered_lines"] == 0
    assert not [name for name in files if "mtls" in name]


def test_workers_leave_data_that_combines_with_the_hosts(project: Project) -> None:
    lines = ("pytest", "-p", "no:cacheprovider", "-n", "2", "--handfast-coverage")
    run(project, *lines)
    left = list(project.folder.glob(".coverage.*"))
    assert len(left) == 2
    run(project, "coverage", "run", "--source=.", "--data-file=.coverage.host", "host_part.py")
    run(project, "coverage", "combine", "-q")
    files = report(project)
    assert files["device/levels.py"]["missing_lines"] == MISSING
    assert files["host_part.py"]["missing_lines"] == [2, 6]


@pytest.mark.parametrize(
    ("setting", "options", "said"),
    [
        ("[run]\nbranch = true\n", [], "cannot combine them with branches"),
        ("", ["--handfast-board=/dev/ttyACM0"], "is for simulated boards: /dev/ttyACM0 cannot"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error(
    project: Project, setting: str, options: list[str], said: str
) -> None:
    project.write(".coveragerc", setting)
    outcome = project.run("--handfast-coverage", *options)
    assert outcome.status == pytest.ExitCode.USAGE_ERROR, outcome.text
    assert said in outcome.text
