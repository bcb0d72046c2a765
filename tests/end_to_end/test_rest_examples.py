"""The examples on a simulated board, from power-on, with the certificate that it enrolled for."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from firmware_rig import DEADLINE_S, SIMULATED, Rig, make_rig, wait_until
from provision_support import running_gateway

from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.resources import firmware_dir
from handfast.state import StateDir
from support_server_pki import pki

EXAMPLES = firmware_dir() / "examples"
UMQTT = Path(__file__).parents[1] / "firmware" / "umqtt_model" / "umqtt"
MAIN = """
import gc, sys
gc.threshold(8192)
sys.path.append('/examples')
import {module}
{call}
print('DONE')
"""
GARBAGE = """
import gc, mtls.client
start = 0  # the dictionary of names does not grow between the two readings
from mtls.clock import Clock
from mtls.timesync import sync
store = mtls.Store()
sync(store, Clock(store))
gc.collect()
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


Lab = tuple[StateDir, GatewayProcess]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with running_gateway(tmp_path_factory.mktemp("rest-gateway"), GatewayOptions()) as lab:
        yield lab


@pytest.fixture(params=SIMULATED)
def rig(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """An enrolled board with the examples on it."""
    _, gateway = lab
    name = f"rest-{request.param}".replace("+", "-")
    rig = make_rig(tmp_path / "board", name, gateway.admin, request.param)
    with rig:
        rig.provision()
        rig.start()
        rig.event("telemetry")
        rig.stop()
        rig.push({f"/examples/{path.name}": path.read_bytes() for path in EXAMPLES.glob("*.py")})
        yield rig


def from_power_on(rig: Rig, module: str, call: str) -> list[str]:
    """Have the board do that from its start, alone; returns what it printed."""
    rig.push({"/main.py": MAIN.format(module=module, call=call).encode()})
    console = rig.start()
    console.wait_for("DONE|Error", DEADLINE_S)
    printed = console.text
    rig.stop()
    assert "DONE" in printed, printed
    return printed.partition("DONE")[0].split()


def test_the_rest_example_calls_reports_and_reads_in_pieces(rig: Rig) -> None:
    *_, name, code, size = from_power_on(rig, "rest", "rest.main()")
    assert (name, code) == (rig.device_id, "200")
    assert int(size) > 50
    assert ("example", 1) in rig.stored()


def test_the_asyncio_example_calls_the_same_api(rig: Rig) -> None:
    call = "import asyncio\nasyncio.run(rest_asyncio.main())"
    *_, name, size = from_power_on(rig, "rest_asyncio", call)
    assert name == rig.device_id
    assert int(size) > 50


@contextmanager
def broker(state: StateDir) -> Iterator[tuple[int, list[bytes]]]:
    """Answer one MQTT client that has a certificate of the fleet's; yield the port, and a list that
    its packets come into."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki().rsa_leaf.file)
    for ca in ("device", "root"):
        context.load_verify_locations(state.ca_certificate_pem(ca))
    context.verify_mode = ssl.CERT_REQUIRED
    packets: list[bytes] = []

    def serve() -> None:
        with listener.accept()[0] as plain, context.wrap_socket(plain, server_side=True) as client:
            stream = client.makefile("rb")
            while head := stream.read(2):  # what the example sends is shorter than 128 bytes
                packets.append(head + stream.read(head[1]))
                if len(packets) == 1:
                    client.sendall(b"\x20\x02\x00\x00")  # CONNACK

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], packets
        thread.join(DEADLINE_S)


def test_the_mqtt_example_reports_to_a_broker_that_asks_for_a_certificate(
    rig: Rig, lab: Lab
) -> None:
    anchor = pki().server_ca.certificate.public_bytes(Encoding.DER)
    client = (UMQTT / "simple.py").read_bytes()
    rig.push({"/mtls/anchor/tls-broker.der": anchor, "/lib/umqtt/simple.py": client})
    with broker(lab[0]) as (port, packets):
        from_power_on(rig, "mqtt", f"mqtt.main('127.0.0.1', {port})")
    assert [packet[0] & 0xF0 for packet in packets] == [0x10, 0x30, 0xE0]
    assert packets[1].endswith(f"devices/{rig.device_id}/telemetry".encode() + b'{"uptime": 1}')


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


def test_a_wake_that_fails_in_whatever_way_ends_in_deep_sleep_too(rig: Rig) -> None:
    main = """
import sys
sys.path.append('/examples')
import deep_sleep
def no_socket():
    raise OSError(12)
deep_sleep.measure = no_socket
deep_sleep.run(300)
"""
    rig.push({"/main.py": main.encode()})
    console = rig.start()
    wait_until(lambda: console.text.count("failed ") >= 2, "two wakes that fail", timeout_s=60)
    rig.stop()


def test_a_keep_alive_get_leaves_under_1500_bytes_of_garbage(rig: Rig) -> None:
    assert int(rig.repl(GARBAGE)) < 1500
