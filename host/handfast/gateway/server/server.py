"""Accepts connections on several listeners and serves one ASGI application on all of them."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from handfast.gateway.server.connection import Application, Connection
from handfast.gateway.server.listener import Listener
from handfast.gateway.server.peer import ConnectionInfo, peer_of

_OUT_OF_SOMETHING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_ACCEPT_PAUSE_S = 0.2
_ACCEPTS_AT_ONCE = 64


class Server:
    """An ASGI server for mutual TLS.

    Args:
        app: the ASGI application; the scope's ``handfast`` extension names the listener.
        listeners: where peers connect.
        log: a structlog logger.
    """

    def __init__(self, app: Application, listeners: Sequence[Listener], *, log: Any) -> None:
        self._app = app
        self._listeners = tuple(listeners)
        self._log = log
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._open: Counter[str] = Counter()
        self._addresses: Counter[tuple[str, str]] = Counter()
        self._stopping = False

    async def start(self) -> None:
        """Begin to accept."""
        for listener in self._listeners:
            listener.sock.setblocking(False)
            self._resume(listener)

    async def stop(self, *, grace_s: float) -> None:
        """Stop accepting, let requests in flight finish for ``grace_s`` seconds, then close all."""
        self._stopping = True
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener.sock)
        for connection in list(self._connections):
            connection.stop()
        if tasks := list(self._connections.values()):
            await asyncio.wait(tasks, timeout=grace_s)
        for connection in list(self._connections):
            connection.abort()
        if tasks := list(self._connections.values()):
            await asyncio.wait(tasks)

    def close_connections(self, predicate: Callable[[ConnectionInfo], bool]) -> int:
        """Close at once every connection whose peer the predicate picks; return how many."""
        chosen = [connection for connection in self._connections if predicate(connection.peer)]
        for connection in chosen:
            connection.abort()
        return len(chosen)

    def _resume(self, listener: Listener) -> None:
        if not self._stopping:
            asyncio.get_running_loop().add_reader(listener.sock, self._accept, listener)

    def _accept(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, address = listener.sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_SOMETHING:
                    raise
                # The backlog keeps the peers; asking again at once would only burn the processor.
                self._log.warning("accept_paused", listener=listener.name, error=error.strerror)
                loop.remove_reader(listener.sock)
                loop.call_later(_ACCEPT_PAUSE_S, self._resume, listener)
                return
            self._take(listener, sock, address)

    def _take(self, listener: Listener, sock: socket.socket, address: object) -> None:
        peer = peer_of(listener.name, sock, address)
        place = (listener.name, peer.address)
        limits = listener.limits
        if (
            self._open[listener.name] >= limits.max_connections
            or self._addresses[place] >= limits.max_connections_per_address
        ):
            self._log.warning("too_many_connections", listener=listener.name, peer=peer.address)
            sock.close()
            return
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(
            sock, listener.context, peer=peer, limits=limits, app=self._app, log=self._log
        )
        self._open[listener.name] += 1
        self._addresses[place] += 1
        task = asyncio.get_running_loop().create_task(connection.run())
        self._connections[connection] = task
        task.add_done_callback(lambda done: self._forget(connection, place, done))

    def _forget(
        self, connection: Connection, place: tuple[str, str], task: asyncio.Task[None]
    ) -> None:
        del self._connections[connection]
        self._open[place[0]] -= 1
        self._addresses[place] -= 1
        if not self._addresses[place]:
            del self._addresses[place]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("connection_failed", listener=place[0], exc_info=error)
