"""A board with something wrong on its flash or around it goes on with what is still good."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_rig import Rig, make_rig

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.resources import firmware_dir
from handfast.state import StateDir

PASSPHRASE = b"for tests only"
_names = (f"faulty-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    state = StateDir(tmp_path_factory.mktemp("gateway"))
    create_authorities(state, PASSPHRASE)
    with GatewayProcess(state, PASSPHRASE, GatewayOptions()) as gateway:
        yield gateway


@pytest.fixture
def rig(gateway: GatewayProcess, tmp_path: Path) -> Iterator[Rig]:
    with make_rig(tmp_path / "board", next(_names), gateway.admin) as rig:
        yield rig


def set_tsa_path(path: str) -> str:
    """Return code for the board: point its configuration at another path of the same listener."""
    return (
        "import json\nwith open('/mtls/config.json') as f: c = json.load(f)\n"
        f"c['tsa_url'] = c['tsa_url'].rsplit('/', 1)[0] + '/{path}'\n"
        "with open('/mtls/config.json', 'w') as f: json.dump(c, f)"
    )


def with_main(before: str) -> dict[str, bytes]:
    """Return files that run the application after some lines of our own."""
    application = (firmware_dir() / "app/main.py").read_bytes()
    return {
        "/app.py": application,
        "/main.py": f"{before}\nexec(open('/app.py').read())\n".encode(),
    }


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
    rig.repl(set_tsa_path("missing"))
    rig.start(rtc=int(time.time()))  # as a battery or a soft reset keeps it
    assert rig.event("refused").fields["status"] == "404"
    assert rig.event("clock").fields["source"] == "rtc"
    rig.event("telemetry")


def test_without_a_good_clock_a_time_source_that_fails_is_not_passed_over(rig: Rig) -> None:
    rig.provision()
    rig.repl(set_tsa_path("missing"))
    console = rig.start(rtc=0)
    first = rig.event("refused")
    rig.event("refused", after=first.number)
    assert not console.events("clock")
    assert not console.events("enrolled")
