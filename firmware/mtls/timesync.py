# Handfast mTLS for MicroPython: get a time that can be believed, before anything else is sent
# MIT license; Copyright (c) 2026 the Handfast authors
"""DESIGN 4.6: the time-stamp authority (RFC 3161 over plain HTTP, signed, with our nonce) is asked
first; NTP only when it cannot be reached, and only as a hint.
"""

from micropython import const

from .errors import ClockNotSet, ProtocolError, Refused, Unreachable

_QUERY = const("application/timestamp-query")
_REPLY = const("application/timestamp-reply")
_MAX_REPLY_BYTES = const(8192)
_HEADERS = const((("Content-Type", _QUERY), ("Accept", _REPLY), ("Connection", "close")))


def post(url, headers, body, timeout_ms):
    """Return the parser of one plain HTTP POST; raises Unreachable and ProtocolError."""
    from .client import fill, pull, read_all
    from .http import ResponseParser, request_head
    from .tls import Connection, deadline_in, open_wire
    from .url import split_url

    _, host, port, target = split_url(url, ("http",))
    wire = open_wire(host, port, deadline_in(timeout_ms))
    wire.blocking = False
    connection = Connection(wire, wire.raw)
    parser = ResponseParser("POST", _MAX_REPLY_BYTES)
    try:
        connection.extend(timeout_ms)
        authority = "%s:%d" % (host, port)
        connection.send(request_head("POST", authority, target, headers, len(body)) + body)
        while not parser.head():
            fill(connection, parser)
        parser.body = read_all(parser, lambda out: pull(connection, parser, out))
    except OSError as error:
        raise Unreachable("%s:%d does not answer: is it running?" % (host, port), error.errno)
    finally:
        connection.close()
    return parser


def signed_time(url, anchors, floor, drbg, timeout_ms):
    """Return the time (unix seconds) that the authority signed over a fresh nonce."""
    from . import tsp

    nonce = int.from_bytes(drbg.generate(8), "big") >> 1 | 1  # positive, never 0
    imprint = drbg.generate(32)  # the SHA-256 of nothing in particular: the nonce is what counts
    parser = post(url, _HEADERS, tsp.query(nonce, imprint), timeout_ms)
    if parser.status != 200:
        raise Refused(parser.status, None, "the time-stamp authority answers %d" % parser.status)
    if parser.headers.get("content-type", "").split(";")[0].strip() != _REPLY:
        raise ProtocolError("the time-stamp authority answers with another content type")
    return tsp.verify(bytes(parser.body), nonce, imprint, anchors, floor)


def _latest_anchor_end(store):
    """Bound of a hint on a board without a leaf that was given no authority to ask."""
    from .x509 import Certificate

    return max([Certificate(der).not_after for der in store.anchors()])


def _why(error):
    return error.detail if isinstance(error, Refused) else error


def sync(store, clock, not_after=None, timeout_ms=10000):
    """Set the clock; return "tsa" or "ntp". Raises ClockNotSet when no source can be reached.

    `not_after` is the operational leaf's end, the bound of what an NTP answer may claim.
    """
    config = store.config()
    unreachable = None
    if config["tsa_url"]:
        try:
            now = signed_time(
                config["tsa_url"], store.anchors(), clock.floor(), store.drbg(), timeout_ms
            )
            clock.accept_signed(now)
            return "tsa"
        except (Unreachable, Refused) as error:
            if isinstance(error, Refused) and error.status < 500:
                raise  # somebody is there, and says that this is the wrong address
            unreachable = error
    if config["ntp_host"]:
        from . import ntp

        try:
            hint = ntp.query(config["ntp_host"], config["ntp_port"], timeout_ms)
        except (Unreachable, ProtocolError) as error:
            raise ClockNotSet("no time: %s" % error)
        if not_after is None and not config["tsa_url"]:
            not_after = _latest_anchor_end(store)
        if clock.accept_hint(hint, not_after):
            return "ntp"
        raise ClockNotSet("the NTP server's time cannot be right")
    raise ClockNotSet("no time: %s" % (_why(unreachable) or "neither tsa_url nor ntp_host is set"))
