"""What every kind of board must do under a real gateway, simulated or on an emulator's bare metal.

The rollovers are in test_trust_rollover.py, which takes the same boards. `make test` shares the
tests out: each of them is on its own.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_rig import BOARDS, Rig, make_rig, wait_until

from handfast.admin_client import AdminClient
from handfast.boards.virtual import boards_at
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.lab.relay import Relay
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir
from tests.power_cuts.cases import Case, sample
from tests.power_cuts.engine import measure, one_second_cut, try_case
from tests.power_cuts.rig import Bench, open_bench

PASSPHRASE = b"for tests only"
WITHIN_S = 120.0  # of a busy machine; an idle one takes a tenth
LIFE_S = 20
# Fifty cuts; five of a sequence's are a test, and one of them is cut again while it recovers.
CUTS = {"enrol-token": 20, "re-enrol": 20, "enrol-idevid": 10}
CUTS_A_TEST = 5
PARTS = [(name, part) for name, count in CUTS.items() for part in range(count // CUTS_A_TEST)]
SEED = "device suite"
_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=BOARDS)
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> StateDir:
    state = StateDir(tmp_path_factory.mktemp("gateway"))
    create_authorities(state, PASSPHRASE)
    return state


@pytest.fixture(scope="module")
def gateway(state: StateDir, profile: str) -> Iterator[GatewayProcess]:
    options = GatewayOptions(device_lifetime_s=LIFE_S, overlap_s=2, boards_at=boards_at(profile))
    with GatewayProcess(state, PASSPHRASE, options) as gateway:
        yield gateway


@pytest.fixture
def rig(gateway: GatewayProcess, profile: str, tmp_path: Path) -> Iterator[Rig]:
    name = f"board-{next(_numbers)}"
    with make_rig(tmp_path / name, name, gateway.admin, profile) as rig:
        yield rig


def test_it_enrols_rotates_twice_and_loses_no_report_until_it_is_revoked(rig: Rig) -> None:
    rig.provision()
    rig.start()
    assert rig.event("clock", timeout_s=WITHIN_S).fields["source"] == "tsa"
    assert rig.event("enrolled", timeout_s=WITHIN_S).fields["by"] == "token"
    first = rig.event("renewed", timeout_s=WITHIN_S)
    second = rig.event("renewed", after=first.number, timeout_s=WITHIN_S)
    last = rig.event("telemetry", after=second.number, timeout_s=WITHIN_S)
    acknowledged = rig.acknowledged()
    assert not rig.console.events("error")
    assert not rig.console.events("refused")
    assert "not implemented" not in rig.console.text, (
        "lwIP says so of a socket option unknown to it"
    )
    rig.gateway.revoke(rig.device_id)
    refused = rig.event("refused", after=last.number, timeout_s=WITHIN_S)
    assert refused.fields == {"status": "403", "type": "urn:handfast:error:device-revoked"}
    rig.stop()
    assert [seq for _, seq in acknowledged] == list(range(1, len(acknowledged) + 1))
    assert set(acknowledged) <= set(rig.stored())
    leaves = [c for c in rig.gateway.device(rig.device_id)["certificates"] if c["kind"] == "ldevid"]
    assert len(leaves) >= 3
    assert len({leaf["sha256"] for leaf in leaves}) == len(leaves)


REST = """
import gc, json, mtls
from mtls.clock import Clock
from mtls.net import Network
from mtls.timesync import sync
store = mtls.Store()
Network(store).up()
sync(store, Clock(store))
config = store.config()
session = mtls.Session(config["api_url"], store)
me = session.get("/v1/devices/me").json()["device_id"]
path = "/v1/devices/" + config["device_id"]
report = {"boot_id": "rest", "seq": 1, "values": {"text": "x" * 3000}}
posted = [session.post(path + "/telemetry", json=report, idempotent=True).status_code for _ in "12"]
other = session.get("/v1/devices/somebody-else/config").status_code
print(json.dumps([me, posted, other, session.connections]))
"""


def test_code_on_it_calls_the_rest_api_over_one_connection(rig: Rig) -> None:
    rig.provision()
    rig.start()
    rig.event("telemetry", timeout_s=WITHIN_S)
    rig.stop()
    me, posted, other, connections = json.loads(rig.repl(REST).splitlines()[-1])
    assert me == rig.device_id
    assert posted == [200, 200]
    assert other in (403, 404)
    assert connections == 1
    stored = [row for row in rig.gateway.telemetry(rig.device_id) if row["boot_id"] == "rest"]
    assert [(row["seq"], len(row["values"]["text"])) for row in stored] == [(1, 3000)]


def test_it_goes_on_when_its_network_does(rig: Rig, state: StateDir, profile: str) -> None:
    target = AdminClient(state).trust()["api_url"]
    with Relay(target, named=boards_at(profile)) as relay:
        rig.provision()
        rig.repl(
            "import json\nwith open('/mtls/config.json') as f: c = json.load(f)\n"
            f"c['api_url'] = {relay.url!r}\n"
            "with open('/mtls/config.json', 'w') as f: json.dump(c, f)"
        )
        rig.start()
        rig.event("telemetry", timeout_s=WITHIN_S)
        assert relay.connections > 0
        relay.cut()
        lost = rig.event("error", kind="Unreachable", timeout_s=WITHIN_S)
        relay.mend()
        again = rig.event("telemetry", after=lost.number, timeout_s=WITHIN_S)
        connected = relay.connections
        relay.truncate_record()  # of an answer: the report is sent once more, and stored once
        wait_until(lambda: relay.connections > connected, "another connection", WITHIN_S)
        rig.event("telemetry", after=again.number + 1, timeout_s=WITHIN_S)
        acknowledged = rig.acknowledged()
    assert [seq for _, seq in acknowledged] == list(range(1, len(acknowledged) + 1))
    assert set(acknowledged) <= set(rig.stored())


def test_a_stuck_random_source_stops_it_before_any_tls(rig: Rig) -> None:
    rig.provision()
    rig.board.entropy = "stuck"
    rig.start()
    assert rig.event("error", timeout_s=WITHIN_S).fields["kind"] == "EntropyError"
    assert not rig.console.events("enrolled")


def test_without_any_anchor_it_trusts_nobody(rig: Rig) -> None:
    anchor = b"\x30\x03\x02\x01\x00"
    rig.provision(
        code="import os\nfor n in os.listdir('/mtls/anchor'): os.remove('/mtls/anchor/' + n)",
        files={"/mtls/anchor/tls-0.der": anchor},
    )
    rig.start()
    rig.event("error", timeout_s=WITHIN_S)
    assert not rig.console.events("enrolled")
    assert not rig.console.events("telemetry")


# ---- Fifty power cuts ----


@pytest.fixture(scope="module")
def bench(profile: str) -> Iterator[Bench]:
    with open_bench(profile) as bench:
        yield bench


@pytest.mark.timeout(600)  # beside other tests on two cores
@pytest.mark.parametrize(("name", "part"), PARTS)
def test_it_comes_back_alone_from_a_power_cut(bench: Bench, name: str, part: int) -> None:
    operations = measure(bench, name).operations
    cuts = sample(operations, CUTS[name], SEED)[part :: CUTS[name] // CUTS_A_TEST]
    outcomes = [try_case(bench, Case(name, cut)) for cut in cuts]
    again = Case(name, cuts[0])
    outcomes += one_second_cut(bench, again, operations, f"{SEED} {name} {part}")
    assert [f"{o.case}: {o.problem}" for o in outcomes if o.problem] == []
    assert all(outcome.reached for outcome in outcomes[: len(cuts)])
