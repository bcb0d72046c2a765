"""The serial line of a board that is a process: what it is asked for, and the usual one, a PTY."""

from __future__ import annotations

import fcntl
import os
import termios
import tty
from contextlib import suppress
from typing import Protocol


class BoardLine(Protocol):
    """A board's serial line, from its making to :meth:`close`; clients find it by ``url``."""

    @property
    def url(self) -> str:
        """What clients open; it stays the same for as long as the line is there."""

    @property
    def outlives_a_reset(self) -> bool:
        """Whether clients keep it when the board resets or loses its power."""

    def fileno(self) -> int:
        """Return the descriptor of the board's end; a negative one after :meth:`close`."""

    def forget(self) -> None:
        """Drop what clients have sent and no board has read."""

    def close(self) -> None:
        """Take the line away, so that clients see a hang-up; a second time does nothing."""


class PtyLine:
    """A line that outlives the board's resets and power cycles, as that of a USB bridge does."""

    outlives_a_reset = True

    def __init__(self) -> None:
        # The client's end is held here too: so it stays raw while no client has it open.
        self._master, self._client = os.openpty()
        tty.setraw(self._client, termios.TCSANOW)
        for handle in (self._master, self._client):
            fcntl.fcntl(handle, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
        self.url = os.ttyname(self._client)

    def fileno(self) -> int:
        """Return the descriptor of the master end."""
        return self._master

    def forget(self) -> None:
        """Drop what clients have sent."""
        termios.tcflush(self._master, termios.TCIFLUSH)

    def close(self) -> None:
        """Close both ends."""
        for handle in (self._client, self._master):
            if handle >= 0:
                with suppress(OSError):
                    os.close(handle)
        self._client = self._master = -1
