"""Which events of one socket the loop reports."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Watch:
    """Tells the loop about a descriptor only when what it is to report has changed."""

    __slots__ = ("_fd", "_loop", "_on_readable", "_on_writable", "_read", "_write")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        fd: int,
        *,
        on_readable: Callable[[], None],
        on_writable: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._fd = fd
        self._on_readable = on_readable
        self._on_writable = on_writable
        self._read = False
        self._write = False

    def set(self, *, read: bool, write: bool) -> None:
        """Report exactly these; both must be off before the descriptor is closed."""
        if read != self._read:
            self._read = read
            if read:
                self._loop.add_reader(self._fd, self._on_readable)
            else:
                self._loop.remove_reader(self._fd)
        if write != self._write:
            self._write = write
            if write:
                self._loop.add_writer(self._fd, self._on_writable)
            else:
                self._loop.remove_writer(self._fd)
