"""A board's UART: a socket that its emulator takes, with this host's network at the far end."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

from handfast.boards.slirp import SlirpNetwork

_DRAIN_BYTES: Final = 65536


class BoardUart:
    """A UART that outlives its board's power cycles, from construction to :meth:`close`.

    Args:
        network: whether it leads to this host's network; what it sends is lost otherwise.

    Raises:
        EnvironmentProblem: slirp is not installed, or does not start.
    """

    def __init__(self, *, network: bool = True) -> None:
        self._board_end, self._far_end = socket.socketpair()
        self.network: SlirpNetwork | None = None
        if network:
            try:
                self.network = SlirpNetwork(self._far_end)
            except BaseException:
                self.close()
                raise

    def fileno(self) -> int:
        """Return the descriptor of the board's end, a stream socket that its process inherits."""
        return self._board_end.fileno()

    def drain(self) -> None:
        """Forget what arrived for a board that was switched off."""
        with suppress(BlockingIOError):
            while self._board_end.recv(_DRAIN_BYTES, socket.MSG_DONTWAIT):
                pass

    def close(self) -> None:
        """Take the line and its network away; a second call does nothing."""
        if self.network is not None:
            self.network.close()
        self._far_end.close()
        self._board_end.close()
