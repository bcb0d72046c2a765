"""A TCP relay between a board and what it talks to: a cable that can be cut and mended."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from urllib.parse import urlsplit

from handfast.lab.server_thread import ServerThread

_CHUNK_BYTES = 16_384
# Linger for no time: close() sends a reset, and forgets what was not yet sent.
_RESET = struct.pack("ii", 1, 0)


class Relay(ServerThread):
    """Carries connections on 127.0.0.1 to the host and port of a URL, in a ``with`` block.

    What one side sends reaches the other in order and unchanged, and so does how it ended: by an
    end of data, in one direction alone too, or by a reset.

    Args:
        target: what is behind the relay, such as ``https://127.0.0.1:8443``.
    """

    def __init__(self, target: str) -> None:
        self._parts = urlsplit(target)
        if self._parts.hostname is None or self._parts.port is None:
            raise ValueError(f"{target} names no host and port")
        super().__init__()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._connections = self._refused = 0
        self._port = 0

    @property
    def url(self) -> str:
        """The target's URL with the relay's port in it: what a board is given instead."""
        return self._parts._replace(netloc=f"{self._parts.hostname}:{self._port}").geturl()

    @property
    def connections(self) -> int:
        """How many connections were taken on so far, whatever became of them."""
        return self._connections

    @property
    def refused(self) -> int:
        """How many connections came while the relay was cut."""
        return self._refused

    def cut(self) -> None:
        """Reset every open connection, and each one that comes; returns when it is so."""

        async def cut() -> None:
            self._is_cut = True
            self._reset_all()

        self._on_the_loop(cut)

    def mend(self) -> None:
        """Carry connections again."""

        async def mend() -> None:
            self._is_cut = False

        self._on_the_loop(mend)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()

    def _reset_all(self) -> None:
        for writer in self._writers:
            _reset(writer)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            self._refused += 1
            _reset(writer)
            return
        self._connections += 1
        self._writers.add(writer)
        try:
            await self._carry(reader, writer)
        except asyncio.CancelledError:
            pass  # the relay ends; Python 3.11 would print what it takes for a defect
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._parts.hostname, self._parts.port
            )
        except OSError:
            _reset(writer)
            return
        self._writers.add(far_writer)
        try:
            if writer.is_closing():  # cut meanwhile
                return
            both = (writer, far_writer)
            await asyncio.gather(_pump(reader, far_writer, both), _pump(far_reader, writer, both))
        finally:
            self._writers.discard(far_writer)
            far_writer.close()


async def _pump(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    both: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
) -> None:
    """Copy until the end of data; hand a reset on to both ends."""
    try:
        while chunk := await source.read(_CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
        if not sink.is_closing():
            sink.write_eof()
    except OSError:
        for writer in both:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it is gone already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
