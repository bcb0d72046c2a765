"""mtls.aio.Session on MicroPython: as mtls.Session, while other tasks go on."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import pytest
from device_pki import rsa_key
from hostile_peer import OK, Peer, answer, drip, flood, read_request, serving
from test_client_on_board import WARNINGS, server_context
from test_pins_and_ssl import pin
from test_rest_on_board import Echo, Rest, context, endless, rest, status

__all__ = ["context", "rest"]  # fixtures

OPEN = """
import asyncio
import mtls.aio
ticks = 0
async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep_ms(5)
async def run():
    asyncio.create_task(tick())
    async with mtls.aio.Session(url, store, identity=None, **options) as s:
        try:
            await use(s)
        except mtls.MTLSError as error:
            out.append([type(error).__name__, str(error)])
"""


def script(body: str, options: str = "{}") -> str:
    indented = "\n".join("    " + line for line in body.strip().splitlines())
    return f"options = {options}\n{OPEN}\nasync def use(s):\n{indented}\nasyncio.run(run())\n"


def test_it_does_what_the_blocking_session_does(rest: Rest, context: ssl.SSLContext) -> None:
    body = """
r = await s.post("/x", params={"a": 1}, json={"b": 2})
r.raise_for_status()
out.append(r.json())
out.append((await s.put("/y", data=iter([b"1", b"2"]))).json()["body"])
async with await s.get("/z", stream=True) as r:
    n = 0
    async for piece in r.iter_content(16):
        n += len(piece)
    out.append(n == int(r.headers["content-length"]))
r = await s.get("/z", stream=True)
await r.load()
out.append(r.json()["target"])
r = await s.get("/z", stream=True)
s.close()
for read in (r.load(), r.readinto(bytearray(9))):
    try:
        out.append(await read)
    except MTLSError as error:
        out.append([type(error).__name__, str(error)])
out.append((await s.head("/h")).headers["x-method"])
out.append(s.handshake_ms >= 0)
"""
    with serving(Echo(), context=context) as (port, connections):
        posted, put, whole, target, loaded, read, head, measured = rest(port, script(body))
    assert (posted["target"], posted["body"]) == ("/x?a=1", '{"b": 2}')
    assert put == "12"
    assert (whole, target, head, measured) == (True, "/z", "HEAD", True)
    assert loaded == read == ["Unreachable", "the body was given up before its end"]
    assert len(connections) == 2


def test_requests_of_several_tasks_share_one_connection(
    rest: Rest, context: ssl.SSLContext
) -> None:
    body = """
rs = await asyncio.gather(*[s.get("/%d" % n) for n in range(5)])
out.extend([r.json()["target"] for r in rs])
"""
    with serving(Echo(), context=context) as (port, connections):
        assert rest(port, script(body)) == [f"/{n}" for n in range(5)]
    assert len(connections) == 1


def test_other_tasks_run_while_a_request_waits(rest: Rest, context: ssl.SSLContext) -> None:
    def slow(connection: socket.socket) -> None:
        read_request(connection)
        drip(connection, OK, 0.02)

    body = "out.append((await s.get('/x')).text)\nout.append(ticks)"
    with serving(slow, context=context) as (port, _):
        text, ticks = rest(port, script(body))
    assert text == "hi"
    assert ticks > 20


@pytest.mark.parametrize(
    "options", ["{'timeout_ms': 700}", "{'read_timeout_ms': 700}"], ids=["total", "read"]
)
def test_a_response_of_a_byte_at_a_time_ends_at_its_deadline(
    rest: Rest, context: ssl.SSLContext, options: str
) -> None:
    def slow(connection: socket.socket) -> None:
        read_request(connection)
        drip(connection, OK + bytes(300))

    with serving(slow, context=context) as (port, _):
        [error] = rest(port, script("await s.get('/x')", options))
    assert error[0] == "Unreachable"
    assert "in time" in error[1]


def test_a_handshake_that_does_not_end_ends_at_its_deadline(rest: Rest) -> None:
    def slow(connection: socket.socket) -> None:
        drip(connection, b"\x16\x03\x03\x40\x00" + bytes(200))

    body = "await s.get('/x')"
    with serving(slow) as (port, _):
        [error] = rest(port, script(body, "{'handshake_timeout_ms': 300}"))
    assert error[0] == "Unreachable"
    assert "handshake" in error[1]


def test_a_handshake_of_warnings_without_a_pause_ends_at_its_deadline(rest: Rest) -> None:
    body = "await s.get('/x')"
    with serving(lambda connection: flood(connection, WARNINGS)) as (port, _):
        [error] = rest(port, script(body, "{'handshake_timeout_ms': 300}"))
    assert error[0] == "Unreachable"
    assert "handshake" in error[1]


def test_a_body_that_never_ends_and_never_pauses_ends_at_the_total_and_lets_others_run(
    rest: Rest, context: ssl.SSLContext
) -> None:
    body = """
await s.get("/warm")
r = await s.get("/x", stream=True, timeout_ms=1500)
buf = bytearray(512)
before = ticks
try:
    while await r.readinto(buf):
        pass
except mtls.MTLSError as error:
    out.append(str(error))
out.append(ticks - before)
"""
    with serving(endless, context=context) as (port, _):
        error, ran = rest(port, script(body))
    assert "in time" in error
    assert ran > 3


def test_a_request_that_waits_for_others_ends_at_its_own_total(
    rest: Rest, context: ssl.SSLContext
) -> None:
    def slow(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)
        drip(connection, OK)
        answer(OK)(connection)

    body = """
