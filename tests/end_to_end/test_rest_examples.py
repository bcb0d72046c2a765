"""The REST examples on a simulated board, with the certificate that it enrolled for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from firmware_rig import SIMULATED, Rig, make_rig, wait_until
from provision_support import running_gateway

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.resources import firmware_dir

EXAMPLES = firmware_dir() / "examples"
SCRIPT = """
import gc, sys, mtls
sys.path.append('/examples')
import {module}
gc.collect()
from mtls.clock import Clock
from mtls.timesync import sync
store = mtls.Store()
sync(store, Clock(store))
gc.collect()
"""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with running_gateway(tmp_path_factory.mktemp("rest-gateway"), GatewayOptions()) as (_, gateway):
        yield gateway


@pytest.fixture(params=SIMULATED)
def rig(gateway: GatewayProcess, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An enrolled board with the examples on it."""
    name = f"rest-{request.param}".replace("+", "-")
    rig = make_rig(tmp_path / "board", name, gateway.admin, request.param)
    with rig:
        rig.provision()
        rig.start()
        rig.event("telemetry")
        rig.stop()
        rig.push({f"/examples/{path.name}": path.read_bytes() for path in EXAMPLES.glob("*.py")})
        yield rig


def test_the_rest_example_calls_reports_and_reads_in_pieces(rig: Rig) -> None:
    name, code, size = rig.repl(SCRIPT.format(module="rest") + "rest.main(store)").split()
    assert (name, code) == (rig.device_id, "200")
    assert int(size) > 50
    assert ("example", 1) in rig.stored()


def test_the_asyncio_example_calls_the_same_api(rig: Rig) -> None:
    code = "import asyncio\nasyncio.run(rest_asyncio.main(store))"
    name, size = rig.repl(SCRIPT.format(module="rest_asyncio") + code).split()
    assert name == rig.device_id
    assert int(size) > 50


def test_a_board_that_sleeps_between_calls_reports_once_each_time_it_wakes(rig: Rig) -> None:
    before = len(rig.stored())
    main = "import sys\nsys.path.append('/examples')\nimport deep_sleep\ndeep_sleep.run(500)\n"
    rig.push({"/main.py": main.encode()})
    rig.start()
    wait_until(lambda: len(rig.stored()) >= before + 3, "three wakes", timeout_s=60)
    rig.stop()
    wakes = rig.stored()[before:]
    assert {seq for _, seq in wakes} == {1}
    assert len({boot_id for boot_id, _ in wakes}) == len(wakes)


def test_a_keep_alive_get_leaves_under_1500_bytes_of_garbage(rig: Rig) -> None:
    code = """
start = 0  # the dictionary of names does not grow between the two readings
session = mtls.Session(store.config()['api_url'], store)
for _ in range(3): session.get('/v1/ping')
gc.collect()
gc.disable()
start = gc.mem_alloc()
session.get('/v1/ping')
garbage = gc.mem_alloc() - start
gc.enable()
print(garbage)
"""
    garbage = int(rig.repl(SCRIPT.format(module="mtls.client") + code))
    assert garbage < 1500
