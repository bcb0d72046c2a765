"""Peers that are slow, greedy, rude or gone: each ends in time, and nobody else is harmed."""

from __future__ import annotations

import errno
import os
import resource
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from handfast.gateway.server import Limits
from support_server import (
    Reader,
    Running,
    ask,
    client_context,
    get,
    mutual,
    plain,
    post,
    quick,
    serving,
    wait_for,
)
from support_server_pki import pki

# Deadlines of 0.3 s are kept within this, on a machine that is busy with other tests.
IN_TIME_S = 5.0


def drip(connected: socket.socket, data: bytes, *, every_s: float = 0.02) -> float:
    """Send a byte at a time until the server ends it; return how long that took."""
    began = time.monotonic()
    connected.settimeout(every_s)
    for position in range(len(data)):
        try:
            connected.sendall(data[position : position + 1])
            connected.recv(1)
        except TimeoutError:
            continue
        except OSError:
            pass
        return time.monotonic() - began
    pytest.fail("the server took all of it")


def flood(connected: socket.socket, *, until: float) -> None:
    while time.monotonic() < until:
        connected.sendall(b"x" * 65536)


def reset(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connected.close()


def client_hello() -> bytes:
    """The first bytes of a real TLS handshake."""
    import ssl

    outgoing = ssl.MemoryBIO()
    tls = client_context(pki().device).wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="localhost"
    )
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with serving(mutual(limits=quick()), plain(quick())) as running:
        yield running


def connect_plain(running: Running) -> socket.socket:
    port = running.listeners["public"].port
    return socket.create_connection(("127.0.0.1", port), timeout=10)


@contextmanager
def others_are_served(running: Running) -> Iterator[None]:
    """Whatever happens in the block, a good client is served afterwards and nothing is left."""
    yield
    with running.connect_tls(pki().device) as tls:
        tls.sendall(get())
        assert Reader(tls).answer().status == 200
    wait_for(lambda: running.open_connections == 0)
    assert running.log.all("connection_failed") == []


# Slow ones


def test_a_handshake_of_a_byte_at_a_time_ends_in_time(running: Running) -> None:
    with others_are_served(running), running.connect() as connected:
        assert drip(connected, client_hello() * 10) < IN_TIME_S
    running.log.wait("tls_refused", reason="handshake-timeout")


def test_a_client_that_says_nothing_ends_in_time(running: Running) -> None:
    for connect in (running.connect, lambda: connect_plain(running)):
        with others_are_served(running), connect() as connected:
            connected.settimeout(IN_TIME_S)
            assert Reader(connected).at_end()


@pytest.mark.parametrize(
    "sent",
    [
        get("/", "x: " + "a" * 2000),
        b"GET /" + b"a" * 1500,
        b"\r\n" * 1000,
    ],
    ids=["header", "target", "empty lines"],
)
def test_a_head_of_a_byte_at_a_time_ends_in_time(running: Running, sent: bytes) -> None:
    with others_are_served(running), connect_plain(running) as connected:
        assert drip(connected, sent) < IN_TIME_S


def test_a_slow_head_is_answered_408(running: Running) -> None:
    with others_are_served(running), connect_plain(running) as connected:
        connected.sendall(b"GET / HTTP/1.1\r\n")
        assert Reader(connected).answer().slug == "request-timeout"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_a_byte_at_a_time_ends_in_time(running: Running, chunked: bool) -> None:
    head = post("/x", b"x" * 2000)[:-2000]
    body = b"x" * 2000
    if chunked:
        head = b"POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        body = b"1\r\nx\r\n" * 400
    with others_are_served(running), connect_plain(running) as connected:
        connected.sendall(head)
        assert drip(connected, body) < IN_TIME_S
    running.log.wait("request", slug="request-timeout", path="/x")


def test_a_client_that_takes_nothing_ends_in_time(running: Running) -> None:
    before = len(running.app.send_errors)
    with others_are_served(running), connect_plain(running) as connected:
        connected.sendall(get("/endless"))
        wait_for(lambda: len(running.app.send_errors) > before)
        running.log.wait("write_timeout")


def test_a_client_that_takes_nothing_over_tls_ends_in_time(running: Running) -> None:
    before = len(running.app.send_errors)
    with others_are_served(running), running.connect_tls(pki().device) as tls:
        tls.sendall(get("/endless"))
        wait_for(lambda: len(running.app.send_errors) > before)


def test_an_idle_connection_is_closed_after_its_time(running: Running) -> None:
    with others_are_served(running), running.connect_tls(pki().device) as tls:
        tls.sendall(get())
        reader = Reader(tls)
        assert reader.answer().status == 200
        assert reader.at_end()


