"""Disk space kept back for stopping devices, so that a full disk protects none of them."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

# A device's revocation takes some 10 KB, that of one with a thousand live certificates 2 MB.
_BYTES = 8 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_RETRY_S = 5.0


class Reserve:
    """A file that is there to be removed; for one thread.

    Args:
        path: the file, on the same disk as the registry.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held = False
        self._retry_at = 0.0

    def hold(self) -> bool:
        """Have the space, taking it where there is enough; tells whether that went well."""
        if not self._held and time.monotonic() >= self._retry_at:
            try:
                self._fill()
                self._held = True
            except OSError:
                self._remove()
                self._retry_at = time.monotonic() + _RETRY_S
        return self._held

    def release(self) -> bool:
        """Give the space up; tells whether there was any."""
        held, self._held = self._held, False
        self._remove()
        return held

    def _fill(self) -> None:
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Random: to allocate, or to write zeros, promises nothing where files are compressed.
            for start in range(os.fstat(handle).st_size, _BYTES, _CHUNK_BYTES):
                _write_all(handle, os.urandom(_CHUNK_BYTES), start)
            os.fsync(handle)
        finally:
            os.close(handle)

    def _remove(self) -> None:
        with suppress(OSError):
            self._path.unlink()


def _write_all(handle: int, data: bytes, start: int) -> None:
    while data:
        written = os.pwrite(handle, data, start)
        data, start = data[written:], start + written
