"""The life of an emulated RP2040 whose firmware has all options: TLS 1.3, sessions resumed, and
handshakes that are signed elsewhere than on the board."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)
from firmware_rig import wait_until
from provision_support import running_gateway
from rp2040_support import PATIENCE_S, connections, flash, gateway_options, refusals, run

from handfast.boards.device_error import DeviceError
from handfast.boards.firmware_options import ALL
from handfast.boards.provision import provision
from handfast.boards.rp2040 import HOST_FROM_BOARD, EmulatedRp2040
from handfast.boards.rp2040_build import build_firmware
from handfast.boards.serial_link import SerialLink
from handfast.lab.gateway_process import GatewayProcess, as_boards_reach
from handfast.resources import firmware_dir
from handfast.state import StateDir

# A fresh heap, the network, and the gateway's time: what a connection of the library's needs.
BEGIN = """
import mtls, uplink
from mtls.clock import Clock
from mtls.timesync import sync
uplink.up(60000)
store = mtls.Store()
sync(store, Clock(store))
"""
# The library is imported after it.
RESUMPTION = """
import sys
sys.path.append('/examples')
import resumption
"""
CALLS = """
def call(session):
    answer = session.get('/v1/ping')
    cipher = session._connection._stream.cipher()
    print(answer.status_code, cipher[1], resumption.resumed)
    session.close()
"""

DRBG = "import mtls\nmtls.Store('').drbg()"  # a folder /mtls would hide the library

# `sign` has the digest signed by whom `signing_elsewhere` serves, as a chip would do it; the key
# that mbedTLS is shown beside the certificate is another one.
SIGN_ELSEWHERE = """
import socket
from mtls.tls import client_context

def sign(shown, digest):
    line = socket.socket()
    line.connect(({host!r}, {port}))
    line.write(bytes((len(digest),)) + digest)
    signature = line.read()
    line.close()
    return signature

def talk(callback):
    context = client_context(store.anchors())
    context.load_cert_chain(identity.cert_der, {stand_in!r})
    context.ecdsa_sign_callback = callback
    line = socket.socket()
    line.connect(({host!r}, {api}))
    try:
        secure = context.wrap_socket(line, server_hostname={host!r})
        secure.write(b'GET /v1/ping HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n')
        print(secure.read(12).decode(), secure.cipher()[1])
    except OSError as error:
        print('refused', error)
    finally:
        line.close()
