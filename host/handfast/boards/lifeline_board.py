"""Boards whose process is told by a pipe that its bench is there, and ends with it.

Programs of ours take the pipe; QEMU, which does not, has a :mod:`~handfast.boards.watchman`.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from abc import abstractmethod

from handfast.boards.virtual_board import VirtualBoard, last_line
from handfast.errors import BoardProblem

START_S = 20.0  # a board is there within milliseconds, unless its disk hangs


class LifelineBoard(VirtualBoard):
    """A board whose process says on standard output when it boots; see :class:`VirtualBoard`."""

    _lifeline: int | None = None

    @abstractmethod
    def _spawn(self, lifeline: int, cut_after: int | None, torn: bool) -> subprocess.Popen[bytes]:
        """Start the process with its output in a pipe; it ends when ``lifeline`` does."""

    def _start(self, cut_after: int | None, torn: bool) -> None:
        alive, self._lifeline = os.pipe()
        try:
            self._process = self._spawn(alive, cut_after, torn)
        finally:
            os.close(alive)
        if not _next_line(self._process):
            self.power_off()
            raise BoardProblem(f"board {self.name} did not start: {last_line(self.log)}")

    def _let_go(self) -> None:
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None

    def _press_reset(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _press_and_wait(self, button: signal.Signals) -> None:
        """Press a button of a board whose process says when it has started again.

        Raises:
            BoardProblem: it ended, or did not start again in time.
        """
        if self._process is not None:
            self._process.send_signal(button)
            if not _next_line(self._process):
                raise BoardProblem(f"board {self.name} did not reset: {last_line(self.log)}")


def announced_line(process: subprocess.Popen[bytes]) -> str:
    """Return the line that a board's process says when it boots, its last; "" if none in time."""
    line = _next_line(process)
    if process.stdout is not None:
        process.stdout.close()
    return line


def _next_line(process: subprocess.Popen[bytes]) -> str:
    if process.stdout is None:
        raise RuntimeError("the board was started without a pipe to read its line from")
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    return process.stdout.readline().decode().strip() if poll.poll(START_S * 1000) else ""