await s.get("/warm")
first = asyncio.create_task(s.get("/first"))
await asyncio.sleep_ms(0)
try:
    await s.get("/second", timeout_ms=200)
except mtls.MTLSError as error:
    out.append(str(error))
out.append(first.done())
out.append((await first).text)
out.append((await s.get("/third")).text)
"""
    with serving(slow, context=context) as (port, connections):
        error, done, text, third = rest(port, script(body))
    assert "other requests" in error
    assert not done, "it waited for the other one"
    assert (text, third, len(connections)) == ("hi", "hi", 1)


def after(seconds: float) -> Peer:
    """Answer each request so much later."""

    def serve(connection: socket.socket) -> None:
        while read_request(connection):
            time.sleep(seconds)
            connection.sendall(OK)

    return serve


def test_a_wait_for_others_that_ends_as_they_do_leaves_the_session_free(
    rest: Rest, context: ssl.SSLContext
) -> None:
    """The other task works on its answer, and lets nobody run, until the wait is over."""
    body = """
async def other():
    await s.get("/a")
    time.sleep_ms(400)
await s.get("/warm")
task = asyncio.create_task(other())
await asyncio.sleep_ms(0)
try:
    out.append((await s.get("/b", timeout_ms=600)).text)
except mtls.MTLSError as error:
    out.append(str(error))
await task
out.append((await s.get("/c")).text)
"""
    with serving(after(0.4), context=context) as (port, _):
        waited, last = rest(port, "import time\n" + script(body))
    assert "other requests" in waited
    assert last == "hi"


def test_a_request_that_follows_another_task_s_ends_at_its_own_total_too(
    rest: Rest, context: ssl.SSLContext
) -> None:
    """The lock is handed on to who waits already: free it is not."""
    body = """
async def mine():
    await s.get("/a")
    try:
        await s.get("/b", timeout_ms=200)
    except mtls.MTLSError as error:
        out.append(str(error))
await s.get("/warm")
task = asyncio.create_task(mine())
other = asyncio.create_task(s.get("/other"))
await task
out.append(other.done())
await other
"""
    with serving(after(0.8), context=context) as (port, _):
        error, other_was_done = rest(port, script(body))
    assert "other requests" in error
    assert not other_was_done


def test_a_body_that_another_task_s_request_gives_up_says_so_and_breaks_nothing(
    rest: Rest, context: ssl.SSLContext
) -> None:
    def begins(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(announce(1000) + bytes(100))
        read_request(connection)

    body = """
async def read():
    r = await s.get("/s", stream=True, timeout_ms=1500)
    buf = bytearray(64)
    try:
        while await r.readinto(buf):
            reading.set()
    except mtls.MTLSError as error:
        out.append(str(error))
reading = asyncio.Event()
task = asyncio.create_task(read())
await reading.wait()
await asyncio.sleep_ms(50)
other = asyncio.create_task(s.get("/other"))
await task
out.append((await other).text)
out.append((await s.get("/last")).text)
"""
    with serving(begins, after(2), context=context) as (port, connections):
        assert rest(port, script(body)) == ["the body was given up before its end", "hi", "hi"]
    assert len(connections) == 2


def announce(length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()


def test_no_listener_is_unreachable(rest: Rest) -> None:
    with serving(answer(OK)) as (port, _):
        pass
    [error] = rest(port, script("await s.get('/x')"))
    assert error[0] == "Unreachable"


@pytest.mark.parametrize("ca", ["other", "server"])
def test_a_server_that_is_not_verified_or_pinned_is_untrusted(
    rest: Rest, tmp_path: Path, ca: str
) -> None:
    assert rsa_key(ca)
    heard = []
    options = repr({"pins": [pin("other")]})
    context = server_context(tmp_path, ca)
    with serving(lambda c: heard.append(read_request(c)), context=context) as (port, _):
        [error] = rest(port, script("await s.get('/x')", options))
    assert error[0] == "Untrusted"
    assert not any(heard)


def test_a_cancelled_request_leaves_a_session_that_works(
    rest: Rest, context: ssl.SSLContext
) -> None:
    def silent(connection: socket.socket) -> None:
        read_request(connection)
        connection.recv(1)

    body = """
try:
    await asyncio.wait_for_ms(s.get("/x"), 200)
except asyncio.TimeoutError:
    out.append("cancelled")
out.append((await s.get("/x")).text)
"""
    with serving(silent, answer(OK), context=context) as (port, _):
        assert rest(port, script(body)) == ["cancelled", "hi"]


def test_a_busy_server_is_asked_again_and_a_closed_connection_noticed(
    rest: Rest, context: ssl.SSLContext
) -> None:
    def busy(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(status(503, "Connection: close"))

    body = "out.append((await s.get('/x')).status_code)\nout.append((await s.get('/x')).text)"
    with serving(busy, answer(OK, close=True), context=context) as (port, connections):
        assert rest(port, script(body, "{'retries': 1}")) == [200, "hi"]
    assert len(connections) == 3


def test_a_task_that_is_cancelled_while_it_connects_leaves_no_socket_open(rest: Rest) -> None:
    body = """
import os
def open_files():
    return len(os.listdir("/proc/self/fd"))
before = open_files()
try:
    await asyncio.wait_for_ms(s.get("/x"), 200)
except asyncio.TimeoutError:
    out.append("cancelled")
out.append(open_files() - before)
"""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        socket.create_connection(full.getsockname()),  # takes the one place that there is
    ):
        assert rest(full.getsockname()[1], script(body)) == ["cancelled", 0]
