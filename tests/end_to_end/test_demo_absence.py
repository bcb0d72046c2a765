"""The demo's act of a long absence: it passes on the real thing and fails on a broken one."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_support import break_firmware, empty_stage, play

from handfast.lab.demo import comeback
from handfast.lab.demo.absence import long_absence

CHECK = "long absence: back by the IDevID"


@pytest.mark.parametrize("profile", ["sim-pico-w", "sim-esp32"])
def test_a_board_comes_back_from_a_long_absence(profile: str, tmp_path: Path) -> None:
    with empty_stage(tmp_path, lifetime_s=4, profile=profile) as scene:
        checks, report = play(long_absence, scene)
    assert report.passed, report.as_json()
    assert list(checks) == [CHECK]
    assert "certificate-expired" in checks[CHECK].detail


def test_a_board_that_does_not_think_of_its_idevid_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = 'idevid = agent.store.identity("idevid")\n    if idevid is not None and'
    bad = "idevid = None\n    if idevid is not None and"
    break_firmware(tmp_path, monkeypatch, "mtls/enrolment.py", good, bad)
    monkeypatch.setattr(comeback, "BOOT_WITHIN_S", 8.0)
    with empty_stage(tmp_path, lifetime_s=4) as scene:
        checks, _ = play(long_absence, scene)
    assert not checks[CHECK].passed
    assert "no report acknowledged" in checks[CHECK].detail
    assert "NotEnrolled" in checks[CHECK].detail
