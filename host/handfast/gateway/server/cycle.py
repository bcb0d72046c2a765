"""One request and its response, as the application sees them (ASGI HTTP 2.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from handfast.gateway.server.http import Request
from handfast.gateway.server.response import CONTINUE, InvalidResponse, ResponseWriter

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

_DISCONNECT = "http.disconnect"


class ClientGone(OSError):
    """The client is no longer there to be answered (ASGI: ``send`` raises an OSError)."""


class Channel(Protocol):
    """What a cycle needs of its connection."""

    def write(self, data: bytes) -> None:
        """Send, or buffer what cannot be sent now."""

    async def drained(self) -> None:
        """Return when the buffer takes more; raises ClientGone."""

    def body_wanted(self) -> None:
        """The application took what had arrived of the body: read on."""

    def may_keep_alive(self) -> bool:
        """Whether, for the connection's part, another request may follow."""


class Cycle:
    """Joins an application's ``receive`` and ``send`` to a connection."""

    def __init__(self, request: Request, channel: Channel) -> None:
        self.request = request
        self.response = ResponseWriter(method=request.method, http_version=request.http_version)
        self._channel = channel
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._body_ended = not request.has_body
        self._body_given = False
        self._continue_due = request.expects_continue
        self._no_more_input = False
        self._lost = False
        self._changed: asyncio.Future[None] | None = None

    @property
    def waiting_body_bytes(self) -> int:
        """How much of the body the application has not taken."""
        return self._body_bytes

    @property
    def lost(self) -> bool:
        """Whether nothing can be answered any more."""
        return self._lost

    def feed(self, data: bytes) -> None:
        """Take a piece of the body."""
        self._continue_due = False
        # A body that nobody will read any more is read off the wire and dropped.
        if not self.response.complete:
            self._body.append(data)
            self._body_bytes += len(data)
            self._wake()

    def end_body(self) -> None:
        """Note that the body is complete."""
        self._body_ended = True
        self._wake()

    def end_input(self) -> None:
        """Note that the client sends no more; it may still be reading."""
        self._no_more_input = True
        self._wake()

    def disconnect(self) -> None:
        """Note that the client is gone."""
        self._lost = True
        self.end_input()

    async def receive(self) -> Message:
        """ASGI ``receive``: the body in pieces, then ``http.disconnect`` when that happens."""
        if self._continue_due and not self.response.started and not self._no_more_input:
            self._continue_due = False
            self._channel.write(CONTINUE)
        while True:
            if self.response.complete or self._lost:
                return {"type": _DISCONNECT}
            if self._body or (self._body_ended and not self._body_given):
                return self._take_body()
            if self._no_more_input:
                return {"type": _DISCONNECT}
            await self._change()

    async def send(self, message: Message) -> None:
        """ASGI ``send``; returns when the connection takes more.

        Raises:
            ClientGone: nobody is there to read it.
            InvalidResponse: the application broke the protocol.
        """
        if self._lost:
            raise ClientGone("the client is gone")
        kind = message["type"]
        if kind == "http.response.start":
            self._start(message)
        elif kind == "http.response.body":
            more = bool(message.get("more_body", False))
            data = self.response.body(bytes(message.get("body", b"")), more=more)
            if data:
                self._channel.write(data)
            if self.response.complete:
                self._body.clear()
                self._body_bytes = 0
                self._wake()
            await self._channel.drained()
        else:
            raise InvalidResponse(f"{kind!r} is not a message of this server")

    def _start(self, message: Message) -> None:
        # A client that still waits for 100 may or may not send its body after this answer:
        # where the next request begins could not be told (RFC 9110 10.1.1).
        keep_alive = (
            self.request.keep_alive and self._channel.may_keep_alive() and not self._continue_due
        )
        headers = message.get("headers", ())
        self.response.start(int(message["status"]), headers, keep_alive=keep_alive)

    def _take_body(self) -> Message:
        data = b"".join(self._body)
        self._body.clear()
        self._body_bytes = 0
        self._body_given = self._body_ended
        if not self._body_ended:
            self._channel.body_wanted()
        return {"type": "http.request", "body": data, "more_body": not self._body_given}

    async def _change(self) -> None:
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        # Shielded: two tasks may wait, and one that is cancelled must not take the other along.
        await asyncio.shield(self._changed)

    def _wake(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)
