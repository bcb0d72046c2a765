"""One request and its response between HTTP and an ASGI 3 application."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from handfast.gateway.server.http import Request, response_head
from handfast.gateway.server.peer import ConnectionInfo

_NO_BODY = (204, 304)


def http_scope(
    request: Request, peer: ConnectionInfo, tls: SSL.Connection | None
) -> dict[str, Any]:
    """Return the ASGI scope, with the ASGI TLS extension and our own.

    ``extensions["handfast"]`` is ``{"listener": name, "peer": ConnectionInfo}``.
    """
    extensions: dict[str, Any] = {"handfast": {"listener": peer.listener, "peer": peer}}
    if tls is not None:
        extensions["tls"] = _tls_extension(peer, tls)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": request.version,
        "method": request.method,
        "scheme": "http" if tls is None else "https",
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query,
        "root_path": "",
        "headers": request.headers,
        "client": (peer.address, 0),
        "server": None,
        "extensions": extensions,
    }


def _tls_extension(peer: ConnectionInfo, tls: SSL.Connection) -> dict[str, Any]:
    leaf = peer.client_certificate
    return {
        "server_cert": None,  # allowed to be unknown; pyOpenSSL does not tell which leaf was used
        "client_cert_chain": [] if leaf is None else [leaf.public_bytes(Encoding.PEM).decode()],
        "client_cert_name": None if leaf is None else leaf.subject.rfc4514_string(),
        "client_cert_error": None,
        "tls_version": tls.get_protocol_version(),
        "cipher_suite": None,
    }


class Exchange:
    """The application's view of one request; remembers how far the response got.

    Args:
        send_bytes: puts bytes on the wire.
        closing: whether the server wants the connection closed after this response.
    """

    def __init__(
        self,
        request: Request,
        peer: ConnectionInfo,
        tls: SSL.Connection | None,
        send_bytes: Callable[[bytes], Awaitable[None]],
        closing: Callable[[], bool],
    ) -> None:
        self.scope = http_scope(request, peer, tls)
        self.keep_alive = request.keep_alive
        self.started = False
        self.whole = False
        self._request = request
        self._send_bytes = send_bytes
        self._closing = closing
        self._received = False
        self._head: dict[str, Any] | None = None
        self._chunked = False

    async def receive(self) -> dict[str, Any]:
        """Give the whole body at once; the next thing that can happen is the peer's end."""
        if not self._received:
            self._received = True
            body = bytes(self._request.body)
            return {"type": "http.request", "body": body, "more_body": False}
        if not self.whole:
            await asyncio.get_running_loop().create_future()  # cancelled with the connection
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a part of the response."""
        if message["type"] == "http.response.start":
            self._head = message
        elif message["type"] == "http.response.body" and not self.whole:
            if self._head is None:
                raise RuntimeError("a response body before its start")
            more = bool(message.get("more_body", False))
            await self._send_part(bytes(message.get("body", b"")), more)
            self.whole = not more

    async def _send_part(self, body: bytes, more: bool) -> None:
        silent = self._request.method == "HEAD" or (self._head or {})["status"] in _NO_BODY
        first = b"" if self.started else self._begin(body, more)
        if silent:
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%s\r\n" % (len(body), body) if body else b"") + (
                b"" if more else b"0\r\n\r\n"
            )
        if first or body:
            await self._send_bytes(first + body)

    def _begin(self, body: bytes, more: bool) -> bytes:
        head = self._head or {}
        headers = [(bytes(name).lower(), bytes(value)) for name, value in head.get("headers", ())]
        names = {name for name, _ in headers}
        if b"content-length" not in names and head["status"] not in _NO_BODY:
            if not more:
                headers.append((b"content-length", b"%d" % len(body)))
            elif self._request.version == "1.1":
                headers.append((b"transfer-encoding", b"chunked"))
                self._chunked = self._request.method != "HEAD"
            else:
                self.keep_alive = False
        self.keep_alive = self.keep_alive and not self._closing()
        self.started = True
        return response_head(head["status"], headers, keep_alive=self.keep_alive)
