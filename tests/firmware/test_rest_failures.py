"""What a request that fails says and leaves, of mtls.Session and of mtls.aio.Session alike."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable

import pytest
from hostile_peer import OK, answer, flood, read_request, serving
from test_aio_on_board import script
from test_rest_on_board import CHUNK, ENDLESS, Rest, context, rest, status

__all__ = ["context", "rest"]  # fixtures


@pytest.fixture(params=["blocking", "asyncio"])
def either(rest: Rest, request: pytest.FixtureRequest) -> Rest:
    """Runs lines that use a session `s`, written for asyncio, with either of the two."""

    def run(port: int, lines: str, **options: object) -> list[object]:
        if request.param == "asyncio":
            return rest(port, "import time\n" + script(lines, repr(options)))
        lines = lines.replace("await ", "").replace("async ", "")
        return rest(port, "s = session\n" + lines, **options)

    return run


# What is left of the session, and whether it works: to be put behind a failure.
LEFT = """
out.append([s._connection is None, s._response is None])
keep = None
out.append((await s.get("/after")).text)
"""
CLEAN = [[True, True], "hi"]


def then_ok(*pieces: bytes) -> Callable[[socket.socket], None]:
    """Answer the first request as any, the second with these, and leave the rest open."""

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)
        for piece in pieces:
            connection.sendall(piece)
        if pieces[-1] == ENDLESS:
            flood(connection, CHUNK)
        while connection.recv(4096):
            pass

    return serve


HUGE = b"HTTP/1.1 200 OK\r\nContent-Length: 900000000\r\n\r\n"


@pytest.mark.parametrize("head", [HUGE, ENDLESS], ids=["announced", "chunked"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_body_that_the_heap_has_no_room_for_is_out_of_memory(
    either: Rest, context: ssl.SSLContext, head: bytes, stream: bool
) -> None:
    lines = f"""
await s.get("/warm")
gc.collect()
keep = []
while gc.mem_free() > 200000:
    keep.append(bytearray(16384))
try:
    r = await s.get("/x", stream={stream})
    await r.load()
except MTLSError as error:
    out.append(type(error).__name__)
"""
    with serving(then_ok(head), answer(OK), context=context) as (port, _):
        said = either(port, lines + LEFT, max_body_bytes=10**9)
    assert said == ["OutOfMemory", *CLEAN]


def test_a_body_that_came_whole_and_found_no_room_does_not_look_empty(
    either: Rest, context: ssl.SSLContext
) -> None:
    """It is read into one piece of the heap, and copied into another: there is one only."""
    lines = """
def fits(pieces):
    try:
        return [bytearray(60000) for _ in range(pieces)] and True
    except MemoryError:
        return False
await s.get("/warm")
r = await s.get("/x", stream=True)
gc.collect()
keep = []
while fits(2):
    keep.append(bytearray(9000))
out.append(fits(1))
for _ in range(2):
    try:
        await r.load()
    except MTLSError as error:
        out.append(type(error).__name__)
out.append(s._response is None)
keep = None
out.append((await s.get("/after")).status_code)
"""
    with serving(answer(status(200, body=b"x" * 60000)), context=context) as (port, _):
        said = either(port, lines, max_body_bytes=70000)
    assert said == [True, "OutOfMemory", "Unreachable", True, 200]


def test_a_streamed_body_over_the_limit_leaves_nothing_open(
    either: Rest, context: ssl.SSLContext
) -> None:
    lines = """
await s.get("/warm")
r = await s.get("/x", stream=True)
try:
    await r.load()
except MTLSError as error:
    out.append(type(error).__name__)
"""
    long = status(200, body=b"x" * 3000)
    with serving(then_ok(long), answer(OK), context=context) as (port, _):
        assert either(port, lines + LEFT, max_body_bytes=2000) == ["ProtocolError", *CLEAN]


def test_a_redirect_that_is_refused_leaves_nothing_open(
    either: Rest, context: ssl.SSLContext
) -> None:
    lines = """
await s.get("/warm")
try:
    await s.get("/x")
except MTLSError as error:
    out.append(type(error).__name__)
"""
    away = status(302, "Location: https://evil.example/", body=b"x" * 3000)
    with serving(then_ok(away), answer(OK), context=context) as (port, _):
        assert either(port, lines + LEFT) == ["ProtocolError", *CLEAN]


def test_a_document_that_the_heap_has_no_room_for_is_out_of_memory(
    either: Rest, context: ssl.SSLContext
) -> None:
    lines = """
