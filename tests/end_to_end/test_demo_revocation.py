"""The demo's act about open connections: holds on the real gateway, fails on forgetful ones."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from scene_support import break_gateway, empty_stage, play

from handfast.lab.demo import revocation as act
from handfast.lab.demo.est_client import enrol_new
from handfast.lab.demo.keysearch import Identity
from handfast.lab.demo.revocation import revocation
from handfast.lab.demo.scene import Scene

CHECK = "revocation: an open connection is refused at once"


def test_open_connections_are_refused_at_once(tmp_path: Path) -> None:
    with empty_stage(tmp_path) as scene:
        checks, report = play(revocation, scene)
    assert set(checks) == {CHECK}
    assert checks[CHECK].passed, checks[CHECK].detail
    took = report.totals["revocation_ms"]
    assert isinstance(took, dict)
    assert took["median"] is not None
    assert took["max"] is not None
    assert 0 < took["median"] <= took["max"]


@pytest.mark.parametrize(
    ("slow", "lifetime_s", "said"),
    [(1, 8, "1 more count for nothing"), (3, 1, "3 leaves of 1 s ended before it was done")],
    ids=["one device", "every device"],
)
def test_a_device_whose_leaf_ends_on_a_busy_machine_counts_for_nothing(
    slow: int, lifetime_s: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def enrol_and_dawdle(scene: Scene, name: str) -> Identity:
        asked.append(name)
        identity = enrol_new(scene, name)
        if len(asked) <= slow:
            end = identity.certificate.not_valid_after_utc
            time.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds() + 0.1))
        return identity

    monkeypatch.setattr(act, "_DEVICES", 1)
    monkeypatch.setattr(act, "enrol_new", enrol_and_dawdle)
    with empty_stage(tmp_path, lifetime_s=lifetime_s) as scene:
        checks, _ = play(revocation, scene)
    assert checks[CHECK].passed is (slow == 1)
    assert said in checks[CHECK].detail


@pytest.mark.parametrize(
    ("name", "good", "bad", "said"),
    [
        (
            "gateway/admin.py",
            "closed = self._gateway.close_device(device_id)",
            "closed = 0",
            "idle connection is still open",
        ),
        (
            "gateway/authorise.py",
            "    if state is DeviceState.REVOKED:\n",
            "    if False:\n",
            "certificate-revoked",
        ),
        (
            "gateway/admin.py",
            "        storing = self._registry.stop_device(device_id, state)\n"
            "        closed = self._gateway.close_device(device_id)\n",
            "        import asyncio\n        closed, loop = 0, asyncio.get_running_loop()\n"
            "        late = lambda: self._registry.stop_device(device_id, state)\n"
            "        loop.call_later(0.3, late)\n        storing = asyncio.sleep(0)\n",
            "times after revoke had returned",
        ),
    ],
    ids=["connections stay open", "the device is not looked at", "revoke returns too early"],
)
def test_a_gateway_that_forgets_is_found_out(
    name: str, good: str, bad: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_gateway(tmp_path, monkeypatch, name, good, bad)
    with empty_stage(tmp_path) as scene:
        checks, _ = play(revocation, scene)
    assert not checks[CHECK].passed
    assert said in checks[CHECK].detail
