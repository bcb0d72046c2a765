"""The radio's power saving is off during a handshake, and only then: `tls.awake`, on MicroPython.

What net.py has it do is in test_network.py.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from hostile_peer import OK, answer, serving
from test_aio_on_board import script
from test_client_on_board import server_context
from test_pins_and_ssl import pin
from test_rest_on_board import Rest, context, rest

__all__ = ["context", "rest"]  # fixtures

# `verify` is called by mbedTLS, in the middle of a handshake.
RECORD = """
import mtls.tls
from mtls.pin import Pins
mtls.tls.awake = out.append
class Watched(Pins):
    def verify(self, cert, depth):
        out.append("handshake")
        return Pins.verify(self, cert, depth)
pins = Watched([PIN])
"""
GET = {
    "blocking": "session.pins = pins\nsession.get('/x')\nsession.get('/y')\n",
    "asyncio": script("s.pins = pins\nawait s.get('/x')\nawait s.get('/y')"),
}
DURING = [True, "handshake", "handshake", False]


def recorded(rest: Rest, port: int, kind: str, pinned: str = "server") -> list[object]:
    return rest(port, RECORD.replace("PIN", repr(pin(pinned))) + GET[kind])


@pytest.mark.parametrize("kind", GET)
def test_it_is_off_for_the_handshake_and_on_again_for_the_calls(
    rest: Rest, context: ssl.SSLContext, kind: str
) -> None:
    with serving(answer(OK), context=context) as (port, connections):
        assert recorded(rest, port, kind) == DURING
    assert len(connections) == 1


@pytest.mark.parametrize("kind", GET)
def test_it_is_on_again_after_a_handshake_that_failed(
    rest: Rest, context: ssl.SSLContext, kind: str
) -> None:
    with serving(answer(OK), context=context) as (port, _):
        *calls, error = recorded(rest, port, kind, pinned="other")
    assert calls == DURING
    assert isinstance(error, list)
    assert error[0] == "Untrusted"


@pytest.mark.parametrize("kind", GET)
def test_a_connection_that_never_stands_does_not_wake_it(
    rest: Rest, tmp_path: Path, kind: str
) -> None:
    with serving(answer(OK), context=server_context(tmp_path)) as (port, _):
        pass
    [error] = recorded(rest, port, kind)
    assert isinstance(error, list)
    assert error[0] == "Unreachable"
