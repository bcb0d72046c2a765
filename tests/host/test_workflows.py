"""What the workflows run is what people run: the CI script, and targets that the Makefile has."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MATRIX = "${{ matrix.command }}"


def jobs(workflow: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load(workflow.read_text("utf-8"))["jobs"].values())


def commands(workflow: Path) -> list[str]:
    """Return each command of a workflow, those of a matrix one by one."""
    found = []
    for job in jobs(workflow):
        runs = [step["run"] for step in job["steps"] if "run" in step]
        found += [run for run in runs if run != MATRIX]
        if MATRIX in runs:
            found += job["strategy"]["matrix"]["command"]
    return found


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_every_command_is_one_that_people_run_too(workflow: Path) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    ran = [command for command in commands(workflow) if not command.startswith("apt-get ")]
    assert ran
    for command in ran:
        words = command.split()
        assert words == ["bash", ".ci/run"] or (words[0] == "make" and words[1] in targets), command


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_and_ends_by_itself(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text("utf-8"))["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 360 for job in jobs(workflow))
