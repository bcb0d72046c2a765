"""A TCP relay between a board and what it talks to: a cable that can be cut, slowed and mended."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from handfast.lab.server_thread import ServerThread
from handfast.lab.tls_records import APPLICATION_DATA, RecordCutter

_CHUNK_BYTES = 16_384
_IN_FLIGHT = 64  # chunks that are under way at once where there is latency
_PACE_S = 0.05  # of a limited bandwidth in one piece
# Linger for no time: close() sends a reset, and forgets what was not yet sent.
_RESET = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class _Conditions:
    """How everything is carried; ``record`` is the type of TLS record that is to be cut next."""

    latency_s: float = 0.0
    bytes_per_s: float = float("inf")
    record: int | None = None


@dataclass(slots=True, eq=False)
class _Carried:
    """One connection: its ends, and whether it is lost: nothing passes, and neither end knows."""

    writers: list[asyncio.StreamWriter] = field(default_factory=list)
    lost: bool = False

    def reset(self) -> None:
        for writer in self.writers:
            _reset(writer)


class Relay(ServerThread):
    """Carries connections on this machine to the host and port of a URL, in a ``with`` block.

    What one side sends reaches the other in order and unchanged, and so does how it ended: by an
    end of data, in one direction alone too, or by a reset.

    Args:
        target: what is behind the relay, such as ``https://127.0.0.1:8443``.
        host: the address that the relay listens on.
        named: the host in ``url``; the target's by default.
    """

    def __init__(self, target: str, *, host: str = "127.0.0.1", named: str = "") -> None:
        self._parts = urlsplit(target)
        if self._parts.hostname is None or self._parts.port is None:
            raise ValueError(f"{target} names no host and port")
        super().__init__()
        self._named = named or self._parts.hostname
        self._server: asyncio.Server | None = None
        self._host = host
        self._open_ones: set[_Carried] = set()
        self._conditions = _Conditions()
        self._is_cut = self._is_dark = False
        self._connections = self._refused = 0
        self._port = 0

    @property
    def url(self) -> str:
        """The target's URL with the relay in its place: what a board is given instead."""
        return self._parts._replace(netloc=f"{self._named}:{self._port}").geturl()

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

    def reset(self) -> None:
        """Reset every open connection; those that come are carried."""

        async def reset() -> None:
            self._reset_all()

        self._on_the_loop(reset)

    def lose(self) -> None:
        """Lose every open connection: nothing passes any more, and neither end hears of it."""

        async def lose() -> None:
            self._lose_all()

        self._on_the_loop(lose)

    def blackhole(self) -> None:
        """Lose every open connection, and each one that comes: it is taken and never answered."""

        async def blackhole() -> None:
            self._is_dark = True
            self._lose_all()

        self._on_the_loop(blackhole)

    def shape(self, *, latency_s: float = 0.0, bytes_per_s: float = float("inf")) -> None:
        """Carry everything that late in each direction, and that much at most."""

        async def shape() -> None:
            self._conditions.latency_s = latency_s
            self._conditions.bytes_per_s = bytes_per_s

        self._on_the_loop(shape)

    def truncate_record(self, kind: int = APPLICATION_DATA) -> None:
        """Cut the next TLS record of that type from the target in half, and end its connection."""

        async def truncate() -> None:
            self._conditions.record = kind

        self._on_the_loop(truncate)

    def mend(self) -> None:
        """Carry connections again, as a cable does; what was lost stays lost."""

        async def mend() -> None:
            self._is_cut = self._is_dark = False
            self._conditions.latency_s = 0.0
            self._conditions.bytes_per_s = float("inf")
            self._conditions.record = None

        self._on_the_loop(mend)

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._take, self._host, 0)
        self._port = self._server.sockets[0].getsockname()[1]

    async def _shut(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()

    def _reset_all(self) -> None:
        for carried in self._open_ones:
            carried.reset()

    def _lose_all(self) -> None:
        for carried in self._open_ones:
            carried.lost = True

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            self._refused += 1
            _reset(writer)
            return
        self._connections += 1
        carried = _Carried([writer], lost=self._is_dark)
        self._open_ones.add(carried)
        try:
            if carried.lost:
                await _swallow(reader)
            else:
                await self._carry(carried, reader, writer)
        except asyncio.CancelledError:
            pass  # the relay ends; Python 3.11 would print what it takes for a defect
        finally:
            self._open_ones.discard(carried)
            for end in carried.writers:
                end.close()

    async def _carry(
        self, carried: _Carried, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(
                self._parts.hostname, self._parts.port
            )
        except OSError:
            _reset(writer)
            return
        carried.writers.append(far_writer)
        if writer.is_closing():  # cut meanwhile
            return
        await asyncio.gather(
            _pump(reader, far_writer, carried, self._conditions, None),
            _pump(far_reader, writer, carried, self._conditions, RecordCutter()),
        )


async def _swallow(reader: asyncio.StreamReader) -> None:
    with suppress(OSError):
        while await reader.read(_CHUNK_BYTES):
            pass


async def _pump(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    carried: _Carried,
    conditions: _Conditions,
    cutter: RecordCutter | None,
) -> None:
    """Copy until the end of data; hand a reset on to both ends."""
    arrived: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(_IN_FLIGHT)
    reading = asyncio.create_task(_read(source, arrived, conditions))
    now = asyncio.get_running_loop().time
    try:
        while True:
            due, chunk = await arrived.get()
            await asyncio.sleep(max(0.0, due - now()))
            if carried.lost:
                if not chunk:
                    return
                continue
            if chunk is None:
                carried.reset()
                return
            if not await _send(sink, chunk, conditions, cutter):
                return
    except OSError:
        carried.reset()
    finally:
        reading.cancel()


async def _read(
    source: asyncio.StreamReader,
    arrived: asyncio.Queue[tuple[float, bytes | None]],
    conditions: _Conditions,
) -> None:
    """Note what arrives and when it is due: b"" for the end of data, None for a reset."""
    now = asyncio.get_running_loop().time
    chunk: bytes | None = b"?"
    while chunk:
        try:
            chunk = await source.read(_CHUNK_BYTES)
        except OSError:
            chunk = None
        await arrived.put((now() + conditions.latency_s, chunk))


async def _send(
    sink: asyncio.StreamWriter,
    chunk: bytes,
    conditions: _Conditions,
    cutter: RecordCutter | None,
) -> bool:
    """Send a chunk at the pace that is set; returns whether more may follow."""
    ends = not chunk
    if cutter is not None:
        chunk, cut = cutter.pass_on(chunk, conditions.record)
        if cut:
            conditions.record = None
            ends = True
    while chunk:
        pace = conditions.bytes_per_s
        part = chunk if pace == float("inf") else chunk[: max(1, int(pace * _PACE_S))]
        sink.write(part)
        await sink.drain()
        chunk = chunk[len(part) :]
        if pace != float("inf"):
            await asyncio.sleep(len(part) / pace)
    if ends and not sink.is_closing():
        sink.write_eof()
    return not ends


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):  # it is gone already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
