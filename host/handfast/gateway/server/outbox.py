"""What is to be sent and the peer has not taken yet, with a deadline on its leaving."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from handfast.gateway.server.deadline import Deadline
from handfast.gateway.server.transport import Transport, WantRead, WantWrite

# Above this an application that sends waits until all of it has left. One deadline covers that
# much, so that a peer that takes a byte a second is not waited for, however long the answer is.
_HIGH_WATER = 64 * 1024


class Outbox:
    """Buffers bytes for a transport.

    Args:
        transport: what :meth:`flush` sends to.
        seconds: within which a buffer that began to fill must be empty again.
        on_overdue: called when it is not.

    Attributes:
        wants_read: TLS has to read before it can send on.
    """

    def __init__(
        self,
        transport: Transport,
        loop: asyncio.AbstractEventLoop,
        *,
        seconds: float,
        on_overdue: Callable[[], None],
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._seconds = seconds
        self._on_overdue = on_overdue
        self._deadline = Deadline(loop)
        self._buffer = bytearray()
        self._emptied: asyncio.Future[None] | None = None
        self.wants_read = False

    def __len__(self) -> int:
        return len(self._buffer)

    def add(self, data: bytes) -> None:
        """Buffer ``data``; :meth:`flush` sends it."""
        if not self._buffer:
            self._deadline.set(self._seconds, self._on_overdue)
        self._buffer += data

    def flush(self) -> bool:
        """Send what the socket takes; return whether nothing is left."""
        while self._buffer:
            try:
                sent = self._transport.send(self._buffer)
            except WantWrite:
                return False
            except WantRead:
                self.wants_read = True
                return False
            del self._buffer[:sent]
        self._deadline.clear()
        self._wake()
        return True

    async def drained(self) -> None:
        """Return when more may be added, or nothing can be sent any more."""
        if len(self._buffer) > _HIGH_WATER:
            if self._emptied is None:
                self._emptied = self._loop.create_future()
            # Shielded: two tasks may wait, and one that is cancelled must not take the other along.
            await asyncio.shield(self._emptied)

    def close(self) -> None:
        """Forget what is left."""
        self._buffer.clear()
        self._deadline.cancel()
        self._wake()

    def _wake(self) -> None:
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
        self._emptied = None
