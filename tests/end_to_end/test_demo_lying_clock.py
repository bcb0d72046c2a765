"""The demo's act about lying clocks: holds on the real firmware, fails on a gullible one."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_support import break_firmware, empty_stage, play

from handfast.lab.demo.lying_clock import lying_clocks

FAR_OFF = {"clock: a board told 2099 recovers", "clock: a board told 1970 recovers"}
LAST_SECOND = "clock: a board told its leaf's last second recovers"


@pytest.mark.parametrize("profile", ["sim-pico-w", "sim-esp32"])
def test_no_board_is_bricked(profile: str, tmp_path: Path) -> None:
    with empty_stage(tmp_path, profile=profile) as scene:
        checks, _ = play(lying_clocks, scene)
    assert set(checks) == FAR_OFF | {LAST_SECOND}
    for check in checks.values():
        assert check.passed, check.detail


def test_a_firmware_that_believes_any_hint_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_firmware(
        tmp_path,
        monkeypatch,
        "mtls/clock.py",
        "if self.source in _SIGNED or not_after is None or not self._floor <= t <= not_after:",
        "if False:",
    )
    with empty_stage(tmp_path) as scene:
        checks, _ = play(lying_clocks, scene)
    assert {name for name, check in checks.items() if not check.passed} == FAR_OFF


def test_a_firmware_whose_floor_rises_under_a_hint_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_firmware(
        tmp_path,
        monkeypatch,
        "mtls/clock.py",
        'if self.source != "tsa":',
        "if self.source is None:",
    )
    with empty_stage(tmp_path) as scene:
        checks, _ = play(lying_clocks, scene)
    assert {name for name, check in checks.items() if not check.passed} == {LAST_SECOND}
    assert "before the floor" in checks[LAST_SECOND].detail