await s.get("/warm")
document = ["x" * 1000] * 1000
gc.collect()
keep = []
while gc.mem_free() > 200000:
    keep.append(bytearray(16384))
try:
    await s.post("/x", json=document)
except MTLSError as error:
    out.append(type(error).__name__)
"""
    with serving(answer(OK), context=context) as (port, _):
        assert either(port, lines + LEFT) == ["OutOfMemory", *CLEAN]


# Timeouts and stale connections


def silent(asked: list[bytes]) -> Callable[[socket.socket], None]:
    """Answer the first request of all, and none after it; ``asked`` are those that came."""

    def serve(connection: socket.socket) -> None:
        while request := read_request(connection):
            asked.append(request)
            if len(asked) == 1:
                connection.sendall(OK)

    return serve


@pytest.mark.parametrize(
    ("method", "total"),
    [("GET", "timeout_ms=800"), ("PUT", "timeout_ms=800"), ("GET", "timeout=0.8")],
)
@pytest.mark.parametrize("read_timeout_ms", [None, 400], ids=["total", "read"])
def test_a_timeout_on_a_kept_connection_is_not_sent_again(
    either: Rest, context: ssl.SSLContext, method: str, total: str, read_timeout_ms: int | None
) -> None:
    asked: list[bytes] = []

    lines = f"""
await s.get("/warm")
start = time.ticks_ms()
try:
    await s.request("{method}", "/x", {total})
except MTLSError as error:
    out.append([type(error).__name__, str(error)])
out.append(time.ticks_diff(time.ticks_ms(), start))
"""
    with serving(silent(asked), context=context) as (port, connections):
        [kind, said], took_ms = either(port, lines, read_timeout_ms=read_timeout_ms)
    assert kind == "Unreachable"
    assert "does not answer in time" in said
    assert took_ms < (700 if read_timeout_ms else 1200)
    assert (len(asked), len(connections)) == (2, 1)


def test_a_timeout_on_a_kept_connection_is_sent_again_if_there_are_retries(
    either: Rest, context: ssl.SSLContext
) -> None:
    """Once each: the connection that was silent is no stale one, which would cost none."""
    asked: list[bytes] = []

    lines = """
await s.get("/warm")
await s.get("/x")
"""
    with serving(silent(asked), context=context) as (port, _):
        [error] = either(port, lines, read_timeout_ms=200, retries=1)
    assert error[0] == "Unreachable"
    assert len(asked) == 3


def reads(pace_s: float | None) -> Callable[[socket.socket], None]:
    """Answer the first request; of the next take nothing, or a little at a time."""

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        while pace_s is not None and connection.recv(1024):
            time.sleep(pace_s)
        time.sleep(20)  # the client has given up long before, and this is a daemon's thread

    return serve


@pytest.mark.parametrize("pace_s", [None, 0.05], ids=["nothing", "a trickle"])
def test_a_peer_that_does_not_take_the_body_ends_the_request_at_the_deadline(
    either: Rest, context: ssl.SSLContext, pace_s: float | None
) -> None:
    lines = """
def endless():
    piece = bytes(4096)
    while True:
        yield piece

await s.get("/warm")
start = time.ticks_ms()
try:
    await s.put("/x", data=endless(), timeout_ms=1500)
except MTLSError as error:
    out.append([type(error).__name__, str(error)])
out.append(time.ticks_diff(time.ticks_ms(), start))
out.append([s._connection is None, s._response is None])
"""
    with serving(reads(pace_s), context=context) as (port, connections):
        [kind, said], took_ms, left = either(port, lines)
    assert kind == "Unreachable"
    assert "does not answer in time" in said
    assert 1400 <= took_ms < 5000
    assert left == [True, True]
    assert len(connections) == 1  # half a body is not sent again


def reset(connection: socket.socket) -> None:
    """End the TCP connection as a peer that has lost its state does."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def notify(connection: socket.socket) -> None:
    connection.sendall(b"")
    with contextlib.suppress(OSError):
        connection.unwrap()


def leaves(end: Callable[[socket.socket], None]) -> Callable[[socket.socket], None]:
    """Answer one request, and end the connection when another has come."""

    def serve(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)
        end(connection)

    return serve


@pytest.mark.parametrize("end", [reset, notify, socket.socket.close])
def test_a_connection_that_the_peer_ends_before_any_answer_is_stale(
    either: Rest, context: ssl.SSLContext, end: Callable[[socket.socket], None]
) -> None:
    lines = """
await s.get("/warm")
out.append((await s.get("/x")).text)
"""
    with serving(leaves(end), answer(OK), context=context) as (port, connections):
        assert either(port, lines) == ["hi"]
    assert len(connections) == 2


