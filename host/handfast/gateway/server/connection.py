"""One connection from accept to close: handshake, then request after request, then goodbye."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from OpenSSL import SSL

from handfast.gateway.server.asgi import Exchange
from handfast.gateway.server.http import (
    CONTINUE,
    Malformed,
    Request,
    RequestParser,
    problem,
    response_head,
)
from handfast.gateway.server.limits import Limits
from handfast.gateway.server.peer import ConnectionInfo
from handfast.gateway.server.tls import Verification, refusal_reason
from handfast.gateway.server.wire import PlainTransport, TlsTransport, Wire

_READ_BYTES = 16_384
_DRAIN_S = 1.0

Application = Callable[[Any, Any, Any], Awaitable[None]]


class Connection:
    """Serves one peer; :meth:`run` ends when the connection does.

    Args:
        sock: non-blocking, just accepted.
        context: the TLS context of this connection, None for plain HTTP.
        peer: filled in as the peer becomes known.
    """

    def __init__(
        self,
        sock: socket.socket,
        context: SSL.Context | None,
        *,
        peer: ConnectionInfo,
        limits: Limits,
        app: Application,
        log: Any,
    ) -> None:
        self.peer = peer
        self._limits = limits
        self._app = app
        self._log = log
        self._tls = None if context is None else SSL.Connection(context, sock)
        transport = PlainTransport(sock) if self._tls is None else TlsTransport(self._tls)
        self._wire = Wire(sock, transport)
        self._seen = Verification()
        self._parser = RequestParser(limits)
        self._busy = False
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    async def run(self) -> None:
        """Serve until either side ends it; never raises but for cancellation."""
        self._task = asyncio.current_task()
        try:
            if await self._shake_hands():
                await self._serve()
        except OSError:
            pass  # the peer is gone: nobody is left to tell
        except asyncio.CancelledError:
            if not self._stopping:
                raise
        finally:
            self._wire.abort()

    def stop(self) -> None:
        """Close as soon as no request is in flight."""
        self._stopping = True
        if not self._busy:
            self.abort()

    def abort(self) -> None:
        """Close now, whatever is in flight."""
        self._stopping = True
        self._wire.abort()
        if self._task is not None:
            self._task.cancel()

    # The handshake

    async def _shake_hands(self) -> bool:
        if self._tls is None:
            return True
        self._tls.set_app_data(self._seen)
        self._tls.set_accept_state()
        try:
            async with asyncio.timeout(self._limits.handshake_s):
                await self._wire.handshake()
        except TimeoutError:
            self._refused("handshake-timeout")
            return False
        except OSError:
            self._refused("disconnected")
            return False
        except SSL.Error as error:
            self._refused(refusal_reason(error, self._seen))
            await self._wire.finish(_DRAIN_S)  # so that the alert is read before the reset
            return False
        self._identify(self._tls)
        return True

    def _identify(self, tls: SSL.Connection) -> None:
        self.peer.tls_version = tls.get_protocol_version()
        self.peer.cipher = tls.get_cipher_name()
        certificate = tls.get_peer_certificate(as_cryptography=True)
        if certificate is not None:
            self.peer.present(certificate)

    def _refused(self, reason: str) -> None:
        leaf = self._seen.leaf
        shown = {} if leaf is None else {"subject": leaf.subject.rfc4514_string()}
        if leaf is not None:
            self.peer.present(leaf)
            shown["certificate"] = (self.peer.client_certificate_sha256 or b"").hex()
        self._log.info(
            "tls_refused",
            listener=self.peer.listener,
            peer=self.peer.address,
            reason=reason,
            **shown,
        )

    # Requests

    async def _serve(self) -> None:
        try:
            while not self._stopping:
                request = await self._next_request()
                if request is None or not await self._answer(request):
                    break
        except Malformed as error:
            await self._answer_malformed(error)
        except TimeoutError:
            if self._parser.begun:
                await self._answer_malformed(Malformed(408, "timeout", "the request took too long"))
        async with asyncio.timeout(self._limits.write_s):
            await self._wire.finish(_DRAIN_S)

    async def _next_request(self) -> Request | None:
        """Read until a request is whole; None at the peer's end, TimeoutError at a deadline."""
        parser, limits = self._parser, self._limits
        idle_until = self._loop.time() + limits.keep_alive_s
        begun_at = self._loop.time() if parser.begun else None
        body_at: float | None = None
        while not parser.complete:
            now = self._loop.time()
            if parser.begun and begun_at is None:
                begun_at = now
            if parser.in_body and body_at is None:
                body_at = now
            deadline = idle_until
            if body_at is not None:
                deadline = body_at + limits.body_s
            elif begun_at is not None:
                deadline = begun_at + limits.header_s
            if parser.wants_continue:
                parser.wants_continue = False
                await self._send(CONTINUE)
            async with asyncio.timeout_at(deadline):
                data = await self._wire.receive(_READ_BYTES)
            if not data:
                return None
            parser.feed(data)
        return parser.complete.popleft()

    async def _answer(self, request: Request) -> bool:
        """Let the application answer; return whether the connection goes on."""
        self._busy = True
        exchange = Exchange(request, self.peer, self._tls, self._send, lambda: self._stopping)
        try:
            await self._app(exchange.scope, exchange.receive, exchange.send)
        except OSError:
            raise
        except Exception as error:
            self._log.error("application_failed", path=request.path, exc_info=error)
        finally:
            self._busy = False
        if not exchange.started:
            headers, body = problem(500, "internal", "the gateway failed; its log says why")
            await self._respond(500, headers, body)
            return False
        return exchange.whole and exchange.keep_alive

    async def _answer_malformed(self, error: Malformed) -> None:
        self._log.info(
            "request_malformed",
            listener=self.peer.listener,
            peer=self.peer.address,
            status=error.status,
            slug=error.slug,
            detail=error.detail,
        )
        headers, body = problem(error.status, error.slug, error.detail)
        with contextlib.suppress(TimeoutError):
            await self._respond(error.status, headers, body)

    async def _respond(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        await self._send(response_head(status, headers, keep_alive=False) + body)

    async def _send(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(self._limits.write_s):
                await self._wire.send_all(data)
        except TimeoutError:
            raise ConnectionAbortedError("the peer does not read") from None
