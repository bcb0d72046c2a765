"""How often a board asks a time-stamp authority that does not answer: a question blocks it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

from device_interpreter import run_script

CONFIG = {"schema": 1, "device_id": "d", "trust_domain": "t"}
CONFIG |= {"api_url": "https://h", "enrol_url": "https://h"}


def test_a_silent_authority_is_asked_ever_more_seldom_until_it_answers(
    micropython: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (line,) = run_script(micropython, "agent_asks_for_time.py", str(tmp_path), "3", cwd=tmp_path)
    silent, after = (
        [later - sooner for sooner, later in itertools.pairwise(moments)]
        for moments in json.loads(line)
    )
    assert silent[0] <= 30
    assert silent == sorted(silent)
    assert 600 <= silent[-1] <= 1800  # often enough for an authority that was restarted
    assert after[0] <= 30
