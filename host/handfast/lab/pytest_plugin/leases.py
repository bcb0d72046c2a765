"""Who uses which board: locks that end with their holder, however that ends."""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from handfast.errors import EnvironmentProblem


def lease_folder() -> Path:
    """Return the folder of this user's leases, made if it is not there.

    Raises:
        EnvironmentProblem: it cannot be made, or belongs to somebody else.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(runtime or tempfile.gettempdir()) / f"handfast-leases-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise EnvironmentProblem(f"{folder} belongs to somebody else: set $XDG_RUNTIME_DIR")
    except OSError as error:
        raise EnvironmentProblem(f"cannot make {folder}: {error.strerror}") from error
    return folder


class Held(Protocol):
    """A board that is held, however."""

    def release(self) -> None:
        """Let others have it; a second time does nothing."""


class Lease:
    """One board, held until :meth:`release` or the end of this process."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def release(self) -> None:
        """Let others have it; a second time does nothing."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def file_of(folder: Path, board: str, suffix: str) -> Path:
    """Return the file that belongs to what is unique to a board: its name, or its serial port."""
    return folder / (re.sub(r"[^A-Za-z0-9._@-]+", "_", board).strip("_") + suffix)


def take(folder: Path, board: str) -> Lease | None:
    """Return the lease of a board, or None where somebody holds it.

    Args:
        folder: of the leases.
        board: what is unique to it: its name, or its serial port.
    """
    path = file_of(folder, board, ".lock")
    # The file stays when the lease ends: another may have opened it, and would lock a file that
    # has no name any more.
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    with suppress(OSError):  # for people who look
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
    return Lease(handle)
