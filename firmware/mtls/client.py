# Handfast mTLS for MicroPython: a REST client on one kept-open connection
# MIT license; Copyright (c) 2026 the Handfast authors

import time

from micropython import const

from .call import Call
from .errors import OutOfMemory, ProtocolError, Refused, Unreachable, Untrusted
from .http import MAX_BODY_BYTES, ResponseParser
from .tls import CURRENT, choose_identity, connect_tls, deadline_in, left_ms, require_ready
from .url import split_url

_ECONNRESET = const(104)
_ETIMEDOUT = const(110)
_MAX_REDIRECTS = const(5)
_GROWTH_BYTES = const(256)  # of a body whose length nobody said


class Response:
    """`status_code`, `reason`, `headers` (names in any case); the body at once or in pieces."""

    _content = None  # what is in memory of the body, once its end was seen
    _at = 0  # how much of that was read in pieces

    def __init__(self, session, parser):
        self.status_code = parser.status
        self.reason = parser.reason
        self.headers = parser.headers
        self._session = session  # None once the body is at its end, or given up

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Give up the rest of the body, and with it the connection."""
        if self._session is not None:
            self._session.close()

    def __bool__(self):
        return self.status_code < 400

    ok = property(__bool__)

    @property
    def content(self):
        """The body; ProtocolError when it is longer than the session's limit."""
        self.load()
        return self._content

    def load(self):
        """Read what is left of the body into memory; the connection is free for the next call."""
        if self._content is None:
            self._content = self._source().read_whole()

    @property
    def text(self):
        content = self.content
        try:
            return content.decode()
        except ValueError:
            raise ProtocolError("the response's body is not UTF-8")

    def json(self):
        import json

        text = self.text
        try:
            return json.loads(text)
        except (ValueError, RuntimeError):  # not JSON, or nested too deep
            raise ProtocolError("the response's body is not JSON")

    def readinto(self, buf):
        """Return how many bytes of the body came into `buf`, 0 at its end.

        Raises Unreachable when the session gave the body up before.
        """
        if self._content is not None:
            return self._from_memory(buf)
        return self._source().read_into(buf)

    def _source(self):
        """Return who reads the rest of the body: less than all of it must not look like all."""
        if self._session is None:
            raise Unreachable("the body was given up before its end")
        return self._session

    def _from_memory(self, buf):
        n = min(len(buf), len(self._content) - self._at)
        buf[:n] = memoryview(self._content)[self._at : self._at + n]
        self._at += n
        return n

    def iter_content(self, chunk_size=512):
        """Yield the body in pieces of at most `chunk_size` bytes."""
        if chunk_size < 1:  # an empty piece would be the end
            raise ValueError("chunk_size must be 1 or more")
        buf = bytearray(chunk_size)
        view = memoryview(buf)
        while True:
            n = self.readinto(buf)
            if not n:
                return
            yield bytes(view[:n])

    def refusal(self):
        """Return the Refused that the response stands for, None when it is a success."""
        if self.ok:
            return None
        from .problem import refusal

        return refusal(self)

    def raise_for_status(self):
        if not self.ok:
            raise self.refusal()


def filled(parser, n):
    """Say that n bytes came into the parser's buffer; an end before the first is a failure."""
    if not n and not parser.started:
        raise OSError(_ECONNRESET)
    parser.filled(n)


def fill(connection, parser):
    filled(parser, connection.receive_into(parser.buf))


def pull(connection, parser, out):
    """Return how many bytes of the body came into `out`, 0 at its end."""
    while True:
        n = parser.pull(out)
        if n is not None:
            return n
        fill(connection, parser)


def read_all(parser, read_into):
    """Return the body as bytes, read with `read_into`; `parser` bounds it."""
    body = blank(parser)
    at = read_into(body)
    while not parser.done:
        at += read_into(rest(body, at))
    return bytes(body if at == len(body) else memoryview(body)[:at])


def blank(parser):
    """Return what the rest of a body is read into: of its length, if somebody said that."""
    return bytearray(parser.left if parser.left > 0 else _GROWTH_BYTES)


def rest(body, at):
    """Return the part of it from `at` on, with room for more."""
    if at == len(body):
        body.extend(bytes(_GROWTH_BYTES))
    return memoryview(body)[at:]


def _verb(method, *names):
    """`names` are the options that may be given by position, as in requests."""

    def call(self, path, *given, **options):
        if len(given) > len(names):
            raise TypeError("too many arguments by position")
        for n in range(len(given)):
            options[names[n]] = given[n]
        return self.request(method, path, **options)

    return call


