"""The power fails at every flash operation of enrolment and renewal: the board comes back alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from firmware_rig import Rig, make_rig, wait_until

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.resources import firmware_dir
from handfast.state import StateDir

PASSPHRASE = b"for tests only"
MOST_OPERATIONS = 200
FORCED = 1_000_000_000  # a clock that asks the board for a renewal at once

_RENEW_NOW = f"""
import time
if abs(time.time() - {FORCED}) < 100:
    import mtls
    mtls.preload()
    from mtls.agent import Agent
    from mtls.store import Store
    told = []
    agent = Agent(Store(), on_event=lambda event, facts: told.append(event))
    agent.renew()
    while "renewed" not in told:
        agent.step()
    agent.session.get("/v1/ping").raise_for_status()
    print("RENEWED")
else:
    exec(open("/app.py").read())
"""

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
    state = StateDir(tmp_path_factory.mktemp("gateway"))
    create_authorities(state, PASSPHRASE)
    with GatewayProcess(state, PASSPHRASE, GatewayOptions(overlap_s=0)) as gateway:
        yield gateway


@pytest.fixture
def new_rig(gateway: GatewayProcess, tmp_path: Path) -> Iterator[Callable[[str], Rig]]:
    """Makes boards by name; those still there are switched off at the end."""
    with ExitStack() as rigs:
        yield lambda name: rigs.enter_context(make_rig(tmp_path / name, name, gateway.admin))


def boot_until(rig: Rig, sign: str, **options: int) -> bool:
    """Power on and say whether the board printed ``sign`` before its power was cut."""
    console = rig.start(**options)
    wait_until(lambda: sign in console.text or not rig.board.is_running, f"{sign} or the cut")
    rig.board.power_off()
    came = sign in console.text
    rig.stop()
    return came


def works_alone(rig: Rig) -> bool:
    """Boot without a cut and wait for an acknowledged report."""
    return boot_until(rig, "mtls: telemetry seq=1 status=200", rtc=0)


def test_renewal_cut_at_every_flash_operation(new_rig: Callable[[str], Rig]) -> None:
    rig = new_rig("renewing")
    rig.provision()
    assert works_alone(rig)
    # No way back in but the leaf: neither IDevID nor token.
    rig.repl("import os\nos.remove('/mtls/idevid')")
    application = (firmware_dir() / "app/main.py").read_bytes()
    rig.push({"/app.py": application, "/main.py": _RENEW_NOW.encode()})
    cuts = 0
    for cuts in range(MOST_OPERATIONS):
        finished = boot_until(rig, "RENEWED", rtc=FORCED, cut_after=cuts)
        assert works_alone(rig), f"cut at operation {cuts}"
        if finished:
            break
    assert 10 < cuts < MOST_OPERATIONS - 1


def test_enrolment_by_token_cut_at_every_flash_operation(
    gateway: GatewayProcess, new_rig: Callable[[str], Rig]
) -> None:
    cuts = 0
    for cuts in range(MOST_OPERATIONS):
        rig = new_rig(f"enrolling-{cuts}")
        rig.provision(code="import os\nos.remove('/mtls/idevid')")  # the token is the only way in
        finished = boot_until(rig, "mtls: telemetry seq=2 status=200", cut_after=cuts)
        assert works_alone(rig), f"cut at operation {cuts}"
        leaves = [
            row
            for row in gateway.admin.device(rig.device_id)["certificates"]
            if row["kind"] == "ldevid"
        ]
        assert len(leaves) == 1, "one key, one leaf, however often it was asked for"
        rig.board.close()
        if finished:
            break
    assert 10 < cuts < MOST_OPERATIONS - 1


@pytest.mark.parametrize("after", [1, 4, 7, 10])
def test_a_second_cut_during_recovery_is_survived_too(
    new_rig: Callable[[str], Rig], after: int
) -> None:
    rig = new_rig(f"twice-{after}")
    rig.provision()
    for first in (4, 8, 11):
        boot_until(rig, "mtls: telemetry seq=2 status=200", cut_after=first)
        boot_until(rig, "mtls: telemetry seq=2 status=200", cut_after=after)
        assert works_alone(rig)


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
    new_rig: Callable[[str], Rig],
) -> None:
    rig = new_rig("without-pointer")
    store = (firmware_dir() / "mtls/store.py").read_text()
    write = 'self._write("current", name.encode() + b"\\n")'
    assert store.count(write) == 1
    rig.provision(files={"/lib/mtls/store.py": store.replace(write, "pass").encode()})
    console = rig.start()
    rig.event("error", kind="StoreDamaged")
    assert not console.events("telemetry")
