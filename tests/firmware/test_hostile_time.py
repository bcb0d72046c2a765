"""A time-stamp authority that lies, is slow, or is none: what becomes of a board's clock."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from device_interpreter import run_script
from device_pki import encoded, generalized, reply_by, server_plan, tsa_plan
from hostile_peer import Peer, drip, serving
from mtls import der

YEAR_2099 = datetime(2099, 1, 1, tzinfo=UTC)
YEAR_2100 = datetime(2100, 1, 1, tzinfo=UTC)
SOON = datetime.now(UTC) + timedelta(days=5)
PAST = datetime.now(UTC) - timedelta(hours=1)
REPLY = "application/timestamp-reply"
Sync = Callable[..., list[object]]


def read_query(connection: socket.socket) -> tuple[int, bytes]:
    """Return nonce and imprint of one TimeStampReq."""
    received = b""
    while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < 60:
        received += connection.recv(4096)
    query = der.only(received.partition(b"\r\n\r\n")[2])
    query.integer()
    imprint = query.enter(der.SEQUENCE)
    imprint.next()
    return query.integer(), imprint.content(der.OCTET_STRING)


def http(body: bytes, kind: str = REPLY, headers: str = "") -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def saying(
    moment: datetime | None = None, leaf_ends: datetime = SOON, ca_ends: datetime = SOON
) -> tuple[bytes, Peer]:
    """Return an anchor, and an authority below it that says this time; by default the right one."""
    life = {"not_before": PAST}
    anchor = replace(server_plan(), not_after=ca_ends, **life).make()
    leaf = replace(tsa_plan(), not_after=leaf_ends, **life).make()

    def serve(connection: socket.socket) -> None:
        nonce, imprint = read_query(connection)
        time = generalized((moment or datetime.now(UTC)).replace(microsecond=0))
        reply = reply_by(leaf, anchor).but(nonce=der.integer(nonce), imprint=imprint, time=time)
        connection.sendall(http(reply.make()))

    return encoded(anchor), serve


@pytest.fixture
def sync(micropython: Path, tmp_path: Path) -> Sync:
    def run(anchor: bytes, peer: Peer, *, timeout_ms: int = 10_000) -> list[object]:
        root = tmp_path / "mtls"
        (root / "anchor").mkdir(parents=True, exist_ok=True)
        (root / "anchor/tls-0.der").write_bytes(anchor)
        with serving(peer) as (port, _):
            config = {
                "schema": 1,
                "device_id": "d",
                "api_url": "https://h",
                "enrol_url": "https://h",
            }
            config |= {"tsa_url": f"http://127.0.0.1:{port}/tsa", "trust_domain": "t"}
            (root / "config.json").write_text(json.dumps(config))
            arguments = (str(root), str(timeout_ms), "1000000000")
            (line,) = run_script(micropython, "sync_time.py", *arguments, cwd=tmp_path)
        return json.loads(line)

    return run


def test_signed_time_sets_the_clock(sync: Sync) -> None:
    assert sync(*saying()) == ["tsa", True, datetime.now(UTC).year, 0]


@pytest.mark.parametrize(
    ("leaf_ends", "ca_ends"), [(SOON, SOON), (YEAR_2100, SOON), (SOON, YEAR_2100)]
)
def test_the_year_2099_is_not_believed_of_certificates_that_end_before(
    sync: Sync, leaf_ends: datetime, ca_ends: datetime
) -> None:
    assert sync(*saying(YEAR_2099, leaf_ends, ca_ends)) == ["Untrusted", False, 2001, 0]


def test_a_lie_that_the_anchor_itself_signed_is_over_with_the_next_answer(sync: Sync) -> None:
    anchor, liar = saying(YEAR_2099, YEAR_2100, YEAR_2100)
    assert sync(anchor, liar) == ["tsa", True, 2099, 0], "and the floor stays where it was"
    _, honest = saying(None, YEAR_2100, YEAR_2100)
    assert sync(anchor, honest)[:3] == ["tsa", True, datetime.now(UTC).year]


@pytest.mark.parametrize(
    ("wrong", "outcome"),
    [
        (http(b"\x30\x03\x02\x01\x00"), "DecodeError"),
        (http(b"\x30\x80"), "DecodeError"),
        (http(b"0" * 20, "text/html"), "ProtocolError"),
        (http(b"0" * 9000), "ProtocolError"),
        (http(b"0" * 20, headers="A: b\r\n" * 200), "ProtocolError"),
        (http(b"0" * 20)[:-4], "ProtocolError"),
        (b"SSH-2.0-OpenSSH_9\r\n", "ProtocolError"),
        (b"", "ClockNotSet"),
    ],
    ids=["no-token", "indefinite", "html", "long", "headers", "short", "ssh", "hangs-up"],
)
def test_an_answer_that_is_none_leaves_the_clock_alone(
    sync: Sync, wrong: bytes, outcome: str
) -> None:
    def serve(connection: socket.socket) -> None:
        read_query(connection)
        connection.sendall(wrong)

    anchor, _ = saying()
    assert sync(anchor, serve) == [outcome, False, 2001, 0]


def test_an_answer_of_a_byte_at_a_time_leaves_the_clock_alone(sync: Sync) -> None:
    def serve(connection: socket.socket) -> None:
        read_query(connection)
        drip(connection, http(bytes(500)))

    anchor, _ = saying()
    assert sync(anchor, serve, timeout_ms=1000) == ["ClockNotSet", False, 2001, 0]
