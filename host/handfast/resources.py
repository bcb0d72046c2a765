"""Where the files that travel with the package are: firmware/, boards/ and the simulator's sources.

In a checkout they stand beside host/; in an installed wheel they are package data.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parent.parent


def _find(name: str) -> Path:
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _CHECKOUT / name


def firmware_dir() -> Path:
    """Return the folder that holds ``mtls/`` (the device library) and ``app/``."""
    return _find("firmware")


def boards_dir() -> Path:
    """Return the folder that holds one folder a board."""
    return _find("boards")