@pytest.mark.parametrize("harmless", [False, True])
@pytest.mark.parametrize("end", [reset, notify, socket.socket.close])
def test_a_stale_connection_has_a_post_sent_again_only_if_that_is_harmless(
    either: Rest, context: ssl.SSLContext, end: Callable[[socket.socket], None], harmless: bool
) -> None:
    lines = f"""
await s.get("/warm")
try:
    out.append((await s.post("/x", data=b"y", idempotent={harmless})).text)
except mtls.errors.MTLSError as error:
    out.append(type(error).__name__)
"""
    with serving(leaves(end), answer(OK), context=context) as (port, connections):
        assert either(port, lines) == ["hi" if harmless else "Unreachable"]
    assert len(connections) == (2 if harmless else 1)


def test_a_connection_that_breaks_within_an_answer_is_not_stale(
    either: Rest, context: ssl.SSLContext
) -> None:
    def breaks(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(OK)
        read_request(connection)
        connection.sendall(OK[:20])
        time.sleep(0.3)  # so that it has been read before the reset throws it away
        reset(connection)

    lines = """
await s.get("/warm")
await s.get("/x")
"""
    with serving(breaks, answer(OK), context=context) as (port, connections):
        [error] = either(port, lines)
    assert error[0] == "Unreachable"
    assert len(connections) == 1


# The application's own errors

GENERATOR = """
def data():
    yield b"a"
    raise OSError(5, "mine")
"""
FAILS_AT_ONCE = GENERATOR.replace('yield b"a"', 'yield b""')
FILE = """
class File(io.IOBase):
    def tell(self):
        return 0
    def seek(self, offset, whence=0):
        return 1000
    def readinto(self, buf):
        raise OSError(5, "mine")
data = File
"""


KEPT = pytest.mark.parametrize("before", ['await s.get("/warm")', ""], ids=["kept", "new"])


@pytest.mark.parametrize(
    "source", [GENERATOR, FAILS_AT_ONCE, FILE], ids=["late", "at-once", "file"]
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
@KEPT
def test_an_error_of_the_application_s_own_data_comes_through_as_it_is(
    either: Rest, context: ssl.SSLContext, source: str, method: str, before: str
) -> None:
    lines = f"""
{source}
{before}
start = time.ticks_ms()
try:
    await s.request("{method}", "/x", data=data())
except OSError as error:
    out.append([error.args[0], error.args[1]])
out.append(time.ticks_diff(time.ticks_ms(), start) < 1000)
"""
    with serving(answer(OK), context=context) as (port, connections):
        assert either(port, lines + LEFT, retries=2) == [[5, "mine"], True, *CLEAN]
    assert len(connections) == 2


@KEPT
@pytest.mark.parametrize("arguments", ["'the other one'", ""], ids=["said", "bare"])
def test_an_error_of_another_session_that_data_came_from_is_no_failure_of_this_request(
    either: Rest, context: ssl.SSLContext, before: str, arguments: str
) -> None:
    lines = f"""
class File(io.IOBase):
    def tell(self):
        return 0
    def seek(self, offset, whence=0):
        return 1000
    def readinto(self, buf):
        asked.append(1)
        raise mtls.errors.Unreachable({arguments})
asked = []
{before}
try:
    await s.put("/x", data=File())
except MTLSError as error:
    out.append(str(error))
out.append(len(asked))
"""
    with serving(answer(OK), context=context) as (port, _):
        said = "the other one" if arguments else ""
        assert either(port, lines + LEFT, retries=2) == [said, 1, *CLEAN]


@pytest.mark.parametrize("request_", ['s.get("/x")', 's.post("/x", data=b"secret")'])
def test_a_refused_connection_is_dialled_again_and_nothing_is_sent_on_a_dead_one(
    either: Rest, request_: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    lines = f"""
from mtls import tls
dial, dials = tls.dial, []
def counted(*given):
    dials.append(given[1])
    return dial(*given)
tls.dial = counted
try:
    await {request_}
except MTLSError as error:
    out.append([type(error).__name__, "refuses the connection" in str(error)])
out.append(len(dials))
out.append([s._connection is None, s._response is None])
"""
    assert either(port, lines, retries=2) == [["Unreachable", True], 3, CLEAN[0]]
