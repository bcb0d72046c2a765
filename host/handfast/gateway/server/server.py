"""Several listeners in front of one ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from handfast.gateway.server.cycle import ASGIApp
from handfast.gateway.server.info import ConnectionInfo
from handfast.gateway.server.listener import Listener
from handfast.gateway.server.shared import Log

_CANCEL_GRACE_S = 1.0


class Server:
    """Serves an ASGI application on every listener; the caller owns the event loop.

    Args:
        app: an ASGI 3 application, called for ``http`` scopes only (no lifespan).
        listeners: each with its own address, TLS context and limits.
        log: a structlog logger.
    """

    def __init__(self, app: ASGIApp, listeners: Sequence[Listener], *, log: Log) -> None:
        self._app = app
        self._listeners = tuple(listeners)
        self._log = log
        self._changed: asyncio.Event | None = None

    async def start(self) -> None:
        """Bind and accept on every listener, or on none.

        Raises:
            EnvironmentProblem: an address is in use or not to be had.
        """
        self._changed = asyncio.Event()
        try:
            # All are bound before the first accepts.
            for listener in self._listeners:
                listener.open()
            for listener in self._listeners:
                listener.start(self._app, self._log, on_empty=self._changed.set)
        except BaseException:
            for listener in self._listeners:
                listener.stop()
            raise

    async def stop(self, *, grace_s: float = 5.0) -> None:
        """Stop accepting, answer requests in flight with ``Connection: close``, then close.

        Whatever is left after ``grace_s`` seconds is reset, and its calls are cancelled.
        """
        for listener in self._listeners:
            listener.stop()
        try:
            await asyncio.wait_for(self._all_closed(), grace_s)
        except TimeoutError:
            left = [c for listener in self._listeners for c in listener.connections]
            self._log.warning("stopped_with_connections_open", count=len(left))
            for connection in left:
                connection.abort()
        tasks = [task for listener in self._listeners for task in listener.tasks()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_GRACE_S)

    def close_connections(self, predicate: Callable[[ConnectionInfo], bool]) -> int:
        """Close now the connections whose peer ``predicate`` names; return how many.

        A request in flight there is not answered any more.
        """
        chosen = [
            connection
            for listener in self._listeners
            for connection in listener.connections
            if predicate(connection.info)
        ]
        for connection in chosen:
            connection.close()
        return len(chosen)

    async def _all_closed(self) -> None:
        changed = self._changed
        while changed is not None and any(listener.connections for listener in self._listeners):
            changed.clear()
            await changed.wait()
