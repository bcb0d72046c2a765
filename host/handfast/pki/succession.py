"""Folders of CAs that take another's place, whole or not at all, whenever the power fails.

Two folders cannot be exchanged in one step everywhere. So the successor is first renamed to
``<name>-new``: from then on it has taken the place, and whoever looks finishes what is left of
moving. Its predecessor stays as ``<name>-old``.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handfast.files import sync_folder
from handfast.state import StateDir

_OWNER_ONLY = 0o700


@contextmanager
def staged(state: StateDir) -> Iterator[Path]:
    """Yield an empty folder beside the CAs' own, to fill and then to put in place."""
    folder = Path(tempfile.mkdtemp(prefix=".next-", dir=state.ca))
    try:
        folder.chmod(_OWNER_ONLY)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def exclusive(state: StateDir) -> Iterator[None]:
    """Keep other processes from moving the CAs; the kernel ends it however this one ends."""
    handle = os.open(state.ca_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def succeed(state: StateDir, name: str, successor: Path) -> None:
    """Put the folder ``successor`` in the place of the CA ``name``; call it :func:`exclusive`.

    Raises:
        OSError: the folders could not be moved; nothing was changed, or it is finished later.
    """
    successor.rename(_arriving(state, name))
    sync_folder(state.ca)
    _settle(state, name)


def settle(state: StateDir, name: str) -> None:
    """Finish what a power cut kept :func:`succeed` from finishing; usually there is nothing."""
    if _arriving(state, name).exists():
        with exclusive(state):
            _settle(state, name)


def _arriving(state: StateDir, name: str) -> Path:
    return state.ca / f"{name}-new"


def _settle(state: StateDir, name: str) -> None:
    arriving, place = _arriving(state, name), state.ca / name
    if not arriving.exists():
        return  # somebody else has finished it
    if place.exists():
        former = state.ca / f"{name}-old"
        shutil.rmtree(former, ignore_errors=True)
        place.rename(former)
    arriving.rename(place)
    sync_folder(state.ca)
