"""The device library on a simulated board against a real gateway: the whole life of an identity."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from firmware_rig import DEADLINE_S, SIMULATED, Rig, make_rig, wait_until

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir

PASSPHRASE = b"for tests only"
SHORT_LIFE_S = 10
_names = (f"board-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    state = StateDir(tmp_path_factory.mktemp("gateway"))
    create_authorities(state, PASSPHRASE)
    return state


@pytest.fixture(scope="module")
def gateway(state: StateDir) -> Iterator[GatewayProcess]:
    options = GatewayOptions(device_lifetime_s=SHORT_LIFE_S, overlap_s=2)
    with GatewayProcess(state, PASSPHRASE, options) as gateway:
        yield gateway


@pytest.fixture(params=SIMULATED)
def rig(request: pytest.FixtureRequest, gateway: GatewayProcess, tmp_path: Path) -> Iterator[Rig]:
    with make_rig(tmp_path / "board", next(_names), gateway.admin, request.param) as rig:
        yield rig


def test_board_enrols_by_token_and_renews_twice_without_losing_a_report(rig: Rig) -> None:
    rig.provision()
    rig.start()
    assert rig.event("clock").fields["source"] == "tsa"
    assert rig.event("enrolled").fields["by"] == "token"
    rig.event("ping")
    first = rig.event("renewed")
    second = rig.event("renewed", after=first.number)
    rig.event("telemetry", after=second.number)
    acknowledged = rig.acknowledged()
    assert not rig.console.events("error")
    assert not rig.console.events("refused")
    rig.stop()
    assert [seq for _, seq in acknowledged] == list(range(1, len(acknowledged) + 1))
    stored = rig.stored()
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)
    leaves = [c for c in rig.gateway.device(rig.device_id)["certificates"] if c["kind"] == "ldevid"]
    assert len(leaves) == 3


def test_every_leaf_has_a_key_of_its_own_and_the_token_is_gone(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry", after=rig.event("renewed").number)
    rig.stop()
    facts = json.loads(
        rig.repl(
            "import json\nfrom mtls.store import Store\ns = Store()\n"
            "keys = [s.identity(n).key().public() for n in ('a', 'b', 'idevid')]\n"
            "print(json.dumps([len(set(keys)), s.token(), s.current()]))"
        )
    )
    assert facts == [3, None, "b"]


def test_board_without_token_enrols_by_its_idevid(rig: Rig) -> None:
    rig.provision(token=False)
    rig.start()
    assert rig.event("enrolled").fields["by"] == "idevid"
    rig.event("telemetry")


def test_board_kept_off_past_its_leafs_end_comes_back_by_its_idevid(rig: Rig) -> None:
    rig.provision()
    rig.start()
    end = int(rig.event("enrolled").fields["not_after"])
    rig.event("telemetry")
    rig.stop()
    wait_until(lambda: time.time() > end + 1, "the leaf's end")
    rig.start()
    assert rig.event("enrolled").fields["by"] == "idevid"
    rig.event("telemetry")


def test_board_reboots_into_its_leaf_without_enrolling_again(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry")
    rig.stop()
    rig.start()
    rig.event("telemetry")
    assert not rig.console.events("enrolled")


@pytest.mark.parametrize("damaged", [("current",), ("slot-a",), ("slot-a", "slot-b", "current")])
def test_damaged_files_cost_at_most_an_enrolment(rig: Rig, damaged: tuple[str, ...]) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry")
    rig.stop()
    rig.repl(
        f"for n in {damaged!r}:\n with open('/mtls/' + n, 'wb') as f: f.write(b'HFS1 damaged')"
    )
    rig.start()
    rig.event("telemetry")


def test_three_lines_call_the_api_with_the_boards_own_certificate(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry")
    rig.stop()
    printed = rig.repl(
        "import mtls\nfrom mtls.clock import Clock\nfrom mtls.timesync import sync\n"
        "store = mtls.Store()\nsync(store, Clock(store))\n"
        "session = mtls.Session(store.config()['api_url'], store)\n"
        "print(session.get('/v1/ping').json()['device_id'])"
    )
    assert printed.strip() == rig.device_id


def test_session_of_a_board_that_is_not_enrolled_says_so(rig: Rig) -> None:
    printed = rig.provision(
        code="import mtls\nstore = mtls.Store()\n"
        "try: mtls.Session(store.config()['api_url'], store).get('/v1/ping')\n"
        "except mtls.MTLSError as error: print(repr(error))"
    )
    assert printed.startswith("NotEnrolled")


def test_revoked_board_is_refused_and_says_so(rig: Rig) -> None:
    rig.provision()
    rig.start()
    before = rig.event("telemetry")
    rig.gateway.revoke(rig.device_id)
    refused = rig.event("refused", after=before.number)
    assert refused.fields == {"status": "403", "type": "urn:handfast:error:device-revoked"}


def test_suspended_board_works_again_after_resume(rig: Rig) -> None:
    rig.provision()
    rig.start()
    before = rig.event("telemetry")
    rig.gateway.suspend(rig.device_id)
    refused = rig.event("refused", after=before.number)
    assert refused.fields["type"] == "urn:handfast:error:device-suspended"
    rig.gateway.resume(rig.device_id)
    rig.event("telemetry", after=refused.number)


def test_unknown_token_is_told_and_the_idevid_used(rig: Rig) -> None:
    wrong = b'{"token": "not-a-token-of-this-gateway"}'
    rig.provision(token=False, files={"/mtls/secret.json": wrong})
    rig.start()
    assert rig.event("refused").fields["status"] == "401"
    assert rig.event("enrolled").fields["by"] == "idevid"
    rig.event("telemetry")


def test_board_without_any_way_in_says_what_to_do(rig: Rig) -> None:
    rig.provision(token=False, code="import os\nos.remove('/mtls/idevid')")
    rig.start()
    error = rig.event("error")
    assert error.fields["kind"] == "NotEnrolled"
    assert "provision" in error.fields["detail"]


@pytest.mark.parametrize("rtc", [0, 4_070_908_800], ids=["1970", "2099"])
def test_wrong_clock_is_set_right_by_signed_time(rig: Rig, rtc: int) -> None:
    rig.provision()
    rig.start(rtc=rtc)
    told = int(rig.event("clock").fields["time"])
    assert abs(told - time.time()) < 60
    rig.event("telemetry")


def test_board_with_anothers_anchor_talks_to_no_one(
    rig: Rig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = StateDir(tmp_path_factory.mktemp("other"))
    create_authorities(other, PASSPHRASE)
    rig.provision(
        code="import os\nfor n in os.listdir('/mtls/anchor'): os.remove('/mtls/anchor/' + n)",
        files={"/mtls/anchor/tls-0.der": other.ca_certificate("server").read_bytes()},
    )
    rig.start()
    error = rig.event("error")
    assert error.fields["kind"] == "Untrusted"
    assert not rig.console.events("clock")
    leaves = [c for c in rig.gateway.device(rig.device_id)["certificates"] if c["kind"] == "ldevid"]
    assert leaves == []


def test_damaged_configuration_is_one_clear_line(rig: Rig) -> None:
    rig.provision(files={"/mtls/config.json": b'{"schema": 1, "device_id": "UPPER"}'})
    rig.start()
    error = rig.event("error")
    assert error.fields["kind"] == "ConfigError"
    assert "device_id" in error.fields["detail"]


def test_full_flash_is_told_and_leaves_nothing_half_written(rig: Rig) -> None:
    rig.provision(
        code="import os\nos.mkdir('/filler')\nn = size = 4096\n"
        "while size >= 64:\n"
        " n += 1\n"
        " try:\n  with open('/filler/%d' % n, 'wb') as f: f.write(bytes(size))\n"
        " except OSError: size //= 2"
    )
    rig.start()
    assert rig.event("error").fields["kind"] == "FlashFull"
    rig.stop()
    left = rig.repl("import os\nprint([n for n in os.listdir('/mtls') if '.new' in n])")
    assert left.strip() == "[]"
    rig.repl("import os\nfor n in os.listdir('/filler'): os.remove('/filler/' + n)")
    rig.start()
    rig.event("telemetry")


def test_ctrl_c_ends_the_application_at_the_repl(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry")
    rig.console.write(b"\x03")
    rig.console.wait_for("KeyboardInterrupt", DEADLINE_S)
    wait_until(lambda: ">>> " in rig.console.text, "the prompt")


def test_stuck_entropy_stops_the_board_before_any_tls(rig: Rig) -> None:
    rig.provision()
    rig.board.entropy = "stuck"
    rig.start()
    assert rig.event("error").fields["kind"] == "EntropyError"
    assert not rig.console.events("enrolled")


def test_the_key_that_enrolled_is_nowhere_in_the_gateways_files(rig: Rig, state: StateDir) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry")
    rig.stop()
    printed = rig.repl(
        "import binascii\nfrom mtls.store import Store\n"
        "print(binascii.hexlify(Store().identity('a').key().to_der()[7:39]).decode())"
    )
    key = bytes.fromhex(printed.strip())
    needles = (key, key.hex().encode(), base64.b64encode(key)[:40])
    for path in (p for p in state.root.rglob("*") if p.is_file()):
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), path.name


@pytest.mark.parametrize("profile", SIMULATED)
def test_board_goes_on_when_its_gateway_comes_back(
    state: StateDir, tmp_path: Path, profile: str
) -> None:
    own = StateDir(tmp_path / "gateway")
    shutil.copytree(state.ca, own.ca)
    own.root.chmod(0o700)
    with GatewayProcess(own, PASSPHRASE, GatewayOptions()) as gateway:
        ports = {name: urlsplit(gateway.urls[name]).port or 0 for name in gateway.urls}
        with make_rig(tmp_path / "board", next(_names), gateway.admin, profile) as rig:
            rig.provision()
            rig.start()
            rig.event("telemetry")
            gateway.kill()
            lost = rig.event("error", kind="Unreachable")
            same = GatewayOptions(
                api_port=ports["api"], enrol_port=ports["enrol"], public_port=ports["public"]
            )
            with GatewayProcess(own, PASSPHRASE, same):
                rig.event("telemetry", after=lost.number)
                acknowledged = rig.acknowledged()
                assert [seq for _, seq in acknowledged] == list(range(1, len(acknowledged) + 1))
                assert set(acknowledged) <= set(rig.stored())
