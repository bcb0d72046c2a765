"""Bytes in and out of one connection: plain or TLS behind one seam, waiting only in `ready`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol, TypeVar

from OpenSSL import SSL

Result = TypeVar("Result")


class WantRead(Exception):
    """Nothing can be done before the socket is readable."""


class WantWrite(Exception):
    """Nothing can be done before the socket is writable."""


class Transport(Protocol):
    """Non-blocking operations; each raises WantRead or WantWrite when it cannot go on."""

    def handshake(self) -> None:
        """Finish the handshake."""

    def receive(self, size: int) -> bytes:
        """Return up to ``size`` bytes, empty at the peer's end."""

    def send(self, data: memoryview) -> int:
        """Return how many bytes were taken."""

    def finish(self) -> None:
        """Say that nothing more will be sent."""


class PlainTransport:
    """A socket without TLS."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def handshake(self) -> None:
        """There is none."""

    def receive(self, size: int) -> bytes:
        """See :class:`Transport`."""
        try:
            return self._sock.recv(size)
        except BlockingIOError:
            raise WantRead from None

    def send(self, data: memoryview) -> int:
        """See :class:`Transport`."""
        try:
            return self._sock.send(data)
        except BlockingIOError:
            raise WantWrite from None

    def finish(self) -> None:
        """See :class:`Transport`."""
        self._sock.shutdown(socket.SHUT_WR)


class TlsTransport:
    """A TLS connection that works directly on its socket."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._connection = connection

    def handshake(self) -> None:
        """See :class:`Transport`; raises SSL.Error when the peer is refused."""
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            raise WantRead from None
        except SSL.WantWriteError:
            raise WantWrite from None

    def receive(self, size: int) -> bytes:
        """See :class:`Transport`."""
        try:
            return self._connection.recv(size)
        except SSL.WantReadError:
            raise WantRead from None
        except SSL.WantWriteError:
            raise WantWrite from None
        except SSL.ZeroReturnError:
            return b""
        except SSL.SysCallError as error:
            if error.args and error.args[0] in (-1, 0):  # end of stream without close_notify
                return b""
            raise ConnectionResetError(*error.args) from None
        except SSL.Error as error:
            raise ConnectionAbortedError(str(error)) from None

    def send(self, data: memoryview) -> int:
        """See :class:`Transport`."""
        try:
            return self._connection.send(data)
        except SSL.WantReadError:
            raise WantRead from None
        except SSL.WantWriteError:
            raise WantWrite from None
        except SSL.Error as error:
            raise ConnectionAbortedError(str(error)) from None

    def finish(self) -> None:
        """See :class:`Transport`."""
        # Not waited for: a peer that never answers a close_notify is closed all the same.
        with suppress(SSL.Error):
            self._connection.shutdown()


class Wire:
    """One connection's transport, awaited: each call waits until the socket lets it go on."""

    def __init__(self, sock: socket.socket, transport: Transport) -> None:
        self._sock = sock
        self._transport = transport
        self._loop = asyncio.get_running_loop()

    async def handshake(self) -> None:
        """Finish the handshake; SSL.Error when it fails."""
        await self._complete(self._transport.handshake)

    async def receive(self, size: int) -> bytes:
        """Return up to ``size`` bytes, empty at the peer's end; OSError when it is broken."""
        return await self._complete(partial(self._transport.receive, size))

    async def send_all(self, data: bytes) -> None:
        """Send everything; OSError when the connection breaks."""
        rest = memoryview(data)
        while rest:
            rest = rest[await self._complete(partial(self._transport.send, rest)) :]

    async def finish(self, drain_s: float) -> None:
        """Close in order: say goodbye, then read on a while, lest a reset overtake the last answer.

        The kernel answers bytes that arrive at a closed socket with a reset, which throws away
        what the peer has not read yet: the very alert or status that explains the close.
        """
        with suppress(OSError, TimeoutError):
            self._transport.finish()
            self._sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(drain_s):
                while await self._readable_bytes():
                    pass

    async def _readable_bytes(self) -> bytes:
        while True:
            try:
                return self._sock.recv(65_536)
            except BlockingIOError:
                await self._ready(write=False)

    def abort(self) -> None:
        """Close at once; safe to call twice."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._loop.remove_writer(self._sock)
            self._sock.close()

    async def _complete(self, operation: Callable[[], Result]) -> Result:
        while True:
            if self._sock.fileno() < 0:
                raise ConnectionAbortedError("closed")
            try:
                return operation()
            except WantRead:
                await self._ready(write=False)
            except WantWrite:
                await self._ready(write=True)

    async def _ready(self, *, write: bool) -> None:
        add = self._loop.add_writer if write else self._loop.add_reader
        remove = self._loop.remove_writer if write else self._loop.remove_reader
        ready: asyncio.Future[None] = self._loop.create_future()
        add(self._sock, _resolve, ready)
        try:
            await ready
        finally:
            if self._sock.fileno() >= 0:
                remove(self._sock)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
