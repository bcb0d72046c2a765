"""Names for Unix sockets that fit a socket address, however deep their folder is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# sun_path holds 108 bytes with its terminator (unix(7)).
_LONGEST_PATH = 107


@contextmanager
def reachable_socket(path: Path) -> Iterator[str]:
    """Give a name for ``path`` to bind or connect to.

    A longer path goes through an open descriptor of its folder, valid inside the ``with`` only.

    Raises:
        OSError: the folder of a long path cannot be opened.
    """
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