"""

pytestmark = pytest.mark.timeout(900)  # with the build, beside another one


@contextmanager
def signing_elsewhere(key: ec.EllipticCurvePrivateKey) -> Iterator[tuple[int, list[int]]]:
    """Serve signatures by a key, on loopback: the port, and the lengths of what was signed."""
    lengths: list[int] = []

    class Signer(socketserver.StreamRequestHandler):
        timeout = PATIENCE_S

        def handle(self) -> None:
            digest = self.rfile.read(self.rfile.read(1)[0])
            lengths.append(len(digest))
            self.wfile.write(key.sign(digest[:32], ec.ECDSA(Prehashed(SHA256()))))

    with socketserver.TCPServer(("127.0.0.1", 0), Signer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_address[1], lengths
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StateDir, GatewayProcess]]:
    options = gateway_options(resume_port=0)
    with running_gateway(tmp_path_factory.mktemp("gateway"), options) as lab:
        yield lab


@pytest.fixture(scope="module")
def firmware() -> Path:
    return build_firmware(options=ALL)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedRp2040]:
    with EmulatedRp2040(directory=tmp_path_factory.mktemp("boards") / "pico-all") as board:
        yield board


def test_it_is_flashed_and_boots_with_all_that_it_is_to_have(
    board: EmulatedRp2040, firmware: Path
) -> None:
    board.power_on()
    flash(board, firmware, running=False)
    said = run(
        board,
        "import mtls, tls\ncontext = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)\n"
        "print(mtls.__file__.startswith('mtls/'), hasattr(context, 'ecdsa_sign_callback'),"
        " hasattr(tls, 'SSLSession'), 'TLS1-3-AES-128-GCM-SHA256' in context.get_ciphers())",
    )
    assert said == "True True True True"


def test_it_enrols_and_reports_with_the_library_that_is_frozen_in(
    board: EmulatedRp2040, gateway: GatewayProcess
) -> None:
    provision(board.serial_url, gateway=gateway.admin, device_id=board.name, telemetry_interval_s=1)
    with SerialLink.open(board.serial_url) as link, link.console() as console:
        console.wait_for_event("enrolled", PATIENCE_S)
        console.wait_for_event("telemetry", PATIENCE_S)
    assert run(board, "import mtls\nprint(mtls.__file__)").startswith("mtls/")


def test_a_stuck_ring_oscillator_stops_it_before_any_connection(
    board: EmulatedRp2040, log: Path
) -> None:
    run(board, "pass")  # the application is stopped, and asks for nothing more
    board.power_off()
    heard = connections(log)
    board.entropy = "stuck"
    try:
        board.power_on()
        with SerialLink.open(board.serial_url) as link, link.console() as console:
            for _ in range(2):
                error = console.wait_for_event("error", PATIENCE_S, after=console.last_number)
                assert error.fields["kind"] == "EntropyError"
            assert not console.events("telemetry")
        assert connections(log) == heard
    finally:
        board.power_off()
        board.entropy = "host"
    board.power_on()
    with SerialLink.open(board.serial_url) as link, link.console() as console:
        console.wait_for_event("telemetry", PATIENCE_S)
    wait_until(lambda: connections(log) > heard, "the gateway's word about it", PATIENCE_S)


def test_its_random_source_is_what_it_is_told_to_be(tmp_path: Path, firmware: Path) -> None:
    """A board without an application, whose draws come at one place of the source's bits."""
    with EmulatedRp2040(
        directory=tmp_path / "pico", firmware=firmware, network=False, entropy="stuck"
    ) as board:
        board.power_on()
        with pytest.raises(DeviceError, match="EntropyError"):
            run(board, DRBG)
        drawn = []
        for entropy in ("replayed", "replayed", "host", "host"):
            board.entropy = entropy
            board.power_cycle()
            drawn.append(run(board, "import os\nprint(os.urandom(16).hex())"))
            run(board, DRBG)  # neither looks stuck
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_its_handshakes_are_signed_where_the_key_is(
    board: EmulatedRp2040, gateway: GatewayProcess, log: Path
) -> None:
    stand_in = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.DER, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    )
    with SerialLink.open(board.serial_url) as link:
        link.soft_reset(timeout_s=PATIENCE_S)
        link.exec(BEGIN, PATIENCE_S)
        link.exec("identity = store.identity(store.current())", PATIENCE_S)
        key = load_der_private_key(
            bytes.fromhex(link.exec("print(identity.key_der.hex())", PATIENCE_S)), password=None
        )
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        with signing_elsewhere(key) as (port, lengths):
            api = int(gateway.urls["api"].rpartition(":")[2])
            where = {"host": HOST_FROM_BOARD, "port": port, "api": api, "stand_in": stand_in}
            link.exec(SIGN_ELSEWHERE.format(**where), PATIENCE_S)
            assert link.exec("talk(sign)", PATIENCE_S).strip() == "HTTP/1.1 200 TLSv1.3"
            assert lengths == [32]
            assert "bad-proof-of-possession" not in refusals(log)
            assert "refused" in link.exec("talk(None)", PATIENCE_S)  # the stand-in has signed
            wait_until(
                lambda: "bad-proof-of-possession" in refusals(log),
                "the gateway's word about it",
                PATIENCE_S,
            )
            assert lengths == [32]


def test_it_calls_the_gateway_by_tls_1_3_and_resumes_where_that_is_offered(
    board: EmulatedRp2040, gateway: GatewayProcess
) -> None:
    api, resuming = (board_url(gateway, name) for name in ("api", "api-resume"))
    with SerialLink.open(board.serial_url) as link:
        link.soft_reset(timeout_s=PATIENCE_S)
        example = firmware_dir() / "examples" / "resumption.py"
        link.push({"/examples/resumption.py": example.read_bytes()})
        link.exec(RESUMPTION + BEGIN + CALLS, PATIENCE_S)

        def calls(url: str) -> list[str]:
            code = f"session = mtls.Session({url!r}, store)\ncall(session)\ncall(session)"
            return link.exec(code, PATIENCE_S).splitlines()

        assert calls(api) == ["200 TLSv1.3 False"] * 2
        assert calls(resuming) == ["200 TLSv1.2 False", "200 TLSv1.2 True"]
        gateway.admin.suspend(board.name)
        assert calls(resuming)[0] == "403 TLSv1.2 True"


def board_url(gateway: GatewayProcess, listener: str) -> str:
    return as_boards_reach(gateway.urls[listener], gateway.boards_at)