def test_a_refused_client_that_does_not_close_is_dropped(running: Running) -> None:
    with others_are_served(running), connect_plain(running) as connected:
        connected.sendall(b"nonsense\r\n\r\n")
        Reader(connected).answer()
        wait_for(lambda: running.open_connections == 0)


def test_a_refused_client_cannot_keep_the_server_reading(running: Running) -> None:
    with others_are_served(running), connect_plain(running) as connected:
        connected.sendall(b"nonsense\r\n\r\n")
        connected.settimeout(IN_TIME_S)
        began = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe|timed out"):
            flood(connected, until=began + IN_TIME_S)
        assert time.monotonic() - began < IN_TIME_S


def test_slow_clients_do_not_slow_others_down() -> None:
    with serving(plain(Limits())) as running:
        slow = [running.connect() for _ in range(100)]
        try:
            for connected in slow:
                connected.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nx: ")
            wait_for(lambda: running.open_connections == 100)
            assert ask(running, get()).status == 200
        finally:
            for connected in slow:
                connected.close()


# Rude ones


@pytest.mark.parametrize("cut", [0, 1, 5, 100, 200])
@pytest.mark.parametrize("end", [reset, socket.socket.close], ids=["reset", "close"])
def test_leaving_in_the_middle_of_a_handshake_does_no_harm(
    running: Running, cut: int, end: Callable[[socket.socket], None]
) -> None:
    with others_are_served(running):
        connected = running.connect()
        connected.sendall(client_hello()[:cut])
        end(connected)
        wait_for(lambda: running.open_connections == 0)


def test_a_reset_behind_a_whole_client_hello_does_no_harm(running: Running) -> None:
    with others_are_served(running):
        for _ in range(20):
            connected = running.connect()
            connected.sendall(client_hello())
            reset(connected)


@pytest.mark.parametrize("end", [reset, socket.socket.close], ids=["reset", "close"])
def test_leaving_in_the_middle_of_a_request_does_no_harm(
    running: Running, end: Callable[[socket.socket], None]
) -> None:
    raw = post("/x", b"x" * 100)
    with others_are_served(running):
        for cut in (1, 20, len(raw) - 100, len(raw) - 1, len(raw)):
            connected = connect_plain(running)
            connected.sendall(raw[:cut])
            end(connected)


def test_cutting_tls_off_without_a_word_does_no_harm(running: Running) -> None:
    with others_are_served(running):
        tls = running.connect_tls(pki().device)
        tls.sendall(post("/x", b"x" * 100)[:-50])
        socket.socket(fileno=tls.detach()).close()


def test_rubbish_in_place_of_a_handshake_does_no_harm(running: Running) -> None:
    with others_are_served(running):
        for rubbish in (b"\x00" * 1000, b"\x16\x03\x01\xff\xff" + b"\xff" * 1000, os.urandom(4096)):
            with running.connect() as connected:
                connected.sendall(rubbish)
                connected.settimeout(IN_TIME_S)
                while connected.recv(4096):
                    pass


def test_rubbish_in_the_middle_of_tls_ends_that_connection(running: Running) -> None:
    with others_are_served(running):
        tls = running.connect_tls(pki().device)
        raw = socket.socket(fileno=os.dup(tls.fileno()))
        with tls, raw:
            raw.sendall(b"\x17\x03\x03\x00\x20" + os.urandom(32))
            raw.settimeout(IN_TIME_S)
            wait_for(lambda: running.open_connections == 0)


# A machine that is short of something


def test_running_out_of_descriptors_is_waited_out() -> None:
    with serving(plain()) as running:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        connected = socket.socket()
        connected.settimeout(10)
        port = running.port
        # The lowest free descriptor is the limit: nothing can be opened any more.
        with open(os.devnull) as probe:  # noqa: PTH123
            resource.setrlimit(resource.RLIMIT_NOFILE, (probe.fileno(), before[1]))
        try:
            connected.connect(("127.0.0.1", port))
            connected.sendall(get())
            line = running.log.wait("accept_failed")
            assert line["error"] == os.strerror(errno.EMFILE)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        with connected:
            assert Reader(connected).answer().status == 200
        assert len(running.log.all("accept_failed")) < 10


def test_a_flood_of_handshakes_leaves_nothing_behind() -> None:
    with serving(mutual(limits=quick(max_connections=32))) as running:
        hello = client_hello()
        flooding: list[Any] = []
        try:
            for _ in range(100):
                connected = running.connect()
                connected.sendall(hello)
                flooding.append(connected)
            with running.connect_tls(pki().device) as tls:
                tls.sendall(get())
                assert Reader(tls).answer().status == 200
        finally:
            for connected in flooding:
                connected.close()
        wait_for(lambda: running.open_connections == 0)
