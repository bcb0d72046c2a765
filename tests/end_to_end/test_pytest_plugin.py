"""The plugin as users have it: registered by its entry point, in a project of their own."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_support import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_issues_example_runs_as_it_stands(project: Project) -> None:
    project.write(
        "test_power.py",
        """
import pytest

@pytest.mark.board(capabilities=["power_cut"])
def test_reports_after_power_loss(board, gateway):
    device = board.provision(gateway)
    with board.power_cut(at="any"):
        board.call("app.report", 21.5)
    assert gateway.wait_for_telemetry(device, timeout_s=10)
""",
    )
    outcome = project.run()
    assert outcome.status == 0, outcome.text
    assert outcome.counted("passed") == 1
