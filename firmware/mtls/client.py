# Handfast mTLS for MicroPython: a REST client on one kept-open connection
# MIT license; Copyright (c) 2026 the Handfast authors

import gc
import time

from micropython import const

from .config import split_url
from .errors import ClockNotSet, NotEnrolled, OutOfMemory, ProtocolError, Refused
from .errors import Unreachable, Untrusted
from .http import ResponseParser, request_bytes

_ECONNRESET = const(104)
_ETIMEDOUT = const(110)
_MAX_MEMBER_CHARS = const(256)
_IDEMPOTENT = ("GET", "HEAD", "PUT", "DELETE")
CURRENT = "current"
_PROBLEM = "application/problem+json"


class Response:
    """`status_code`, `reason`, `headers` (lower-case names), `content`, `text`, `json()`."""

    def __init__(self, parser):
        self.status_code = parser.status
        self.reason = parser.reason
        self.headers = parser.headers
        self.content = bytes(parser.body)

    @property
    def text(self):
        return self.content.decode()

    def json(self):
        import json

        try:
            return json.loads(self.content.decode())
        except (ValueError, RuntimeError):  # not UTF-8, not JSON, or nested too deep
            raise ProtocolError("the response's body is not JSON")

    def refusal(self):
        """Return the Refused that the response stands for, None when it is a success."""
        if self.status_code < 400:
            return None
        problem = {}
        if self.headers.get("content-type", "").startswith(_PROBLEM):
            try:
                problem = self.json()
            except ProtocolError:
                pass  # the status alone says enough
        if not isinstance(problem, dict):
            problem = {}
        detail = _line(problem.get("detail")) or _line(problem.get("title")) or self.reason
        return Refused(self.status_code, _line(problem.get("type")), detail)

    def raise_for_status(self):
        refusal = self.refusal()
        if refusal is not None:
            raise refusal


def _line(value):
    """Return a problem document's member if it is text of a sensible length, else None."""
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_MEMBER_CHARS else None


def exchange(connection, head, body, parser):
    """Send one request and feed the parser until the response is whole.

    Raises OSError when the connection fails before its end, ProtocolError for a bad response.
    """
    connection.send(head)
    if body:
        connection.send(body)
    buf = bytearray(512)
    view = memoryview(buf)
    while not parser.done:
        n = connection.receive_into(buf)
        if n:
            parser.feed(view[:n])
        elif parser.started:
            parser.eof()
        else:
            raise OSError(_ECONNRESET)


class Session:
    """Requests below `base_url`, verified by the store's anchors, one connection at a time.

    `identity` is CURRENT (the store's current slot at each connect, so that a renewed certificate
    is used from the next connection on), an Identity, a function that returns one, or None for no
    client certificate. `watch`, if given, is called with None after each success (2xx), and with
    the Refused or Untrusted that came instead. Without a `clock` the board's own is taken, unless
    it stands before the floor. `handshake_ms` is what the newest connection took to open, TCP and
    TLS; None before the first.
    """

    def __init__(self, base_url, store, identity=CURRENT, timeout_ms=10000, clock=None, watch=None):
        self.scheme, self.host, self.port, self.prefix = split_url(base_url, ("https",), "base_url")
        self.prefix = self.prefix.rstrip("/")
        self.store = store
        self.timeout_ms = timeout_ms
        self._identity = identity
        self._clock = clock
        self._watch = watch
        self._connection = None
        self.handshake_ms = None
        self._authority = (("[%s]" if ":" in self.host else "%s") % self.host) + (
            "" if self.port == 443 else ":%d" % self.port
        )

    def close(self):
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def get(self, path, **options):
        return self.request("GET", path, **options)

    def post(self, path, **options):
        return self.request("POST", path, **options)

    def put(self, path, **options):
        return self.request("PUT", path, **options)

    def delete(self, path, **options):
        return self.request("DELETE", path, **options)

    def connect(self):
        """Open the connection if it is not; raises as tls.connect_tls does."""
        if self._connection is not None:
            return
        identity = self._choose()
        if not self._has_time():
            raise ClockNotSet("no believable time yet, nothing is sent before: sync it first")
        self.store.drbg()  # a board with stuck entropy opens no TLS session
        from .tls import connect_tls

        began = time.ticks_ms()
        try:
            self._connection = connect_tls(
                self.host, self.port, self.timeout_ms, self.store.anchors(), identity
            )
        except (Refused, Untrusted) as error:
            self._tell(error)
            raise
        self.handshake_ms = time.ticks_diff(time.ticks_ms(), began)

    def _has_time(self):
        if self._clock is not None:
            return self._clock.believable
        from .clock import BUILD_TIME, now

        return now() >= max(BUILD_TIME, self.store.read_floor())

    def _choose(self):
        identity = self._identity
        if identity is None or hasattr(identity, "cert_der"):
            return identity
        if identity == CURRENT:
            slot = self.store.current()
            identity = self.store.identity(slot) if slot else None
        else:
            identity = identity()
        if identity is None or not identity.cert_der:
            raise NotEnrolled("no usable certificate on this board yet: let an Agent enrol it")
        return identity

    def wait_for_close(self, timeout_ms):
        """Send nothing and wait; raise Refused if the peer closes or alerts meanwhile."""
        self._connection.extend(timeout_ms)
        try:
            n = self._connection.receive_into(bytearray(1))
        except OSError as error:
            if error.errno == _ETIMEDOUT:
                return
            n = 0
        raise Refused(0, None, "%s %s" % (self.host, "spoke first" if n else "hung up"))

    def _tell(self, error):
        if self._watch is not None:
            self._watch(error)

    def request(self, method, path, headers=(), json=None, data=None, idempotent=None):
        """Return the Response, whatever its status; `idempotent=True` lets a POST be sent again.

        Raises Unreachable, Untrusted, Refused (at the handshake), ProtocolError, OutOfMemory.
        """
        if idempotent is None:
            idempotent = method in _IDEMPOTENT
        headers = list(headers)
        if json is not None:
            from json import dumps

            data = dumps(json).encode()
            headers.append(("Content-Type", "application/json"))
        head = request_bytes(
            method, self._authority, self.prefix + path, headers, data if data is not None else None
        )
        if self._connection is not None and self._connection.stale():
            self.close()
        reused = self._connection is not None
        try:
            parser = self._attempt(method, head)
        except Unreachable:
            if not (reused and idempotent):
                raise
            parser = self._attempt(method, head)  # the kept-open connection was stale
        response = Response(parser)
        if not 300 <= response.status_code < 400:  # a redirect is neither yes nor no
            self._tell(response.refusal())
        return response

    def _attempt(self, method, head):
        parser = ResponseParser(method)
        try:
            self.connect()
            self._connection.extend(self.timeout_ms)
            exchange(self._connection, head, None, parser)
        except OSError as error:
            self.close()
            why = "does not answer in time" if error.errno == _ETIMEDOUT else "hung up"
            raise Unreachable("%s:%d %s" % (self.host, self.port, why), error.errno)
        except MemoryError:
            self.close()
            raise OutOfMemory("not enough heap for a request: free some")
        except BaseException:
            self.close()
            raise
        if not parser.keep_alive:
            self.close()
        gc.collect()
        return parser
