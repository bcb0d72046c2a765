"""What a request that fails says and leaves, of mtls.Session and of mtls.aio.Session alike."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest
from hostile_peer import OK, answer, flood, read_request, serving
from test_aio_on_board import script
from test_rest_on_board import CHUNK, ENDLESS, context, rest, status

__all__ = ["context", "rest"]  # fixtures
Rest = Callable[..., list[object]]


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
