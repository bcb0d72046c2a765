"""An agent outlives each error but the end of its task, and says what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from device_interpreter import run_script

CONFIG = {"schema": 1, "device_id": "d", "trust_domain": "t"}
CONFIG |= {"api_url": "https://h", "enrol_url": "https://h"}
# Of each, one in the agent's own work, and one while it asks for a window.
KINDS = ["OutOfMemory", "OSError", "OSError", "ValueError", "KeyError"]


@pytest.mark.parametrize("on_event", ["listens", "raises"])
@pytest.mark.parametrize("way", ["step", "run"])
def test_no_error_ends_an_agent(micropython: Path, tmp_path: Path, way: str, on_event: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    raises = ["raises"] if on_event == "raises" else []
    lines = run_script(micropython, "agent_survives.py", str(tmp_path), way, *raises, cwd=tmp_path)
    told, went_on = json.loads(lines[-1])
    assert sorted(told) == sorted(["error", kind] for kind in 2 * KINDS)
    assert went_on
    assert ("the application's own" in "".join(lines)) == (on_event == "raises")
