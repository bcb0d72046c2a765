"""Writing files so that a crash or a power failure leaves the old content or the new, not half."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace ``path`` with ``content``: temporary file, fsync, rename, fsync of the folder.

    Args:
        path: the file; its folder must exist.
        content: the whole new content.
        mode: permission bits, in force before the first byte is written.

    Raises:
        OSError: nothing was changed.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.fchmod(handle, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` outlast a power failure: what was renamed there stays renamed.

    On a filesystem that cannot do that it does nothing.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def write_secret(path: Path, content: bytes) -> None:
    """Like :func:`write_atomically`, readable by the owner only (0600)."""
    write_atomically(path, content, mode=0o600)
