"""An application that leaves no heap for a TLS session: the agent says so, touches nothing, waits.

The board is provisioned as any, with the library as boards get it; in place of the application that
comes with it, the test tells it step by step what to do.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_rig import SIMULATED, Rig, make_rig, profile_and_version
from provision_support import running_gateway

from handfast.boards.qemu_mps2_build import BOARD as QEMU_MPS2
from handfast.boards.serial_link import SerialLink
from handfast.boards.virtual import boards_at
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess

WITHIN_S = 120.0  # of an emulator on a busy machine
# Free bytes beside what a session alone takes: what steps leave behind moves that limit a little; a
# key, its CSR and EST have no room beside a session in the other two.
SPARE = pytest.mark.parametrize("spare", [-3072, 3072, 10240])
# The fourth attempt in a row is made with any heap: somebody else may need what mbedTLS would not.
PATIENT = 3
APPLICATION = """
import json, mtls, mtls.room
mtls.preload()
from mtls.net import Network
store = mtls.Store()
network = Network(store)
network.up()
told = []
def tell(event, facts):
    if event != 'clock':
        told.append([event, dict(facts).get('kind'), dict(facts).get('detail')])
agent = mtls.Agent(store, on_event=tell)
def fill(spare):
    global hog
    agent.session.close()  # as the agent does before it looks
    hog = None
    while mtls.room.room()[1]:
        hog = (hog, bytearray(512))
    wanted = mtls.room.room()[0] + spare
    while mtls.room.room()[0] < wanted:
        hog = hog[0]
    try:
        while mtls.room.room()[0] > wanted:
            hog = (hog, bytearray(512))
    except MemoryError:
        pass
def step_without_heap(times, spare):
    global hog
    fill(spare)
    waits = [agent.step() for _ in range(times)]
    hog = None  # what tells of it has heap again
    print(json.dumps([told, waits, agent.active, agent.failures]))
    told.clear()
def until(event):
    import time
    while not told or told[-1][0] != event:
        time.sleep_ms(min(1000, agent.step()))
    told.clear()
"""
CALL = "agent.session.get('/v1/ping').raise_for_status()"
_names = (f"short-of-heap-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module", params=(*SIMULATED, QEMU_MPS2))
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, profile: str) -> Iterator[GatewayProcess]:
    options = GatewayOptions(boards_at=boards_at(profile_and_version(profile)[0]))
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as (_, gateway):
        yield gateway


@pytest.fixture
def rig(gateway: GatewayProcess, profile: str, tmp_path: Path) -> Iterator[Rig]:
    name = next(_names)
    with make_rig(tmp_path / name, name, gateway.admin, profile) as rig:
        rig.provision(files={"/main.py": b""})
        rig.board.power_on(rtc=int(time.time()))
        yield rig


@pytest.fixture
def link(rig: Rig) -> Iterator[SerialLink]:
    """The board's serial line, with the agent there, which has had no step yet."""
    with SerialLink.open(rig.board.serial_url) as link:
        link.soft_reset()
        link.exec(APPLICATION, WITHIN_S)
        yield link


def certificates(rig: Rig) -> list[str]:
    device = rig.gateway.device(rig.device_id)
    return [one["sha256"] for one in device["certificates"] if one["kind"] == "ldevid"]


def require_patience(link: SerialLink, active: str | None, spare: int) -> list[str]:
    """Step with the heap full, which it is no more afterwards: the agent says so, and for how long
    to leave it alone. Returns its words."""
    asked = f"step_without_heap({PATIENT}, {spare})"
    told, waits, still, failures = json.loads(link.exec(asked, WITHIN_S))
    assert [(event, kind) for event, kind, _ in told] == [("error", "OutOfMemory")] * PATIENT, told
    assert min(waits) > 0
    assert (still, failures) == (active, PATIENT)
    return [detail for _, _, detail in told]


@SPARE
def test_a_renewal_waits_for_heap_and_touches_nothing_meanwhile(
    rig: Rig, link: SerialLink, profile: str, spare: int
) -> None:
    link.exec(f"until('enrolled')\n{CALL}", WITHIN_S)
    active = json.loads(link.exec("print(json.dumps(agent.active))"))
    issued, before = certificates(rig), link.hashes("/mtls")
    assert len(issued) == 1
    link.exec("agent.renew()")
    words = require_patience(link, active, spare)
    # What an ESP32 has left of the collected heap may not do to unpack a text.
    if not profile.startswith("sim-esp32"):
        assert all("a TLS session needs" in text for text in words), words
    assert (link.hashes("/mtls"), certificates(rig)) == (before, issued)

    link.exec("until('renewed')", WITHIN_S)
    assert json.loads(link.exec("print(json.dumps(agent.active))")) != active
    link.exec(CALL, WITHIN_S)
    assert len(certificates(rig)) == 2


@SPARE
def test_a_first_enrolment_waits_for_heap_and_keeps_its_token(
    rig: Rig, link: SerialLink, spare: int
) -> None:
    before = link.hashes("/mtls")
    assert not {"/mtls/slot-a", "/mtls/slot-b", "/mtls/current"} & set(before)
    require_patience(link, None, spare)
    # The seed is replaced before its first use, and that is all.
    after = link.hashes("/mtls")
    assert {**after, "/mtls/seed": before["/mtls/seed"]} == dict(before)
    assert certificates(rig) == []

    link.exec(f"until('enrolled')\n{CALL}", WITHIN_S)
    assert len(certificates(rig)) == 1
