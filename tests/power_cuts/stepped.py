"""A simulated board that waits at each moment that its power might fail at."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from handfast.boards.simulator import SimulatedBoard


class SteppedBoard(SimulatedBoard):
    """A simulated board; from a power-on for which ``on_moment`` is set, it may be looked at.

    Before each flash operation, and again in the middle of it, the board waits until ``on_moment``
    has returned: the flash image then is what a clean and a torn cut of that operation leave.
    ``on_moment`` is called from a thread of its own, and raises nothing.
    """

    on_moment: Callable[[], None] | None = None
    _watcher: threading.Thread | None = None

    def _arguments(self, cut_after: int | None, torn: bool) -> list[str]:
        stepping = [option for fd in self._passed for option in ("--step-fd", str(fd))]
        return super()._arguments(cut_after, torn) + stepping

    def _start(self, cut_after: int | None, torn: bool) -> None:
        if self.on_moment is None:
            super()._start(cut_after, torn)
            return
        ours, theirs = socket.socketpair()
        with theirs:
            self._passed = (theirs.fileno(),)
            try:
                super()._start(cut_after, torn)
            finally:
                self._passed = ()
        self._watcher = threading.Thread(target=_watch, args=(ours, self.on_moment), daemon=True)
        self._watcher.start()

    def _let_go(self) -> None:
        super()._let_go()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.join()


def _watch(board: socket.socket, on_moment: Callable[[], None]) -> None:
    """Answer the board for as long as it has power."""
    with board, suppress(ConnectionError):
        while board.recv(1):
            on_moment()
            board.send(b"\0")
