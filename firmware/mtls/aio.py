# Handfast mTLS for MicroPython: the REST client for asyncio
# MIT license; Copyright (c) 2026 the Handfast authors
"""As mtls.Session, with `await`: other tasks run while a request waits, its handshake included.

Not while mbedTLS computes, and not while a name is looked up: getaddrinfo blocks on every port.
"""

import asyncio
import gc
import select
import time
from asyncio import core

from micropython import const

from . import client, tls
from .errors import Refused, Unreachable, Untrusted
from .heap import make_room

_ECONNRESET = const(104)
_ETIMEDOUT = const(110)


def _readiness(raw, event):
    # asyncio has no public way to wait for a socket that something else reads.
    if event == select.POLLOUT:
        yield core._io_queue.queue_write(raw)
    else:
        yield core._io_queue.queue_read(raw)


async def _ready(wire, event):
    """Wait until the wire is; raise OSError(ETIMEDOUT) at its deadline."""
    try:
        await asyncio.wait_for_ms(_readiness(wire.raw, event), tls.left_ms(wire.deadline))
    except asyncio.TimeoutError:
        raise OSError(_ETIMEDOUT)


class _Connection(tls.Connection):
    """The first send after `wrap` does the handshake."""

    def _left_ms(self):
        if self._wire is None:  # another task has closed it meanwhile
            raise OSError(_ECONNRESET)
        return tls.left_ms(self._wire.deadline)

    def wrap(self, context, host):
        self._stream = context.wrap_socket(
            self._wire, server_hostname=host, do_handshake_on_connect=False
        )

    async def send(self, data):
        while self._left_ms():
            try:
                n = self._stream.write(data) or 0
            except OSError as error:
                raise tls.from_wire(error)
            if n == len(data):
                return
            if not n:
                await _ready(self._wire, self._wire.wants)
            data = memoryview(data)[n:]
        raise OSError(_ETIMEDOUT)

    async def receive_into(self, buf):
        await asyncio.sleep_ms(0)  # other tasks run, even where the peer never makes us wait
        while self._left_ms():
            try:
                n = self._stream.readinto(buf)
            except OSError as error:
                raise tls.from_wire(error)
            if n is not None:
                return n
            await _ready(self._wire, self._wire.wants)
        raise OSError(_ETIMEDOUT)


class _Pieces:
    """MicroPython has no asynchronous generators."""

    def __init__(self, response, chunk_size):
        self._response = response
        if chunk_size < 1:
            raise ValueError("chunk_size must be 1 or more")
        self._buf = bytearray(chunk_size)

    def __aiter__(self):
        return self

    async def __anext__(self):
        n = await self._response.readinto(self._buf)
        if not n:
            raise StopAsyncIteration
        return bytes(memoryview(self._buf)[:n])


class Response(client.Response):
    """`content`, `text` and `json()` need no await, unless the request was made with `stream`:
    then `await load()` comes first."""

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.close()

    @property
    def content(self):
        if self._content is None:
            raise ValueError("the body is not here yet: await load() first")
        return self._content

    async def load(self):
        if self._content is None:
            self._content = await self._source().read_whole()

    async def readinto(self, buf):
        if self._content is not None:
            return self._from_memory(buf)
        return await self._source().read_into(buf)

    def iter_content(self, chunk_size=512):
        """For `async for`: pieces of at most `chunk_size` bytes."""
        return _Pieces(self, chunk_size)


