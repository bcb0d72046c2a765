"""A user's tests on an emulated RP2040: leased fresh, reset, enrolled; its line goes and comes."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_support import Project

from handfast.boards.rp2040_build import build_emulator, build_firmware

pytestmark = pytest.mark.timeout(900)  # with the build, beside another one


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """Build what the project's tests take: their time is for the board."""
    build_firmware()
    build_emulator()


def test_a_project_tests_on_it_as_on_any_board(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(
        "test_it.py",
        """
WHILE = "import time\\nwhile True:\\n print('it runs')\\n time.sleep(1)"

def test_starts_again(board):
    board.exec("with open('main.py', 'w') as file: file.write(%r)" % WHILE)
    for again in (board.reset, board.power_cycle):
        again()
        board.expect("it runs", timeout_s=60)
    assert board.exec("print(6 * 7)").strip() == "42"

def test_enrols_on_a_fresh_chip(board, gateway):
    assert "main.py" not in board.exec("import os; print(os.listdir())", timeout_s=60)
    device = board.provision(gateway)
    assert gateway.wait_for_telemetry(device, timeout_s=120)
""",
    )
    outcome = project.run("--handfast-board=rp2040")
    assert outcome.status == 0, outcome.text
    assert outcome.counted("passed") == 2
