"""The gateway ended by SIGKILL while devices enrol: what was handed out is known afterwards."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gateway_kit import Requester
from gateway_live import Identity, Live, copy_of, wait_for
from gateway_rig import slug_of

from handfast.lab.gateway_process import GatewayOptions
from handfast.state import StateDir

_DEVICES = 40
_KILL_AFTER = 12


class _Fleet:
    """Devices that enrol at the same time, each with a token and a key of its own."""

    def __init__(self, gateway: Live) -> None:
        self.gateway = gateway
        self.keys = {f"device-{n}": Requester.new() for n in range(_DEVICES)}
        self.tokens = {name: self._token(name) for name in self.keys}
        self.enrolled: dict[str, Identity] = {}
        self.changed = threading.Condition()

    def _token(self, name: str) -> str:
        self.gateway.admin.add_device(name)
        token: str = self.gateway.admin.create_token(name, lifetime_s=600)["token"]
        return token

    def enrol(self, name: str) -> None:
        key = self.keys[name]
        try:
            answer = self.gateway.enrol(name, key, token=self.tokens[name])
        except httpx.TransportError:
            return  # the gateway is gone
        identity = self.gateway.identity(key, answer)
        with self.changed:
            self.enrolled[name] = identity
            self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.enrolled) >= count, timeout=30)


@pytest.mark.parametrize("kill_after", [1, _KILL_AFTER])
def test_a_gateway_killed_while_devices_enrol_forgets_no_certificate(
    ca_folder: StateDir, tmp_path: Path, kill_after: int
) -> None:
    identities = tmp_path / "identities"
    identities.mkdir()
    state = copy_of(ca_folder, tmp_path / "state")
    gateway = Live(state, GatewayOptions(), identities)
    gateway.start()
    try:
        fleet = _Fleet(gateway)
        with ThreadPoolExecutor(4) as pool:
            for name in fleet.keys:
                pool.submit(fleet.enrol, name)
            fleet.wait_for(kill_after)
            gateway.kill()
        assert len(fleet.enrolled) < _DEVICES, "the gateway was killed too late to tell anything"
        with sqlite3.connect(state.registry) as registry:
            assert registry.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        before = dict(fleet.enrolled)
        gateway.start()
        for name in fleet.keys:
            fleet.enrol(name)
        for name, identity in before.items():
            assert fleet.enrolled[name].certificate == identity.certificate
        for name, identity in fleet.enrolled.items():
            assert gateway.ping(identity).json()["device_id"] == name
            (row,) = gateway.admin.device(name)["certificates"]
            assert row["state"] == "current"
    finally:
        gateway.stop()


def test_a_revocation_that_was_answered_survives_a_kill(
    ca_folder: StateDir, tmp_path: Path
) -> None:
    state = copy_of(ca_folder, tmp_path / "state")
    gateway = Live(state, GatewayOptions(), tmp_path)
    gateway.start()
    try:
        identity = gateway.enrolled("lost")
        gateway.admin.revoke("lost")
        gateway.kill()
        gateway.start()
        refused = wait_for(lambda: gateway.ping(identity))
        assert slug_of(refused) == "device-revoked"
    finally:
        gateway.stop()
