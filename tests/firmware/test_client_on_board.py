"""mtls.Session on MicroPython against peers that are slow, wrong, gone or lying."""

from __future__ import annotations

import ipaddress
import json
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from device_interpreter import run_script
from device_pki import SERVER_AUTH, Plan, rsa_key
from hostile_peer import OK, answer, drip, flood, read_request, serving

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
PROBLEM = json.dumps({"type": "urn:handfast:error:token-used", "title": "T", "detail": "D"})
Call = Callable[..., list[list[object]]]


def san(*names: str) -> tuple[x509.SubjectAlternativeName, bool]:
    addresses = [x509.IPAddress(ipaddress.ip_address(name)) for name in names]
    return x509.SubjectAlternativeName(addresses), False


def server_ca(name: str = "server") -> Plan:
    return Plan(
        subject=name,
        key=rsa_key(name),
        issuer=name,
        issuer_key=rsa_key(name),
        ca=True,
        not_before=NOW - HOUR,
        not_after=NOW + HOUR,
    )


def server_context(
    folder: Path,
    ca: str = "server",
    names: tuple[str, ...] = ("127.0.0.1",),
    ends: datetime = NOW + HOUR,
) -> ssl.SSLContext:
    leaf = Plan(
        subject="gateway",
        key=rsa_key("leaf"),
        issuer=ca,
        issuer_key=rsa_key(ca),
        eku=(SERVER_AUTH,),
        extra=(san(*names),),
        not_before=NOW - 2 * HOUR,
        not_after=ends,
    ).make()
    pem = rsa_key("leaf").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / "server.pem"
    file.write_bytes(pem + leaf.public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    return server_context(tmp_path)


@pytest.fixture
def call(micropython: Path, tmp_path: Path) -> Call:
    root = tmp_path / "mtls"
    (root / "anchor").mkdir(parents=True)
    (root / "anchor" / "tls-0.der").write_bytes(server_ca().make().public_bytes(Encoding.DER))

    def run(port: int, *calls: str, timeout_ms: int = 10_000) -> list[list[object]]:
        url = f"https://127.0.0.1:{port}"
        lines = run_script(
            micropython, "call.py", str(root), url, str(timeout_ms), *calls, cwd=tmp_path
        )
        return [json.loads(line) for line in lines]

    return run


@pytest.mark.parametrize(
    "pieces",
    [
        (OK,),
        (OK[:20], OK[20:]),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n",
        ),
    ],
    ids=["whole", "split", "chunked"],
)
def test_calls_share_one_connection(
    call: Call, context: ssl.SSLContext, pieces: tuple[bytes, ...]
) -> None:
    with serving(answer(*pieces), context=context) as (port, connections):
        outcomes = [outcome for _, outcome in call(port, "GET", "POST", "GET")]
    assert outcomes == [[200, "hi"]] * 3
    assert len(connections) == 1


def test_a_body_that_ends_with_the_connection_is_whole(call: Call, context: ssl.SSLContext) -> None:
    with serving(answer(b"HTTP/1.1 200 OK\r\n\r\nhi", close=True), context=context) as (port, _):
        assert [outcome for _, outcome in call(port, "GET", "GET")] == [[200, "hi"]] * 2


@pytest.mark.parametrize("second", ["GET", "POST", "POST!"])
def test_a_connection_that_the_peer_closed_is_noticed_before_anything_is_sent(
    call: Call, context: ssl.SSLContext, second: str
) -> None:
    with serving(answer(OK, close=True), answer(OK), context=context) as (port, connections):
        outcomes = [outcome for _, outcome in call(port, "GET", "HUNG-UP", second)]
    assert outcomes == [[200, "hi"]] * 2
    assert len(connections) == 2


@pytest.mark.parametrize(
    ("second", "sent_again"), [("GET", True), ("POST!", True), ("POST", False)]
)
def test_only_idempotent_requests_are_sent_again(
    call: Call, context: ssl.SSLContext, second: str, sent_again: bool
) -> None:
    def answers_once(connection: ssl.SSLSocket) -> None:
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)

    with serving(answers_once, answer(OK), context=context) as (port, connections):
        outcomes = [outcome for _, outcome in call(port, "GET", second)]
    assert outcomes[1][0] == (200 if sent_again else "Unreachable")
    assert len(connections) == (2 if sent_again else 1)


