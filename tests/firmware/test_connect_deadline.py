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
