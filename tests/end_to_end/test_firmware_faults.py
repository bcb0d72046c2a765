"""A board with something wrong on its flash or around it goes on with what is still good."""

from __future__ import annotations

import hashlib
import itertools
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from firmware_rig import DEADLINE_S, SIMULATED, Rig, give_long_names, make_rig
from provision_support import PASSPHRASE, running_gateway

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.lab.lying_ntp import LyingNtpServer
from handfast.pki.authorities import create_authorities, load_authority
from handfast.pki.issue import issue_device_leaf
from handfast.resources import firmware_dir
from handfast.state import StateDir

_names = (f"faulty-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), GatewayOptions()) as (_, gateway):
        yield gateway


@pytest.fixture(params=SIMULATED)
def rig(request: pytest.FixtureRequest, gateway: GatewayProcess, tmp_path: Path) -> Iterator[Rig]:
    with make_rig(tmp_path / "board", next(_names), gateway.admin, request.param) as rig:
        yield rig


def edit_config(edit: str) -> str:
    """Return code for the board that does ``edit`` to its configuration ``c``."""
    return (
        "import json\nwith open('/mtls/config.json') as f: c = json.load(f)\n"
        f"{edit}\nwith open('/mtls/config.json', 'w') as f: json.dump(c, f)"
    )


NO_TSA = edit_config("c['tsa_url'] += '/missing'")
NO_LISTENER = edit_config("c['tsa_url'] = 'http://127.0.0.1:1/tsa'") + "\n"


@contextmanager
def hanging_up() -> Iterator[int]:
    """Yield the port of a listener that closes each connection without a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    listener.accept()[0].close()

        Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def slot_file(key_der: bytes, leaf_der: bytes) -> bytes:
    """Return a slot as the device's store writes it."""
    parts = [len(part).to_bytes(2, "big") + part for part in (key_der, leaf_der)]
    body = b"HFS1" + b"".join(parts)
    return body + hashlib.sha256(body).digest()


def with_main(before: str) -> dict[str, bytes]:
    """Return files that run the application after some lines of our own."""
    application = (firmware_dir() / "app/main.py").read_bytes()
    return {
        "/app.py": application,
        "/main.py": f"{before}\nimport app\napp.main()\n".encode(),
    }


def test_a_lie_that_could_be_right_does_not_have_the_board_renew_for_ever(rig: Rig) -> None:
    rig.provision()
    rig.start()
    end = int(rig.event("enrolled").fields["not_after"])
    rig.event("telemetry")
    rig.stop()
    with LyingNtpServer(end - 1) as ntp:
        rig.repl(
            NO_LISTENER + edit_config(f"c['ntp_host'] = '127.0.0.1'; c['ntp_port'] = {ntp.port}")
        )
        console = rig.start()
        assert int(rig.event("clock", source="ntp").fields["time"]) == end - 1
        corrected = rig.event("clock", source="leaf")
        rig.event("telemetry", seq="4")  # some seconds later
    behind_s = corrected.line.at.timestamp() - int(corrected.fields["time"])
    assert 0 <= behind_s < 90  # leaves are backdated by a minute
    assert len(console.events("renewed")) == 1
    assert not console.events("error")


_RENEW_WITH_A_SLOW_CLOCK = """
import time, mtls
mtls.preload()
from mtls.agent import Agent
from mtls.clock import now, set_time
from mtls.store import Store
agent = Agent(Store())
while agent.active is None:
    agent.step()
right = now()
set_time(right - 900)
agent.renew()
agent.step()
print("DONE off by", abs(now() - right) // 60, "minutes")
while True:
    time.sleep(1)
"""


def test_each_renewal_sets_the_clock_right_again(rig: Rig) -> None:
    rig.provision(files={"/main.py": _RENEW_WITH_A_SLOW_CLOCK.encode()})
    console = rig.start()
    console.wait_for("DONE off by 0 minutes", DEADLINE_S)


def test_damaged_secrets_neither_bar_the_idevid_nor_cost_a_report(rig: Rig) -> None:
    rig.provision(files={"/mtls/secret.json": b"{"})
    rig.start()
    assert rig.event("error").fields["kind"] == "ConfigError"
    assert rig.event("enrolled").fields["by"] == "idevid"
    rig.event("telemetry", seq="2")


def test_damaged_secrets_without_an_idevid_are_one_clear_line(rig: Rig) -> None:
    rig.provision(code="import os\nos.remove('/mtls/idevid')", files={"/mtls/secret.json": b"{"})
    rig.start()
    assert "secret.json" in rig.event("error", kind="ConfigError").fields["detail"]


def test_a_floor_that_finds_no_room_costs_no_report(rig: Rig) -> None:
    full = (
        "from mtls.store import Store\nfrom mtls.errors import FlashFull\n"
        "def full(*_): raise FlashFull('no room on flash')\n"
        "Store.write_floor = full"
    )
    rig.provision(files=with_main(full))
    rig.start()
    rig.event("error", kind="FlashFull")
    rig.event("telemetry", seq="2")


def test_a_time_source_that_fails_does_not_stop_a_board_with_a_good_clock(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry")
    rig.stop()
    rig.repl(NO_TSA)
    rig.start(rtc=int(time.time()))  # as a battery or a soft reset keeps it
    assert rig.event("refused").fields["status"] == "404"
    assert rig.event("clock").fields["source"] == "rtc"
    rig.event("telemetry")


def test_without_a_good_clock_a_time_source_that_fails_is_not_passed_over(rig: Rig) -> None:
    rig.provision()
    rig.repl(NO_TSA)
    console = rig.start(rtc=0)
    first = rig.event("refused")
    rig.event("refused", after=first.number)
    assert not console.events("clock")
    assert not console.events("enrolled")


def test_a_gateway_that_hangs_up_without_a_word_costs_no_enrolment(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry")
    rig.stop()
    with hanging_up() as port:
        rig.repl(edit_config(f"c['api_url'] = 'https://127.0.0.1:{port}'"))
        rig.start()
        number = 0
        for _ in range(5):
            number = rig.event("error", after=number, kind="Unreachable").number
        assert not rig.console.events("refused")
        assert not rig.console.events("enrolled")


def test_a_leaf_refused_at_the_handshake_is_left_for_the_idevid(
    rig: Rig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = StateDir(tmp_path_factory.mktemp("other"))
    create_authorities(other, PASSPHRASE)
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = issue_device_leaf(
        load_authority(other, "device", PASSPHRASE),
        public_key=key.public_key(),
        device_id=rig.device_id,
        trust_domain="handfast.local",
        hardware_id=None,
        lifetime_s=3600,
        now=datetime.now(UTC),
    )
    key_der = key.private_bytes(Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    slot = slot_file(key_der, leaf.public_bytes(Encoding.DER))
    rig.provision(token=False, files={"/mtls/slot-a": slot, "/mtls/current": b"a\n"})
    rig.start()
    assert rig.event("refused").fields["status"] == "0"
    assert rig.event("enrolled").fields["by"] == "idevid"
    rig.event("telemetry")


def test_the_gateway_says_how_often_to_report(rig: Rig) -> None:
    rig.provision(code=edit_config("del c['telemetry_interval_s']"))
    rig.gateway.set_config(rig.device_id, {"telemetry_interval_s": 1})
    rig.start()
    rig.event("telemetry", seq="3")
    at_ms = [row["values"]["uptime_ms"] for row in rig.gateway.telemetry(rig.device_id)]
    # The library's own default is 5 s.
    assert at_ms[2] - at_ms[0] < 4000


def test_a_session_on_a_board_without_time_sends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_long_names(monkeypatch)
    rig.provision()
    rig.start()
    rig.event("telemetry")
    rig.stop()
    printed = rig.repl(
        # In 2001: after any board's epoch, before the library was built.
        "import mtls\nfrom mtls.clock import set_time\nset_time(1_000_000_000)\n"
        "store = mtls.Store()\n"
        "import socket\ndef none(*_): raise AssertionError('a socket was asked for')\n"
        "import mtls.tls\nmtls.tls.open_wire = none\n"
        "try: mtls.Session(store.config()['api_url'], store).get('/v1/ping')\n"
        "except mtls.MTLSError as error: print(repr(error))"
    )
    assert printed.startswith("ClockNotSet")


_RENEW_ON_A_FULL_FLASH = """
import time, mtls
mtls.preload()
from mtls.agent import Agent
from mtls.errors import FlashFull
from mtls.store import Store
left = 0
write = Store._write
def count_down(self, name, data):
    global left
    left -= 1
    if left == 0:
        raise FlashFull("no room for " + name)
    write(self, name, data)
Store._write = count_down
def tell(event, facts):
    if event == "error":
        print(full_at, dict(facts)["detail"])
agent = Agent(Store(), on_event=tell)
while agent.active is None:
    agent.step()
agent.session.get("/v1/ping").raise_for_status()
agent.renew()
for full_at in (1, 2, 2):
    before = agent.active
    left = full_at
    agent.step()
    assert agent.active == before
    agent.session.get("/v1/ping").raise_for_status()
agent.step()
assert agent.active != before
after = agent.active
agent.step()
assert agent.active == after
agent.session.get("/v1/ping").raise_for_status()
print("DONE")
while True:
    time.sleep(1)
"""


def test_a_flash_that_is_full_at_any_write_of_a_renewal_keeps_the_leaf(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_long_names(monkeypatch)
    rig.provision(files={"/main.py": _RENEW_ON_A_FULL_FLASH.encode()})
    console = rig.start()
    console.wait_for("DONE", DEADLINE_S)
    told = [line for line in console.text.splitlines() if "no room" in line]
    # For the key; for its leaf; and, the key being there by now, for the pointer.
    assert told == ["1 no room for slot-b", "2 no room for slot-b", "2 no room for current"]
