# TLS sessions that outlive their connection, on firmware built with `session-resumption`
# MIT license; Copyright (c) 2026 the Handfast authors
"""For the gateway's `api-resume` listener (`handfast gateway serve --resume-port`).

Import it before mtls: it stands where the library looks for the firmware's `tls`, and gives each
context the session that an earlier one with the same server, anchors and certificate had. A resumed
handshake shows no certificate: what was verified is what was verified when the session began, so a
session is kept for an hour at most. On stock firmware each handshake is a full one.
"""

import sys
import time

import tls
from micropython import const

if "mtls.client" in sys.modules:
    raise ImportError("import resumption before mtls")

_MOST_MS = const(3600000)

resumed = False  # whether the newest connection has an earlier one's session
_kept = {}  # server's name -> what it was verified by, when, the tls.SSLSession


def forget():
    """Make the next handshakes full ones."""
    _kept.clear()


def _passed(name):
    def get(self):
        return getattr(self._context, name)

    def put(self, value):
        setattr(self._context, name, value)

    return property(get, put)


class _Context:
    """A tls.SSLContext that takes and keeps sessions."""

    verify_mode = _passed("verify_mode")
    verify_callback = _passed("verify_callback")
    ecdsa_sign_callback = _passed("ecdsa_sign_callback")

    def __init__(self, protocol):
        self._context = tls.SSLContext(protocol)
        self._bound = []

    def __getattr__(self, name):
        return getattr(self._context, name)

    def load_verify_locations(self, anchor):
        self._bound.append(anchor)
        self._context.load_verify_locations(anchor)

    def load_cert_chain(self, cert, key):
        self._bound.append(cert)
        self._context.load_cert_chain(cert, key)

    def wrap_socket(self, wire, **how):
        global resumed
        # Pins are asked at a full handshake only: who has them gets nothing else.
        may = hasattr(tls, "SSLSession") and self._context.verify_callback is None
        name = how.get("server_hostname")
        bound, began, session = _kept.pop(name, (None, 0, None)) if may else (None, 0, None)
        if bound != self._bound or time.ticks_diff(time.ticks_ms(), began) >= _MOST_MS:
            session = None  # and one that fails below is not tried again
        if session is not None:
            how["session"] = session
        stream = self._context.wrap_socket(wire, **how)
        resumed = may and stream.session_reused
        if not resumed:
            began = time.ticks_ms()
        if may and stream.session is not None:
            _kept[name] = (self._bound, began, stream.session)
        return stream


class _Tls:
    SSLContext = _Context

    def __getattr__(self, name):
        return getattr(tls, name)


sys.modules["tls"] = _Tls()


def main(store, url, calls=3):
    """Call `url` over a connection of its own each time; print which were resumed."""
    import mtls

    session = mtls.Session(url, store)
    for _ in range(calls):
        session.get("/v1/ping").raise_for_status()
        session.close()
        print(resumed)
