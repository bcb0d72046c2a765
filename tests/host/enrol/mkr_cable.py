"""A cable to an MKR that loses, damages, doubles or makes up lines, or is pulled out."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import tty
from collections.abc import Callable

from mkr_model import Pty

_POLL_S = 0.02

# (number of the line from 0, over both directions; the line) → the bytes that arrive, or None to
# pull the cable out
Fault = Callable[[int, bytes], bytes | None]


class MkrCable:
    """A PTY that carries lines to and from a board; a context manager.

    Args:
        board_url: the board's own PTY.
        fault: what becomes of each line; empty lines are carried and not counted.
    """

    def __init__(self, board_url: str, fault: Fault = lambda _number, line: line) -> None:
        self._board = os.open(board_url, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._board)
        self._pty = Pty()
        self.url = self._pty.url
        self.lines: list[bytes] = []
        self._fault = fault
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    @property
    def is_out(self) -> bool:
        self._thread.join(10)
        return not self._thread.is_alive()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> MkrCable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _carry(self) -> None:
        partial = {self._board: b"", self._pty.master: b""}
        with contextlib.suppress(OSError):
            while not self._stop.is_set():
                for handle in select.select(list(partial), [], [], _POLL_S)[0]:
                    *whole, partial[handle] = (partial[handle] + os.read(handle, 4096)).split(b"\n")
                    other = self._board if handle == self._pty.master else self._pty.master
                    if not all(self._pass_on(other, line + b"\n") for line in whole):
                        self._stop.set()
                        break
        self._pty.close()
        os.close(self._board)

    def _pass_on(self, handle: int, line: bytes) -> bool:
        arriving: bytes | None = line
        if line != b"\n":
            arriving = self._fault(len(self.lines), line)
            self.lines.append(line)
        if arriving is not None:
            os.write(handle, arriving)
        return arriving is not None
