"""A build with TLS 1.3: the gateway by it, and servers of TLS 1.2 with any key and preference."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import SHUT_RDWR, create_server

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from firmware_rig import QEMU_MPS2, Rig, make_rig
from OpenSSL import SSL
from provision_support import running_gateway
from simulator_support import Repl
from tls_support import SERVER_NAME, WITHIN_LIFE, self_signed

from handfast.boards.firmware_options import ALL
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.boards.virtual import boards_at
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess

BUILDS = {"sim-pico-w": ALL, QEMU_MPS2: ("tls13",)}
TIMEOUT_S = 10
WITHIN_S = 120.0  # of an emulator on a busy machine
_names = (f"tls13-{number}" for number in itertools.count(1))


# ---- The gateway ----


@pytest.fixture(scope="module", params=BUILDS)
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, profile: str) -> Iterator[GatewayProcess]:
    options = GatewayOptions(device_lifetime_s=20, overlap_s=2, boards_at=boards_at(profile))
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as (_, gateway):
        yield gateway


@pytest.fixture
def rig(gateway: GatewayProcess, profile: str, tmp_path: Path) -> Iterator[Rig]:
    name = next(_names)
    with make_rig(tmp_path / "board", name, gateway.admin, profile, options=BUILDS[profile]) as rig:
        rig.provision()
        yield rig


CALL = """
import mtls
from mtls.clock import Clock
from mtls.net import Network
from mtls.timesync import sync
store = mtls.Store()
Network(store).up()
sync(store, Clock(store))
session = mtls.Session(store.config()['api_url'], store)
answer = session.get('/v1/ping')
# Whatever their names are in the form of the library that a board has.
parts = [part for part in session.__dict__.values() if hasattr(part, '__dict__')]
streams = [s for part in parts for s in part.__dict__.values() if hasattr(s, 'cipher')]
print(answer.status_code, *[stream.cipher() for stream in streams])
"""


def test_board_enrols_calls_and_renews_by_tls_1_3(gateway: GatewayProcess, rig: Rig) -> None:
    rig.start()
    assert rig.event("enrolled", timeout_s=WITHIN_S).fields["by"] == "token"
    renewed = rig.event("renewed", timeout_s=WITHIN_S)
    rig.event("telemetry", after=renewed.number, timeout_s=WITHIN_S)
    assert not rig.console.events("error")
    assert not rig.console.events("refused")
    rig.stop()
    assert rig.repl(CALL).strip() == "200 ('TLS1-3-AES-128-GCM-SHA256', 'TLSv1.3')"
    gateway.admin.suspend(rig.device_id)
    assert rig.repl(CALL).strip().startswith("403 ")


# ---- Servers that stop at TLS 1.2 ----


@contextmanager
def serving(kind: str, version: int, *, server_prefers: bool) -> Iterator[tuple[int, bytes]]:
    """Answer "ok" by one version at most; yields the port and the anchor."""
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else None
    credential = self_signed(key)
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_max_proto_version(version)
    if server_prefers:
        context.set_options(SSL.OP_CIPHER_SERVER_PREFERENCE)
    context.use_certificate(credential.certificate)
    context.use_privatekey(credential.key)

    def serve() -> None:
        try:
            connected, _ = listener.accept()
        except OSError:
            return
        connected.settimeout(None)
        connection = SSL.Connection(context, connected)
        connection.set_accept_state()
        try:
            connection.do_handshake()
            connection.recv(1)
            connection.sendall(b"ok")
        except SSL.Error:
            pass  # what the board says of it is the test's
        connected.close()

    with create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], credential.certificate.public_bytes(Encoding.DER)
        finally:
            listener.shutdown(SHUT_RDWR)
            thread.join(TIMEOUT_S)


def ask(port: int, anchor: bytes, suites: tuple[str, ...] = (), then: str = "") -> str:
    """Code that asks the server for its two octets, and does something more with the stream."""
    return f"""
import socket, tls
context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
context.load_verify_locations({anchor!r})
if {suites!r}:
    context.set_ciphers({suites!r})
raw = socket.socket()
raw.connect(socket.getaddrinfo('127.0.0.1', {port})[0][-1])
try:
    stream = context.wrap_socket(raw, server_hostname={SERVER_NAME!r})
    stream.write(b'x')
    print(stream.read(2).decode(), stream.cipher()[1], stream.cipher()[0])
    {then}
    stream.close()
except OSError as error:
    print(error)
    raw.close()
"""


@pytest.fixture(scope="module")
def repl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repl]:
    folder = tmp_path_factory.mktemp("board")
    with SimulatedBoard("sim-pico-w", directory=folder, options=ALL) as board:
        board.power_on(rtc=WITHIN_LIFE)
        with Repl(board.serial_url) as repl:
            yield repl


@pytest.mark.parametrize("server_prefers", [False, True])
@pytest.mark.parametrize("kind", ["rsa", "p256"])
@pytest.mark.parametrize(
    ("version", "spoken"), [(SSL.TLS1_2_VERSION, "TLSv1.2"), (SSL.TLS1_3_VERSION, "TLSv1.3")]
)
def test_servers_of_either_version_and_key_are_understood(
    repl: Repl, kind: str, version: int, spoken: str, server_prefers: bool
) -> None:
    """RSA by TLS 1.2 ended in ILLEGAL_PARAMETER before (decision 0024)."""
    with serving(kind, version, server_prefers=server_prefers) as (port, anchor):
        assert repl.exec(ask(port, anchor)).startswith(f"ok {spoken} ")


@pytest.mark.parametrize(
    ("suites", "expected"),
    [
        (("TLS-ECDHE-ECDSA-WITH-AES-128-GCM-SHA256",), "ok TLSv1.3 TLS1-3-AES-256-GCM-SHA384"),
        (("TLS1-3-AES-128-GCM-SHA256",), "ok TLSv1.3 TLS1-3-AES-128-GCM-SHA256"),
    ],
)
def test_choice_of_suites_for_tls_1_2_leaves_tls_1_3_as_it_is(
    repl: Repl, suites: tuple[str, ...], expected: str
) -> None:
    with serving("p256", SSL.TLS1_3_VERSION, server_prefers=True) as (port, anchor):
        assert repl.exec(ask(port, anchor, suites)) == expected


def test_session_of_tls_1_3_is_none(repl: Repl) -> None:
    with serving("p256", SSL.TLS1_3_VERSION, server_prefers=True) as (port, anchor):
        said = repl.exec(ask(port, anchor, then="print(stream.session, stream.session_reused)"))
    assert said.splitlines()[-1] == "None False"


def test_nothing_of_tls_outlives_a_soft_reset(tmp_path: Path) -> None:
    """PSA kept a block of the heap that was: freeing another wrote into what is there now."""
    context = "import gc, tls\nc = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)\n"
    with SimulatedBoard("sim-pico-w", directory=tmp_path, options=ALL) as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            link.exec(context)
            link.soft_reset()
            said = link.exec(
                "import gc\nfull, filled = b'\\xff' * 48, []\n"
                "while gc.mem_free() > 60000: filled.append(bytearray(full))\n"
                f"{context}del c\ngc.collect()\n"
                "print(len(filled) > 100, sum(block != full for block in filled))"
            )
    assert said.split() == ["True", "0"]
