"""The demo's act about open connections: holds on the real gateway, fails on forgetful ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from scene_support import break_gateway, empty_stage, play

from handfast.lab.demo.revocation import revocation

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
            "        import asyncio\n        closed, storing = 0, asyncio.sleep(0)\n"
            "        loop = asyncio.get_running_loop()\n"
            "        loop.call_later(0.3, self._registry.stop_device, device_id, state)\n",
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
