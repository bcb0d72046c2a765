"""The scripts of the workflow that users' projects call, run as they stand in such a project."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOW = ROOT / ".github" / "workflows" / "test-boards.yml"

TEST = """
import importlib.util
import pytest

def test_what_was_required_is_there():
    assert importlib.util.find_spec("iniconfig")

@pytest.mark.board(capabilities=["power_cut"])
def test_it_answers(board):
    assert board.exec("print(1)") == "1\\n"

def test_left_out(board):
    raise AssertionError
"""


def scripts() -> dict[str, dict[str, Any]]:
    """Return name → step of those that run a script; system packages are the runner's."""
    (job,) = yaml.safe_load(WORKFLOW.read_text())["jobs"].values()
    steps = {step["name"]: step for step in job["steps"] if "run" in step}
    steps.pop("System packages")
    assert job["defaults"]["run"]["shell"] == "bash"
    return steps


def variables(step: dict[str, Any], given: dict[str, str]) -> dict[str, str]:
    """Return the step's environment, with the inputs as a caller gives them, or their defaults."""
    inputs = yaml.safe_load(WORKFLOW.read_text())[True]["workflow_call"]["inputs"]
    found = {}
    for name, value in step["env"].items():
        kind, _, key = value.removeprefix("${{ ").removesuffix(" }}").partition(".")
        assert kind in ("inputs", "secrets")
        found[name] = given.get(key, "" if kind == "secrets" else str(inputs[key]["default"]))
    return found


@pytest.mark.timeout(900)
def test_a_project_that_calls_the_workflow_has_its_tests_run(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "test_it.py").write_text(TEST)
    (project / "requirements.txt").write_text("iniconfig\n")
    given = {
        "handfast": str(ROOT),
        "requirements": "requirements.txt",
        "arguments": "-v -k not(left_out)",
    }
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PYTHONPATH", "LG_"))
    }
    printed = ""
    for step in scripts().values():
        # As the runner has it: bash --noprofile --norc -eo pipefail
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=project,
            env=kept | {"RUNNER_TEMP": str(tmp_path)} | variables(step, given),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=400,
            check=False,
        )
        printed += done.stdout
        assert done.returncode == 0, printed
    assert "2 passed, 1 deselected" in printed
    assert "test_it_answers" in (project / "boards.html").read_text()
    assert "handfast_board" in (project / "boards.xml").read_text()