class Session(client.SessionBase):
    """As mtls.Session; requests of several tasks go out one after the other."""

    def __init__(self, base_url, store, **options):
        super().__init__(base_url, store, **options)
        self._lock = asyncio.Lock()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.close()

    async def request(self, method, path, timeout_ms=None, timeout=None, **options):
        """Return the Response, whatever its status; options and errors are mtls.Session's."""
        if timeout is not None:
            timeout_ms = int(timeout * 1000)
        deadline = tls.deadline_in(self.timeout_ms if timeout_ms is None else timeout_ms)
        await self._take(tls.left_ms(deadline))
        try:
            self._start(tls.left_ms(deadline))
            call = self._call(method, path, **options)
            while True:
                response = await self._try(call)
                if response is not None:
                    return self._answered(response)
        except BaseException as error:  # a cancelled task's too: half a request is on the wire
            raise self._failed(error, True)
        finally:
            self._lock.release()

    async def _take(self, timeout_ms):
        """Wait for the lock, within what a request has in all."""
        taken = []

        async def take():
            await self._lock.acquire()
            taken.append(True)

        try:
            await asyncio.wait_for_ms(take(), timeout_ms)
        except BaseException as error:
            if taken:  # and the time was up, or we were cancelled, before we were told
                self._lock.release()
            if isinstance(error, asyncio.TimeoutError):
                error = Unreachable("other requests took all of this one's time", _ETIMEDOUT)
            raise error

    async def _try(self, call):
        reused = self._connection is not None
        try:
            response = await self._attempt(call)
        except Unreachable as error:
            wait = self._after_failure(call, reused, error)
        else:
            wait = self._after_response(call, response)
            if not call.stream or wait is not None or not response.ok:
                await response.load()
            if wait is None:
                return response
        await asyncio.sleep_ms(wait)
        return None

    async def _attempt(self, call):
        parser = self._parser
        call.sent = False
        try:
            pieces = iter(call.pieces(self.authority))
            if self._connection is None:
                await self._open(next(pieces))
            parser.begin(call.method, call.max_body_bytes)
            self._connection.extend(tls.left_ms(self._deadline))
            whole = await self._send(call, pieces)
            self._limit()
            while not parser.head():
                await self._fill()
            return self._begun(Response(self, parser), whole)
        except (OSError, Unreachable) as error:
            raise self._failed(error, call.asking)

    async def _open(self, first):
        """Connect, shake hands and send the first bytes of a request, as tls.connect_tls."""
        identity = tls.choose_identity(self.store, self._identity)
        tls.require_ready(self.store, self._clock)
        began = time.ticks_ms()
        make_room()
        free = gc.mem_free()
        host, port = self.host, self.port
        left = tls.left_ms(self._deadline)
        wire = tls.dial(host, port, tls.step_deadline(left, self.connect_timeout_ms))
        wire.blocking = False
        # The session's from here on: a task that is cancelled meanwhile closes it.
        connection = self._connection = _Connection(wire, wire.raw)
        try:
            await _ready(wire, select.POLLOUT)
        except OSError:
            pass  # settle says so
        tls.settle(wire, host, port, wire.look(select.POLLOUT, 0))
        left = tls.left_ms(self._deadline)
        wire.deadline = tls.step_deadline(left, self.handshake_timeout_ms)
        pins = self._pins()
        context = None
        if tls.awake:
            tls.awake(True)
        try:
            context = tls.client_context(self.store.anchors(), identity, pins)
            tls.hold_holes(wire, context, free)
            connection.wrap(context, host)
            await connection.send(first)
        except Exception as error:
            heard = wire.heard
            wire.holes = None
            self.close()
            from .failure import handshake_error

            mapped = handshake_error(error, host, port, heard, pins, context, free)
            if isinstance(mapped, (Refused, Untrusted)):
                self._tell(mapped)
            raise mapped
        finally:
            if tls.awake:
                tls.awake(False)
        wire.holes = None
        self._opened(began)

    async def _send(self, call, pieces):
        call.sent = call.asking = True
        try:
            for piece in pieces:
                call.asking = False
                await self._connection.send(piece)
                await asyncio.sleep_ms(0)
                call.asking = True
            call.asking = False
        except OSError as error:
            if call.asking or error.errno == _ETIMEDOUT or call.body is None:
                raise
            return False
        return True

    async def _fill(self):
        client.filled(self._parser, await self._connection.receive_into(self._parser.buf))

    async def read_into(self, out):
        """Return how many bytes of the open response's body came into `out`, 0 at its end."""
        response = self._response
        try:
            self._limit()
            while (n := self._parser.pull(out)) is None:
                await self._fill()
        except BaseException as error:
            raise self._lost(response, error)
        return self._came(n)

    def _lost(self, response, error):
        """Return the library's error for what happened to a response while it was read."""
        if response._session is None and response._content is None:
            if isinstance(error, OSError):  # given up; what is open now is another request's
                response._source()
            return error
        response._content = None  # if its end was seen: less than all is left of it
        return self._failed(error)

    async def read_whole(self):
        """Return the rest of the open response's body."""
        parser = self._parser
        response = self._response
        try:
            parser.bound(self.max_body_bytes)
            body = client.blank(parser)
            at = 0
            while not parser.done:
                at += await self.read_into(client.rest(body, at))
            return bytes(memoryview(body)[:at])
        except BaseException as error:
            raise self._lost(response, error)


def __getattr__(name):
    if name != "Agent":
        raise AttributeError(name)
    # Where applications look for it; a module above this one, as in __init__.py.
    return __import__("mtls.aio_agent", None, None, (name,)).Agent
