"""The power fails between a leaf and its pointer; every other cut is in tests/power_cuts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from firmware_rig import SIMULATED, Rig, give_long_names, make_rig, wait_until
from provision_support import running_gateway

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.resources import firmware_dir

_RENEW_UP_TO_THE_POINTER = """
import mtls
mtls.preload()
from mtls.agent import Agent
from mtls.store import Store

def stop(self, name):
    print("ISSUED")
    while True:
        pass

Store.set_current = stop
agent = Agent(Store())
agent.renew()
agent.step()
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    options = GatewayOptions(overlap_s=0)
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as (_, gateway):
        yield gateway


@pytest.fixture(params=SIMULATED)
def new_rig(
    request: pytest.FixtureRequest, gateway: GatewayProcess, tmp_path: Path
) -> Iterator[Callable[[str], Rig]]:
    """Makes boards by name; those still there are switched off at the end."""
    kind = request.param
    with ExitStack() as rigs:

        def make(name: str) -> Rig:
            name = f"{name}-{kind}".replace("+", "-")
            return rigs.enter_context(make_rig(tmp_path / name, name, gateway.admin, kind))

        yield make


def boot_until(rig: Rig, sign: str) -> None:
    """Power on, and off again when the board has printed ``sign``."""
    console = rig.start()
    wait_until(lambda: sign in console.text, sign)
    rig.stop()


def test_a_board_refused_on_its_newest_slot_goes_to_the_other(
    new_rig: Callable[[str], Rig],
) -> None:
    """Its newest leaf was never used, and the gateway has given another in its place since."""
    rig = new_rig("outdated")
    rig.provision()
    rig.start()
    enrolled = rig.event("enrolled")
    rig.event("telemetry")
    rig.stop()
    # Leaves of one second are told apart by the pointer alone: this is about the newer one.
    second = int(enrolled.line.at.timestamp())
    wait_until(lambda: int(time.time()) > second, "the next second")
    rig.repl("import os\nos.remove('/mtls/idevid')")
    rig.push({"/main.py": _RENEW_UP_TO_THE_POINTER.encode()})
    boot_until(rig, "ISSUED")
    outdated = rig.board.flash_image.read_bytes()
    rig.repl("import os\nos.remove('/mtls/slot-b')")
    boot_until(rig, "ISSUED")
    rig.board.flash_image.write_bytes(outdated)
    rig.push({"/main.py": (firmware_dir() / "app/main.py").read_bytes()})
    rig.start()
    rig.event("recovered", slot="b")  # a handshake does not tell
    refused = rig.event("refused", type="urn:handfast:error:certificate-superseded")
    back = rig.event("recovered", slot="a", after=refused.number)
    assert back.fields["serial"] == enrolled.fields["serial"]
    rig.event("telemetry", after=back.number)


def test_firmware_without_the_pointer_write_does_not_pass(
    new_rig: Callable[[str], Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    give_long_names(monkeypatch)
    rig = new_rig("without-pointer")
    custody = (firmware_dir() / "mtls/custody.py").read_text()
    write = 'store._write("current", name.encode() + b"\\n")'
    assert custody.count(write) == 1
    rig.provision(files={"/lib/mtls/custody.py": custody.replace(write, "pass").encode()})
    console = rig.start()
    rig.event("error", kind="StoreDamaged")
    assert not console.events("telemetry")
