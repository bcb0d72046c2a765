"""The demo's act of a trust anchor rollover: it passes on the real thing, fails on a broken one."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_support import break_firmware, break_gateway, empty_stage, play

from handfast.lab.demo import trust_rollover as act
from handfast.lab.demo.trust_rollover import trust_rollover

ROOT = "trust rollover: a new root, taken through the old one"
SERVER = "trust rollover: a new server CA, no call lost"


@pytest.mark.parametrize("profile", ["sim-pico-w", "sim-esp32"])
def test_a_root_and_a_server_ca_are_rolled_over(profile: str, tmp_path: Path) -> None:
    with empty_stage(tmp_path, profile=profile) as scene:
        checks, report = play(trust_rollover, scene)
    assert report.passed, report.as_json()
    assert list(checks) == [ROOT, SERVER]
    assert "none lost" in checks[SERVER].detail


def test_a_board_that_takes_no_new_root_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "to_root = new_roots(published, roots, now)\n"
    break_firmware(tmp_path, monkeypatch, "mtls/rollover.py", good, "to_root = []\n")
    monkeypatch.setattr(act, "_WITHIN_S", 12.0)
    with empty_stage(tmp_path) as scene:
        checks, _ = play(trust_rollover, scene)
    assert not checks[ROOT].passed


def test_a_gateway_that_waits_for_nobody_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "if device.state is not DeviceState.ACTIVE or"
    break_gateway(tmp_path, monkeypatch, "gateway/rollover.py", good, "if device_id or")
    monkeypatch.setattr(act, "_WITHIN_S", 12.0)
    with empty_stage(tmp_path) as scene:
        checks, _ = play(trust_rollover, scene)
    assert not checks[ROOT].passed
    assert "waits for []" in checks[ROOT].detail
