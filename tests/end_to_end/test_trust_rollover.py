"""A new server CA and a new root for boards that go on calling, under a real gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from firmware_rig import SIMULATED, Rig, make_rig, profile_and_version, wait_until
from scene_support import break_gateway

from handfast.boards.qemu_mps2_build import BOARD as QEMU_MPS2
from handfast.boards.virtual import boards_at
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities, load_certificates
from handfast.pki.rollover import begin_root_rollover, begin_server_rollover, fingerprint
from handfast.state import StateDir

PASSPHRASE = b"for tests only"
# The emulator has two cores to share with others.
LIFE_S = {**dict.fromkeys(SIMULATED, 10), QEMU_MPS2: 20}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    state = StateDir(tmp_path / "state")
    create_authorities(state, PASSPHRASE)
    return state


@pytest.fixture
def profile() -> str:
    """The board; tests that run on several are parametrized by this name."""
    return "sim-pico-w"


@pytest.fixture
def gateway(state: StateDir, profile: str) -> Iterator[GatewayProcess]:
    options = GatewayOptions(
        device_lifetime_s=LIFE_S[profile],
        overlap_s=2,
        boards_at=boards_at(profile_and_version(profile)[0]),
    )
    with GatewayProcess(state, PASSPHRASE, options) as gateway:
        yield gateway


@pytest.fixture
def rig(gateway: GatewayProcess, profile: str, tmp_path: Path) -> Iterator[Rig]:
    with make_rig(tmp_path / "board", "board", gateway.admin, profile) as rig:
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


@pytest.mark.parametrize("profile", [*SIMULATED, QEMU_MPS2])
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


@pytest.mark.parametrize("profile", [*SIMULATED, QEMU_MPS2])
def test_a_new_root_is_taken_through_the_old_one_and_the_server_ca_below_it_after(
    rig: Rig, state: StateDir, gateway: GatewayProcess
) -> None:
    before = load_certificates(state)
    rig.provision()
    rig.start()
    rig.event("telemetry")
    root = fingerprint(begin_root_rollover(state, PASSPHRASE))
    status = gateway.admin.reload_trust()
    assert status["root"]["in_use"] == root
    assert status["root"]["old"] == fingerprint(before["root"])
    assert waited_for(status, "root") == ["board"]
    taken = rig.event("anchors")
    assert taken.fields == {"added": "1", "dropped": "0"}
    wait_until(lambda: not gateway.admin.rollover()["root"]["waiting_for"], "the report")
    # Its TLS anchor is still of the old root: that is published until the server CA has followed.
    assert gateway.admin.rollover()["root"]["old"]
    server = fingerprint(begin_server_rollover(state, PASSPHRASE))
    gateway.admin.reload_trust()
    wait_until(lambda: gateway.admin.rollover()["server"]["in_use"] == server, "the switch")
    wait_until(lambda: gateway.admin.rollover()["root"]["old"] is None, "the old root's end")
    last = rig.event("anchors", after=rig.event("anchors", after=taken.number).number)
    rig.event("telemetry", after=rig.event("renewed", after=last.number).number)
    no_report_was_lost(rig)
    rig.stop()
    assert held(rig) == {"tls": [server], "root": [root]}


@pytest.mark.parametrize("profile", SIMULATED)
def test_a_board_that_missed_a_rollover_is_anchored_anew_over_serial(
    rig: Rig, state: StateDir, gateway: GatewayProcess
) -> None:
    rig.provision()
    rig.start()
    enrolled = rig.event("enrolled")
    rig.event("telemetry")
    rig.stop()
    begin_root_rollover(state, PASSPHRASE)
    begin_server_rollover(state, PASSPHRASE)
    status = gateway.admin.reload_trust()
    assert waited_for(status, "server") == ["board"]
    status = gateway.admin.switch_server_ca()
    assert status["server"]["next"] is None
    assert waited_for(gateway.admin.retire_root(), "root") == []
    rig.start()
    rig.event("error", kind="Untrusted")
    rig.stop()
    rig.provision()
    assert held(rig) == {
        "tls": [status["server"]["in_use"]],
        "root": [status["root"]["in_use"]],
    }
    rig.start()
    rig.event("telemetry")
    wait_until(lambda: reports(gateway) == [status["server"]["in_use"]], "its report")
    keys = gateway.admin.device("board")["certificates"]
    assert enrolled.fields["serial"] in [row["serial"] for row in keys]


def reports(gateway: GatewayProcess) -> list[str]:
    anchors = gateway.admin.device("board")["anchors"]
    found: list[str] = anchors["tls"]
    return found


def test_a_suspended_device_does_not_hold_up_the_switch(
    state: StateDir, gateway: GatewayProcess
) -> None:
    gateway.admin.add_device("never-seen")
    new = fingerprint(begin_server_rollover(state, PASSPHRASE))
    assert waited_for(gateway.admin.reload_trust(), "server") == ["never-seen"]
    gateway.admin.suspend("never-seen")
    wait_until(lambda: gateway.admin.rollover()["server"]["in_use"] == new, "the switch")


@pytest.mark.parametrize("profile", SIMULATED)
def test_cacerts_that_make_no_sense_cost_no_renewal(
    state: StateDir, profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = "answer = _certificates(self._gateway.published.all)\n"
    bad = "answer = _base64_response(bytes(30_000), 'application/pkcs7-mime')\n"
    break_gateway(tmp_path, monkeypatch, "gateway/est.py", good, bad)
    options = GatewayOptions(device_lifetime_s=LIFE_S[profile], overlap_s=2)
    with (
        GatewayProcess(state, PASSPHRASE, options) as gateway,
        make_rig(tmp_path / "board", "board", gateway.admin, profile) as rig,
    ):
        rig.provision()
        before = held(rig)
        rig.start()
        first = rig.event("renewed")
        second = rig.event("renewed", after=first.number)
        rig.event("telemetry", after=second.number)
        errors = rig.console.events("error")
        assert {event.fields["kind"] for event in errors} == {"ProtocolError"}
        rig.stop()
        assert held(rig) == before