class SessionBase:
    """What a session is without its IO: see Session."""

    get = _verb("GET", "params")
    head = _verb("HEAD")
    post = _verb("POST", "data", "json")
    put = _verb("PUT", "data")
    patch = _verb("PATCH", "data")
    delete = _verb("DELETE")

    def __init__(
        self,
        base_url,
        store,
        identity=CURRENT,
        timeout_ms=10000,
        clock=None,
        watch=None,
        connect_timeout_ms=None,
        handshake_timeout_ms=None,
        read_timeout_ms=None,
        retries=0,
        max_body_bytes=MAX_BODY_BYTES,
        pins=None,
    ):
        _, self.host, self.port, prefix = split_url(base_url, ("https",), "base_url")
        self.prefix = prefix.rstrip("/")
        self.authority = (("[%s]" if ":" in self.host else "%s") % self.host) + (
            "" if self.port == 443 else ":%d" % self.port
        )
        self.store = store
        self.timeout_ms = timeout_ms
        self.connect_timeout_ms = connect_timeout_ms
        self.handshake_timeout_ms = handshake_timeout_ms
        self.read_timeout_ms = read_timeout_ms
        self.retries = retries
        self.max_body_bytes = max_body_bytes
        self.pins = pins
        self.headers = {}
        self.connections = 0
        self.handshake_ms = None
        self._identity = identity
        self._clock = clock
        self._watch = watch
        self._parser = None  # made for the first request: a session that only connects has none
        self._connection = None
        self._response = None  # whose body is not read to its end
        self._deadline = 0

    def close(self):
        self._detach()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _detach(self):
        if self._response is not None:
            self._response._session = self._response = None

    # What a Call asks for

    def now(self):
        from .utc import now

        return now()

    def octets(self):
        return self.store.drbg().generate(2)

    # One request

    def _call(
        self,
        method,
        path,
        params=None,
        headers=None,
        json=None,
        data=None,
        stream=False,
        allow_redirects=True,
        idempotent=None,
        max_body_bytes=None,
    ):
        """Return the Call that a request is: all that `request` can be told."""
        headers = headers or ()
        target = self.prefix + path
        if not path.startswith("/"):
            from .redirect import resolve

            target = resolve(path, self.authority, self.prefix + "/")
        plain = data is None or isinstance(data, (bytes, bytearray))
        if params or json is not None or not plain or self.headers:
            from .outgoing import dress

            target, headers, data = dress(target, params, self.headers, headers, json, data)
        redirects = _MAX_REDIRECTS if allow_redirects else None
        call = Call(method.upper(), target, headers, data, idempotent, self.retries, redirects)
        if stream:
            call.stream = True
        elif max_body_bytes is None:
            max_body_bytes = self.max_body_bytes
        call.max_body_bytes = max_body_bytes
        return call

    def _start(self, timeout_ms, timeout=None):
        if self._parser is None:
            self._parser = ResponseParser()
        if timeout is not None:
            timeout_ms = int(timeout * 1000)
        self._deadline = deadline_in(self.timeout_ms if timeout_ms is None else timeout_ms)
        if self._response is not None or (self._connection and self._connection.stale()):
            self.close()

    def _opened(self, began):
        self.connections += 1
        self.handshake_ms = time.ticks_diff(time.ticks_ms(), began)

    def _limit(self):
        """Give the connection until the read or the total deadline, whichever comes first."""
        left = left_ms(self._deadline)
        if self.read_timeout_ms is not None:
            left = min(left, self.read_timeout_ms)
        self._connection.extend(left)

    def _after_response(self, call, response):
        """Return ms to wait before the next try, None if the response is the answer."""
        wait_ms = call.after_response(response.status_code, response.headers, self)
        return wait_ms if not wait_ms or wait_ms < left_ms(self._deadline) else None

    def _after_failure(self, call, reused, error):
        """Return ms to wait before it is sent again; raise the error if it is not.

        A connection that was open before and that the peer has ended since, without a word of an
        answer, is stale. One on which nothing comes in time is not: the peer may be at work on it.
        """
        stale = reused and not self._parser.started and error.args[-1:] != (_ETIMEDOUT,)
        wait_ms = call.after_failure(stale, self)
        if wait_ms is None or wait_ms >= left_ms(self._deadline):
            raise error
        return wait_ms

    def _failed(self, error, own=False):
        """Close, and return the library's error for what happened: nothing is left half done.

        `own`: it comes from the application, or was the connection's and has been said.
        """
        self.close()
        if isinstance(error, OSError) and not own:
            why = "does not answer in time" if error.errno == _ETIMEDOUT else "hung up"
            return Unreachable("%s:%d %s" % (self.host, self.port, why), error.errno)
        if isinstance(error, MemoryError):
            return OutOfMemory("not enough heap for a request: free some")
        return error

    def _begun(self, response, whole):
        """Return the response, whose head is there; `whole`: all of the request had gone out."""
        parser = self._parser
        parser.keep_alive = parser.keep_alive and whole
        self._response = response
        return self._came(response)

    def _came(self, what):
        """Return `what` came; if the response is whole now, keep the connection or do not."""
        if self._parser.done:
            self._response._content = b""  # unless load puts there what it read
            self._detach()
            if not self._parser.keep_alive:
                self.close()
        return what

    def _pins(self):
        if not self.pins or hasattr(self.pins, "verify"):
            return self.pins or None
        from .pin import Pins

        return Pins(self.pins)

    def _tell(self, error):
        if self._watch is not None:
            self._watch(error)

    def _answered(self, response):
        if not 300 <= response.status_code < 400:  # a redirect is neither yes nor no
            self._tell(response.refusal())
        return response


