"""Small servers for the bench, each on an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Self, TypeVar

Result = TypeVar("Result")

_TURN_S = 10.0  # on a busy machine; an idle loop takes a call at once


class ServerThread(ABC):
    """A server on loopback that serves from the beginning of a ``with`` block to its end.

    A subclass opens its sockets in :meth:`_open` and lets go of them in :meth:`_shut`; both run on
    the loop, as everything does that touches them. Others ask through :meth:`_on_the_loop`.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name=type(self).__name__, daemon=True
        )

    @abstractmethod
    async def _open(self) -> None:
        """Begin to serve."""

    @abstractmethod
    async def _shut(self) -> None:
        """End at once what is still under way, and stop listening."""

    def close(self) -> None:
        """Stop serving; a second time does nothing."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            try:
                self._on_the_loop(self._wind_up)
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(_TURN_S)
        self._loop.close()

    async def _wind_up(self) -> None:
        await self._shut()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _on_the_loop(self, work: Callable[[], Coroutine[None, None, Result]]) -> Result:
        """Run a coroutine on the loop and return what it returns."""
        if self._loop.is_closed():
            raise RuntimeError(f"{self._thread.name} has been closed")
        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(_TURN_S)

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._on_the_loop(self._open)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