def test_a_problem_document_becomes_refused(call: Call, context: ssl.SSLContext) -> None:
    head = f"HTTP/1.1 403 F\r\nContent-Length: {len(PROBLEM)}\r\n"
    head += "Content-Type: application/problem+json\r\n\r\n"
    with serving(answer((head + PROBLEM).encode()), context=context) as (port, _):
        [[_, outcome]] = call(port, "GET")
    assert outcome == ["Refused", 403, "urn:handfast:error:token-used", "D"]


@pytest.mark.parametrize(
    "body",
    [
        '{"type": 5, "detail": [], "title": null}',
        "[" * 3000,
        '"text"',
        "{",
        '{"type": "%s"}' % ("x" * 999),
    ],
    ids=["no-text", "nested", "no-object", "no-json", "long"],
)
def test_a_problem_document_that_makes_no_sense_is_refused_all_the_same(
    call: Call, context: ssl.SSLContext, body: str
) -> None:
    head = f"HTTP/1.1 403 F\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/problem+json\r\n\r\n"
    with serving(answer((head + body).encode()), context=context) as (port, _):
        [[_, outcome]] = call(port, "GET")
    assert outcome == ["Refused", 403, None, "F"]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\n",
        b"SSH-2.0-OpenSSH_9\r\n",
    ],
    ids=["long", "endless-headers", "two-lengths", "other-protocol"],
)
def test_a_lying_response_is_a_protocol_error(
    call: Call, context: ssl.SSLContext, raw: bytes
) -> None:
    with serving(answer(raw), context=context) as (port, _):
        [[_, outcome]] = call(port, "GET")
    assert outcome[0] == "ProtocolError"


def test_a_response_of_a_byte_at_a_time_ends_at_the_deadline(
    call: Call, context: ssl.SSLContext
) -> None:
    def slow(connection: ssl.SSLSocket) -> None:
        read_request(connection)
        drip(connection, OK + bytes(200))

    with serving(slow, context=context) as (port, _):
        [[took_ms, outcome]] = call(port, "GET", timeout_ms=1000)
    assert outcome[0] == "Unreachable"
    assert 900 < took_ms < 3000


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x03\x40\x00" + bytes(200)], ids=["none", "drip"])
def test_a_handshake_that_does_not_end_ends_at_the_deadline(call: Call, sent: bytes) -> None:
    def slow(connection: object) -> None:
        drip(connection, sent)
        connection.recv(65536)
        connection.recv(65536)

    with serving(slow) as (port, _):
        [[took_ms, outcome]] = call(port, "GET", timeout_ms=1000)
    assert outcome[0] == "Unreachable"
    assert "handshake" in outcome[1]
    assert 900 < took_ms < 3000


# RFC 5246 7.2: alerts of level 1 end nothing. 90 is user_canceled.
WARNINGS = b"\x15\x03\x03\x00\x02\x01\x5a" * 1000


def test_a_handshake_of_warnings_without_a_pause_ends_at_the_deadline(call: Call) -> None:
    with serving(lambda connection: flood(connection, WARNINGS)) as (port, _):
        [[took_ms, outcome]] = call(port, "GET", timeout_ms=1000)
    assert outcome[0] == "Unreachable"
    assert "handshake" in outcome[1]
    assert 900 < took_ms < 3000


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", "Unreachable"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "Refused"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "ProtocolError"),
    ],
    ids=["closes", "alert", "plain-http"],
)
def test_a_handshake_that_breaks_off_is_named(call: Call, raw: bytes, kind: str) -> None:
    def break_off(connection: object) -> None:
        connection.recv(65536)
        connection.sendall(raw)

    with serving(break_off) as (port, _):
        [[_, outcome]] = call(port, "GET")
    assert outcome[0] == kind, outcome


def test_no_listener_is_unreachable(call: Call) -> None:
    with serving(answer(OK)) as (port, _):
        pass
    [[_, outcome]] = call(port, "GET")
    assert outcome[0] == "Unreachable"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"ca": "other"}, "not correctly signed"),
        ({"names": ("127.0.0.2",)}, "does not match"),
        ({"ends": NOW - HOUR}, "expired"),
    ],
    ids=["other-ca", "other-host", "expired"],
)
def test_a_server_that_does_not_verify_is_untrusted_and_sent_nothing(
    call: Call, tmp_path: Path, options: dict[str, object], reason: str
) -> None:
    heard = []

    def listen(connection: ssl.SSLSocket) -> None:
        heard.append(read_request(connection))

    context = server_context(tmp_path, **options)
    with serving(listen, context=context) as (port, _):
        [[_, outcome]] = call(port, "GET")
    assert outcome[0] == "Untrusted"
    assert reason in outcome[1]
    assert not any(heard)
