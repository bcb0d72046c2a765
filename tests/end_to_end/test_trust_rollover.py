"""A new server CA and a new root for boards that go on calling, under a real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from firmware_rig import Rig, make_rig, wait_until

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities, load_certificates
from handfast.pki.rollover import begin_server_rollover, fingerprint
from handfast.state import StateDir

PASSPHRASE = b"for tests only"
LIFE_S = 10


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    create_authorities(state, PASSPHRASE)
    return state


@pytest.fixture
def gateway(state: StateDir) -> Iterator[GatewayProcess]:
    options = GatewayOptions(device_lifetime_s=LIFE_S, overlap_s=2)
    with GatewayProcess(state, PASSPHRASE, options) as gateway:
        yield gateway


@pytest.fixture
def rig(gateway: GatewayProcess, tmp_path: Path) -> Iterator[Rig]:
    with make_rig(tmp_path / "board", "board", gateway.admin) as rig:
        yield rig


def waited_for(status: dict[str, Any], kind: str) -> list[str]:
    return [device["device_id"] for device in status[kind]["waiting_for"]]


def held(rig: Rig) -> dict[str, list[str]]:
    code = "from mtls.store import Store\nprint(repr(Store().fingerprints()))"
    found: dict[str, list[str]] = eval(rig.repl(code))  # noqa: S307 - what a board of ours printed
    return found


def no_report_was_lost(rig: Rig) -> None:
    acknowledged = rig.acknowledged()
    assert [seq for _, seq in acknowledged] == list(range(1, len(acknowledged) + 1))
    assert set(acknowledged) <= set(rig.stored())
    assert not rig.console.events("error")
    assert not rig.console.events("refused")


def test_a_server_ca_is_rolled_over_under_a_board_that_goes_on_calling(
    rig: Rig, state: StateDir, gateway: GatewayProcess
) -> None:
    old = fingerprint(load_certificates(state)["server"])
    rig.provision()
    rig.start()
    rig.event("telemetry")
    new = fingerprint(begin_server_rollover(state, PASSPHRASE))
    status = gateway.admin.reload_trust()
    assert (status["server"]["in_use"], status["server"]["next"]) == (old, new)
    assert waited_for(status, "server") == ["board"]
    taken = rig.event("anchors")
    assert taken.fields == {"added": "1", "dropped": "0"}
    wait_until(lambda: gateway.admin.rollover()["server"]["in_use"] == new, "the switch")
    dropped = rig.event("anchors", after=taken.number)
    assert dropped.fields == {"added": "0", "dropped": "1"}
    rig.event("telemetry", after=rig.event("renewed", after=dropped.number).number)
    no_report_was_lost(rig)
    rig.stop()
    assert held(rig)["tls"] == [new]
    events = [row["event"] for row in gateway.admin.audit()]
    assert "server-ca-switched" in events
