"""One connection: handshake, requests one after another, and an end that the peer can read."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import hashes

from handfast.gateway.server.cycle import ClientGone, Cycle
from handfast.gateway.server.deadline import Deadline
from handfast.gateway.server.http import Data, EndOfMessage, Request, RequestParser
from handfast.gateway.server.info import ConnectionInfo
from handfast.gateway.server.outbox import Outbox
from handfast.gateway.server.problem import HttpRefusal
from handfast.gateway.server.refusals import Refusal
from handfast.gateway.server.response import refusal_bytes
from handfast.gateway.server.scope import connection_scope
from handfast.gateway.server.shared import Shared, where
from handfast.gateway.server.transport import (
    READ_SIZE,
    HandshakeRefused,
    Lost,
    Transport,
    WantRead,
    WantWrite,
)
from handfast.gateway.server.watch import Watch

# Above this a body that the application does not take stays in the kernel.
_MOST_WAITING_BODY = 64 * 1024
# Of requests that come before the current one is answered.
_READ_AHEAD = 16 * 1024
_MOST_DISCARDED = 1024 * 1024


class _State(enum.Enum):
    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    FLUSHING = enum.auto()  # the last bytes are leaving
    LINGERING = enum.auto()  # they have left; the peer is to read them before we close
    CLOSED = enum.auto()


class Connection:
    """Owns an accepted socket until it is closed, and calls ``on_closed`` then, once.

    It lives in callbacks of the event loop; each call of the application runs in a task.
    """

    def __init__(
        self,
        transport: Transport,
        info: ConnectionInfo,
        shared: Shared,
        *,
        on_closed: Callable[[Connection], None],
    ) -> None:
        self.info = info
        self._transport = transport
        self._shared = shared
        self._loop = shared.loop
        self._limits = shared.limits
        self._on_closed = on_closed
        self._state = _State.HANDSHAKE
        self._parser = RequestParser(shared.limits)
        self._cycle: Cycle | None = None
        self._task: asyncio.Task[None] | None = None
        self._scope: dict[str, Any] = {}
        self._out = Outbox(
            transport, shared.loop, seconds=shared.limits.write_s, on_overdue=self._write_overdue
        )
        self._watched = Watch(
            shared.loop,
            transport.fileno(),
            on_readable=self._readable,
            on_writable=self._writable,
        )
        self._input_ended = False
        self._requests = 0
        self._discarded = 0
        self._read_wants_write = False  # TLS may have to write before it can read
        self._read_deadline = Deadline(shared.loop)

    # What others do with a connection

    def start(self) -> None:
        """Begin the handshake."""
        self._read_deadline.set(self._limits.handshake_s, self._handshake_overdue)
        self._guarded(self._handshake)

    def finish(self) -> None:
        """Close as soon as the request in flight, if any, is answered."""
        if self._state is _State.HANDSHAKE or (self._state is _State.OPEN and not self._task):
            self.close()

    def close(self) -> None:
        """Close now. What was answered is on its way; what was not will not be."""
        if self._state is _State.CLOSED:
            return
        if self._state is _State.OPEN and not self._out:
            self._transport.end()
        self._drop()

    def abort(self) -> None:
        """Close now, drop what is on its way and cancel the application's work."""
        if self._task is not None:
            self._task.cancel()
        self._drop(reset=True)

    # The event loop's callbacks

    def _readable(self) -> None:
        if self._state is _State.HANDSHAKE:
            self._guarded(self._handshake)
        elif self._state is _State.LINGERING:
            self._guarded(self._discard)
        else:
            if self._out.wants_read:
                self._out.wants_read = False
                self._guarded(self._flush)
            if self._state is _State.OPEN and self._may_read():
                self._guarded(self._read)

    def _writable(self) -> None:
        if self._state is _State.HANDSHAKE:
            self._guarded(self._handshake)
            return
        if self._read_wants_write:
            self._read_wants_write = False
            self._guarded(self._read)
        self._guarded(self._flush)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step; whatever goes wrong ends this connection and no other."""
        try:
            step()
        except Lost:
            self._drop()
        except Exception as error:
            self._shared.log.error(
                "connection_failed",
                **self._named(),
                error=type(error).__name__,
                where=where(error),
            )
            self.abort()
        else:
            self._watch()

    # Handshake

    def _handshake(self) -> None:
        try:
            self._transport.handshake()
        except WantRead:
            self._watched.set(read=True, write=False)
        except WantWrite:
            self._watched.set(read=False, write=True)
        except HandshakeRefused as refused:
            self._log_refusal(refused.refusal)
            if refused.refusal.reason == "peer-closed":
                self._drop()
            else:
                self._linger()
        else:
            self._open()

    def _open(self) -> None:
        self._state = _State.OPEN
        certificate = self._transport.peer_certificate()
        if certificate is not None:
            self.info.client_certificate = certificate
            self.info.client_certificate_sha256 = certificate.fingerprint(hashes.SHA256())
        self.info.resumed = self._transport.resumed()
        self._scope = connection_scope(self._shared.scope, self._transport, self.info)
        # A device may hold its connection ready; a stranger must have come to say something.
        known = certificate is not None
        first = self._limits.keep_alive_s if known else self._limits.header_s
        self._read_deadline.set(first, self.close)
        self._read()

    def _handshake_overdue(self) -> None:
        self._log_refusal(Refusal("handshake-timeout"))
        self._drop()

    def _log_refusal(self, refusal: Refusal) -> None:
        self._shared.log.info("tls_refused", **self._named(), **refusal.fields())

    # Reading

    def _may_read(self) -> bool:
        if self._input_ended:
            return False
        if self._cycle is not None and self._cycle.waiting_body_bytes >= _MOST_WAITING_BODY:
            return False
        return self._cycle is None or self._parser.buffered < _READ_AHEAD

    def _read(self) -> None:
        while self._state is _State.OPEN and self._may_read():
            try:
                data = self._transport.receive()
            except WantRead:
                return
            except WantWrite:
                self._read_wants_write = True
                return
            if not data:
                self._end_of_input()
                return
            if self._parser.between_messages and self._cycle is None:
                self._read_deadline.set(self._limits.header_s, self._head_overdue)
            self._parser.feed(data)
            self._advance()
            # One read an event is fair to the others, but epoll cannot see inside OpenSSL.
            if not self._transport.pending():
                return

    def _end_of_input(self) -> None:
        self._input_ended = True
        if self._cycle is None:
            self.close()
        elif self._parser.message_ended:
            # Half-closed: a client may say all it has to say and then only listen.
            self._cycle.end_input()
        else:
            self._drop()

    def _advance(self) -> None:
        """Take events from the parser until it needs bytes or the application has to answer."""
        try:
            while self._state is _State.OPEN and (event := self._parser.next_event()) is not None:
                if isinstance(event, Request):
                    self._begin(event)
                elif self._cycle is not None and isinstance(event, Data):
                    self._cycle.feed(event.data)
                elif self._cycle is not None and isinstance(event, EndOfMessage):
                    self._end_request(self._cycle)
        except HttpRefusal as refusal:
            self._refuse(refusal)

    # One request

    def _begin(self, request: Request) -> None:
        self._requests += 1
        if request.has_body:
            self._read_deadline.set(self._limits.body_s, self._body_overdue)
        else:
            self._read_deadline.clear()
        self._cycle = Cycle(request, self)
        task = self._loop.create_task(self._answer(self._cycle))
        self._task = task
        self._shared.tasks.add(task)
        task.add_done_callback(self._shared.tasks.discard)

    def _end_request(self, cycle: Cycle) -> None:
        self._read_deadline.clear()
        cycle.end_body()
        if self._task is None:  # the answer came before the body's end
            self._answered(cycle)

    async def _answer(self, cycle: Cycle) -> None:
        request = cycle.request
        scope = {
            **self._scope,
            "http_version": request.http_version,
            "method": request.method,
            "path": request.path,
            "raw_path": request.raw_path,
            "query_string": request.query,
            "headers": request.headers,
            "extensions": dict(self._scope["extensions"]),
        }
        try:
            await self._shared.app(scope, cycle.receive, cycle.send)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            # Whoever cancelled it, nobody will answer any more.
            self._task = None
            self._drop(reset=True)
            raise
        except Exception as error:
            self._shared.log.error(
                "application_failed",
                **self._named(),
                error=type(error).__name__,
                where=where(error),
            )
        self._task = None
        self._guarded(lambda: self._answered(cycle))

    def _answered(self, cycle: Cycle) -> None:
        if self._state is not _State.OPEN:
            return
        response = cycle.response
        if not response.started:
            refusal = HttpRefusal("internal")
            self._log_answer(refusal, cycle.request)
            self.write(refusal_bytes(refusal, method=cycle.request.method))
            self._end()
        elif not response.complete or response.truncated:
            # Only a reset tells a client that the rest of a length or of the chunks is missing.
            self._drop(reset=True)
        elif not response.keep_alive or self._shared.stopping or self._input_ended:
            self._end()
        elif self._parser.message_ended:
            self._next_request()

    def _next_request(self) -> None:
        self._cycle = None
        self._parser.next_message()
        if self._parser.between_messages:
            self._read_deadline.set(self._limits.keep_alive_s, self.close)
        else:
            self._read_deadline.set(self._limits.header_s, self._head_overdue)
            self._advance()
        if self._state is _State.OPEN and self._transport.pending():
            self._loop.call_soon(self._readable)

    def _head_overdue(self) -> None:
        self._guarded(lambda: self._refuse(HttpRefusal("request-timeout")))

    def _body_overdue(self) -> None:
        self._guarded(lambda: self._refuse(HttpRefusal("request-timeout")))

    def _refuse(self, refusal: HttpRefusal) -> None:
        """Answer for the application, if it is not too late to."""
        cycle = self._cycle
        if cycle is not None and cycle.response.started:
            self._drop(reset=not cycle.response.complete)
            return
        self._log_answer(refusal, cycle.request if cycle else None)
        self.write(refusal_bytes(refusal, method=cycle.request.method if cycle else "GET"))
        self._end()

    # Writing; these four are the cycle's channel

    def write(self, data: bytes) -> None:
        """See :class:`Channel`."""
        if self._state is not _State.OPEN:
            return
        self._out.add(data)
        self._guarded(self._flush)

    async def drained(self) -> None:
        """See :class:`Channel`."""
        await self._out.drained()
        if self._state is _State.CLOSED:
            raise ClientGone("the client is gone")

    def body_wanted(self) -> None:
        """See :class:`Channel`."""
        # Not from here: the application is in the middle of a call.
        self._loop.call_soon(self._readable)

    def may_keep_alive(self) -> bool:
        """See :class:`Channel`."""
        most = self._limits.max_requests_per_connection
        return (
            not self._shared.stopping
            and not self._input_ended
            and (most is None or self._requests < most)
        )

    def _flush(self) -> None:
        if self._out.flush() and self._state is _State.FLUSHING:
            self._linger()

    def _write_overdue(self) -> None:
        self._shared.log.info("write_timeout", **self._named(), unsent_bytes=len(self._out))
        self._drop(reset=True)

    # The end

    def _end(self) -> None:
        """Let what was written leave, then close."""
        if self._state is not _State.OPEN:
            return
        self._state = _State.FLUSHING
        self._read_deadline.clear()
        if self._cycle is not None:
            self._cycle.disconnect()
        self._flush()

    def _linger(self) -> None:
        """Say the last word and wait, not long, until the peer has closed too.

        A close with bytes unread makes the kernel send a reset, and a reset makes the peer's
        kernel throw away what it has not read yet: the very alert or answer that says why.
        """
        self._state = _State.LINGERING
        self._transport.end()
        if self._input_ended:
            self._drop()
            return
        self._read_deadline.set(self._limits.linger_s, self._drop)
        self._discard()

    def _discard(self) -> None:
        self._discarded += READ_SIZE
        if not self._transport.discard() or self._discarded > _MOST_DISCARDED:
            self._drop()

    def _drop(self, *, reset: bool = False) -> None:
        if self._state is _State.CLOSED:
            return
        self._state = _State.CLOSED
        self._watched.set(read=False, write=False)
        self._read_deadline.cancel()
        self._out.close()
        if self._cycle is not None:
            self._cycle.disconnect()
            self._cycle = None
        self._transport.close(reset=reset)
        self._on_closed(self)

    # What the event loop watches

    def _watch(self) -> None:
        if self._state is _State.OPEN or self._state is _State.FLUSHING:
            reads = self._state is _State.OPEN and self._may_read() and not self._read_wants_write
            writes = bool(self._out) and not self._out.wants_read
            self._watched.set(
                read=reads or self._out.wants_read, write=writes or self._read_wants_write
            )
        elif self._state is _State.LINGERING:
            self._watched.set(read=True, write=False)

    # Logging

    def _named(self) -> dict[str, Any]:
        return {"listener": self.info.listener, "peer": self.info.address}

    def _log_answer(self, refusal: HttpRefusal, request: Request | None) -> None:
        fields = {"method": request.method, "path": request.path} if request is not None else {}
        self._shared.log.info(
            "request", **self._named(), status=refusal.status, slug=refusal.slug, **fields
        )