class Session(SessionBase):
    """Requests below `base_url`, verified by the store's anchors, one connection at a time.

    `identity` is CURRENT (the store's current slot at each connect, so that a renewed certificate
    is used from the next connection on), an Identity, a function that returns one, or None for no
    client certificate. `watch`, if given, is called with None after each success (2xx), and with
    the Refused or Untrusted that came instead. Without a `clock` the board's own is taken, unless
    it stands before the floor. `connections` counts those that were opened; `handshake_ms` is what
    the newest took, TCP and TLS, None before the first.

    `timeout_ms` bounds a request as a whole, with its retries, redirects and body; the others bound
    a step of it (the connection, the handshake, the head or one piece of the body). `pins`, if
    given, are SHA-256s of public keys, one of which must be in the verified path.
    """

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def connect(self):
        """Open the connection if it is not; raises as tls.connect_tls does."""
        if self._connection is None:
            self._deadline = deadline_in(self.timeout_ms)
            self._open()

    def _open(self):
        identity = choose_identity(self.store, self._identity)
        require_ready(self.store, self._clock)
        began = time.ticks_ms()
        try:
            self._connection = connect_tls(
                self.host,
                self.port,
                left_ms(self._deadline),
                self.store.anchors(),
                identity,
                self.connect_timeout_ms,
                self.handshake_timeout_ms,
                self._pins(),
            )
        except (Refused, Untrusted) as error:
            self._tell(error)
            raise
        self._opened(began)

    def request(self, method, path, timeout_ms=None, timeout=None, **options):
        """Return the Response, whatever its status.

        Options: `params`, `headers`, `json`, `data` (bytes, text, a form, a file, an iterator),
        `timeout_ms` or `timeout` in seconds, `allow_redirects`, `idempotent` (True lets a POST be
        sent again), and `stream`, which leaves the body on the connection, of any size unless
        `max_body_bytes` is given, for readinto and iter_content; the next request gives up what
        was not read.
        Raises Unreachable, Untrusted, Refused (at the handshake), ProtocolError, OutOfMemory.
        """
        try:
            self._start(timeout_ms, timeout)
            call = self._call(method, path, **options)
            while True:
                response = self._try(call)
                if response is not None:
                    return self._answered(response)
        except BaseException as error:
            raise self._failed(error, True)

    def _try(self, call):
        """Return the Response, or None when it is worth another try."""
        reused = self._connection is not None
        try:
            response = self._attempt(call)
        except Unreachable as error:
            wait = self._after_failure(call, reused, error)
        else:
            wait = self._after_response(call, response)
            if not call.stream or wait is not None or not response.ok:
                response.load()
            if wait is None:
                return response
        time.sleep_ms(wait)
        return None

    def _attempt(self, call):
        """Send the call once; return the Response, its body unread."""
        parser = self._parser
        call.sent = False
        try:
            if self._connection is None:
                self._open()
            parser.begin(call.method, call.max_body_bytes)
            self._connection.extend(left_ms(self._deadline))
            whole = self._send(call)
            self._limit()
            while not parser.head():
                fill(self._connection, parser)
            return self._begun(Response(self, parser), whole)
        except OSError as error:
            raise self._failed(error, call.asking)

    def _send(self, call):
        """Return whether all of it went out: a peer may say no to a body before its end."""
        call.sent = True
        try:
            for piece in call.pieces(self.authority):
                call.asking = False
                self._connection.send(piece)
                call.asking = True
            call.asking = False
        except OSError as error:
            if call.asking or error.errno == _ETIMEDOUT or call.body is None:
                raise
            return False
        return True

    def read_into(self, out):
        """Return how many bytes of the open response's body came into `out`, 0 at its end."""
        try:
            self._limit()
            n = pull(self._connection, self._parser, out)
        except BaseException as error:
            raise self._failed(error)
        return self._came(n)

    def read_whole(self):
        """Return the rest of the open response's body."""
        response = self._response
        try:
            self._parser.bound(self.max_body_bytes)
            return read_all(self._parser, self.read_into)
        except BaseException as error:
            response._content = None  # its end was seen, and less than all is left of it
            raise self._failed(error)
