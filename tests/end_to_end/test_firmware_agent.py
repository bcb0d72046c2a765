"""The agent under a real gateway: when the gateway suggests to renew, and beside other tasks."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_rig import DEADLINE_S, SIMULATED, Rig, give_long_names, make_rig
from provision_support import running_gateway

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess

LIFE_S = 120  # renewed after 74 s at the earliest, by the board's own choice
_names = (f"agent-{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    options = GatewayOptions(device_lifetime_s=LIFE_S, overlap_s=2)
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as (_, gateway):
        yield gateway


def rig_on(profile: str, gateway: GatewayProcess, folder: Path) -> Rig:
    return make_rig(folder / "board", next(_names), gateway.admin, profile)


@pytest.fixture(params=SIMULATED)
def rig(request: pytest.FixtureRequest, gateway: GatewayProcess, tmp_path: Path) -> Iterator[Rig]:
    with rig_on(request.param, gateway, tmp_path) as rig:
        yield rig


@pytest.mark.parametrize("rig", SIMULATED, indirect=True)
def test_a_board_renews_once_in_the_window_that_the_gateway_suggests(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry")
    enrolled_at = time.monotonic()
    now = int(time.time())
    assert rig.gateway.suggest_renewal((now, now + 1), [rig.device_id]) == 1
    renewed = rig.event("renewed", timeout_s=60)
    assert time.monotonic() - enrolled_at < LIFE_S / 2
    later = rig.event("telemetry", after=renewed.number)
    # It has asked once more, on the way, and is content.
    seq = int(later.fields["seq"]) + 17
    rig.event("telemetry", after=later.number, seq=str(seq), timeout_s=60)
    assert len(rig.console.events("renewed")) == 1
    assert not rig.console.events("error")


@pytest.mark.parametrize("rig", SIMULATED, indirect=True)
def test_a_window_that_makes_no_sense_is_ignored(rig: Rig) -> None:
    rig.provision()
    rig.gateway.set_config(rig.device_id, {"renewal_window": ["now", None]})
    rig.start()
    rig.event("telemetry", seq="20", timeout_s=60)
    assert not rig.console.events("renewed")
    assert not rig.console.events("error")


_LOADING = """
import asyncio, gc, json
gc.threshold(8192)
import mtls
mtls.preload("aio", "aio_agent")
from mtls.aio import Agent
from mtls.store import Store
"""

# Counts the TLS sessions that are open at once, by names that only the library's source has.
_COUNTING = """
from mtls import tls

open_now = most = 0
make, close = tls.Connection.__init__, tls.Connection.close

def counted(self, wire, stream):
    global open_now, most
    if stream is not wire.raw:
        open_now += 1
        most = max(most, open_now)
    make(self, wire, stream)

def uncounted(self):
    global open_now
    if self._stream is not None and self._stream is not self._wire.raw:
        open_now -= 1
    close(self)

tls.Connection.__init__, tls.Connection.close = counted, uncounted
"""

_BESIDE_OTHER_TASKS = """
def tell(event, facts):
    print("mtls:", event, " ".join(["%s=%s" % (k, str(v).replace(" ", "_")) for k, v in facts]))

agent = Agent(Store(), on_event=tell)
ticks = 0

async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep_ms(10)

async def reports():
    while agent.active is None:
        await asyncio.sleep_ms(50)
    serials = set()
    failed = 0
    while len(serials) < 3:
        try:
            r = await agent.session.get("/v1/devices/me")
            r.raise_for_status()
            serials.add(r.json()["certificate"]["serial"])
        except mtls.MTLSError as error:
            failed += 1
            print("failed", repr(error))
        if len(serials) == 1:
            agent.renew()
        elif len(serials) == 2:
            agent.renew()
        await asyncio.sleep_ms(100)
    return failed

async def main():
    running = asyncio.create_task(agent.run())
    asyncio.create_task(tick())
    failed = await reports()
    before = ticks
    await asyncio.sleep_ms(200)
    print("DONE", json.dumps([failed, ticks - before > 5, agent.status()["state"]]))
    print("DONE2", most)
    running.cancel()

asyncio.run(main())
"""


def test_beside_other_tasks_it_renews_between_two_requests_on_one_session_at_a_time(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_long_names(monkeypatch)  # the sessions are counted by them
    main = _LOADING + _COUNTING + _BESIDE_OTHER_TASKS
    rig.provision(files={"/main.py": main.encode()})
    console = rig.start()
    console.wait_for("DONE2", DEADLINE_S)
    said, most = (text for text in console.text.splitlines() if text.startswith("DONE"))
    assert json.loads(said.removeprefix("DONE")) == [0, True, "active"]
    assert most == "DONE2 1"
    assert len(console.events("renewed")) >= 2


_STATUS = """
import gc, json
gc.threshold(8192)
import mtls
mtls.preload()
from mtls.agent import Agent
from mtls.store import Store
store = Store()
agent = Agent(store)
before = agent.status()
while agent.active is None:
    agent.step()
agent.session.get("/v1/ping").raise_for_status()
after = agent.status()
print("DONE", json.dumps([before, after]))
print("DONE2")
"""


def test_the_status_says_how_it_is_and_no_secret(rig: Rig) -> None:
    rig.provision(files={"/main.py": _STATUS.encode()})
    token = rig.repl("from mtls.store import Store\nprint(Store().token())").strip()
    console = rig.start()
    console.wait_for("DONE2", DEADLINE_S)
    said = next(text for text in console.text.splitlines() if text.startswith("DONE "))
    before, after = json.loads(said.removeprefix("DONE"))
    assert token not in said
    assert set(before) == set(after)
    assert (before["state"], before["slot"], before["renew_at"]) == ("clock", None, None)
    assert (after["state"], after["slot"], after["failures"]) == ("active", "a", 0)
    assert after["device_id"] == rig.device_id
    assert after["clock_source"] == "tsa"
    assert after["clock_drift_ppm"] is None
    assert after["last_error"] is None
    assert after["not_before"] < after["renew_at"] < after["not_after"]
    assert after["heap_free"] > 0
    assert after["connections"] == 1
