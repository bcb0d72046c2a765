"""One timer that is moved often and fires rarely."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Deadline:
    """Calls back once when a time limit passes; setting it again replaces the limit.

    Every request moves its connection's deadlines several times. The loop's timer is therefore
    left where it is when the limit moves later, and re-armed only if it fires too early.
    """

    __slots__ = ("_callback", "_due", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._due: float | None = None
        self._callback: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def set(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` after ``seconds`` unless the deadline is set again or cleared."""
        self._due = self._loop.time() + seconds
        self._callback = callback
        if self._timer is not None and self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._fire)

    def clear(self) -> None:
        """Forget the limit; the loop's timer may stay armed and finds nothing to do."""
        self._due = self._callback = None

    def cancel(self) -> None:
        """Forget the limit and the timer."""
        self.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._due is None or self._callback is None:
            return
        # A timer may fire a clock tick early; armed again it would fire at once.
        if self._due - self._loop.time() > 0.001:
            self._timer = self._loop.call_at(self._due, self._fire)
            return
        callback = self._callback
        self.clear()
        callback()
