"""A peer that takes no connection: the client's deadline for connecting, on MicroPython.

The listener's queue is full, so that Linux leaves a further SYN unanswered, as a host that is gone
or a firewall would.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from test_aio_on_board import script
from test_rest_on_board import Rest, rest

__all__ = ["rest"]  # a fixture

TIMED = """
start = time.ticks_ms()
try:
    session.get("/x")
except mtls.MTLSError as error:
    out.append([type(error).__name__, str(error), time.ticks_diff(time.ticks_ms(), start)])
"""
TIMED_AIO = """
start = time.ticks_ms()
try:
    await s.get("/x")
except mtls.MTLSError as error:
    out.append([type(error).__name__, str(error), time.ticks_diff(time.ticks_ms(), start)])
"""
NOT_ITS_OWN_MS = 120_000  # what ends before that has not waited for another deadline


@pytest.fixture
def full() -> Iterator[int]:
    """The port of a listener whose only place is taken."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.create_connection(listener.getsockname()),
    ):
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    "options",
    [
        {"connect_timeout_ms": 300, "timeout_ms": NOT_ITS_OWN_MS},
        {"timeout_ms": 300},
        {"connect_timeout_ms": NOT_ITS_OWN_MS, "timeout_ms": 300},
    ],
    ids=["its-own", "the-total", "the-total-is-less"],
)
@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_a_peer_that_does_not_take_the_connection_ends_at_the_deadline(
    rest: Rest, full: int, kind: str, options: dict[str, int]
) -> None:
    if kind == "blocking":
        [[error, text, took_ms]] = rest(full, TIMED, **options)
    else:
        [[error, text, took_ms]] = rest(full, script(TIMED_AIO, repr(options)))
    assert error == "Unreachable"
    assert "does not answer" in text
    assert 290 <= took_ms < NOT_ITS_OWN_MS / 2


NO_SOCKETS = """
import socket
import mtls.tls, mtls.timesync
class NoSockets:
    def __getattr__(self, name):
        return getattr(socket, name)
    def socket(self, *_):
        raise OSError(12)  # as lwIP says when all of its places are taken
mtls.tls.socket = NoSockets()
"""
CONNECTS = """
calls = (
    session.connect,
    lambda: session.get("/x"),
    lambda: mtls.timesync.post("http://127.0.0.1:1/tsa", (), b"", 1000),
)
for call in calls:
    try:
        call()
    except mtls.MTLSError as error:
        out.append([type(error).__name__, str(error)])
"""


@pytest.mark.parametrize("kind", ["blocking", "asyncio"])
def test_a_board_without_a_socket_left_says_so(rest: Rest, kind: str) -> None:
    if kind == "blocking":
        outcomes = rest(1, NO_SOCKETS + CONNECTS)
        assert len(outcomes) == 3
    else:
        outcomes = rest(1, NO_SOCKETS + script("await s.get('/x')"))
        assert len(outcomes) == 1
    for error, text in outcomes:
        assert error == "Unreachable"
        assert "no socket is left" in text
