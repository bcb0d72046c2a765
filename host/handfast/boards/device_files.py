"""A board's files over its REPL: hashes in one command, pushing only what differs, file by file.

Each file is old or new whatever happens; a set of files that belong together is installed as one
by :mod:`handfast.boards.device_tree`.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from handfast.boards.device_error import DeviceError
from handfast.boards.device_writer import (
    COMMAND_TIMEOUT_S,
    FORGET,
    Progress,
    Repl,
    Survey,
    list_hashes,
    remove,
    require_room,
    sha256,
    survey,
    write,
)
from handfast.errors import BoardProblem

_READ_BYTES = 1536


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did: device paths, bytes of content and of commands, and seconds."""

    copied: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    content_bytes: int
    sent_bytes: int
    seconds: float


def hashes(link: Repl, root: str = "/") -> dict[str, str]:
    """Return path → SHA-256 (hex) of every file below ``root``, which may itself be a file."""
    return list_hashes(link, root)


def read_file(link: Repl, path: str) -> bytes | None:
    """Return the content of the file at ``path``, or None where there is none."""
    printed = link.exec(
        "from binascii import b2a_base64 as _a\n"
        f"_b = None\ntry:\n _f = open({path!r}, 'rb')\n"
        "except OSError as e:\n"
        " if e.errno != 2:\n  raise\n"
        " _f = None\n"
        f"while _f:\n _b = _f.read({_READ_BYTES})\n"
        " if not _b:\n  _f.close()\n  print('end')\n  break\n"
        " print(_a(_b).decode(), end='')\n"
        "del _f, _a, _b",
        COMMAND_TIMEOUT_S,
    )
    if not printed:
        return None
    *lines, end = printed.splitlines()
    try:
        if end != "end":
            raise ValueError(end)
        return b"".join(base64.b64decode(line, validate=True) for line in lines)
    except (ValueError, binascii.Error) as error:
        raise BoardProblem(f"{path} could not be read from {link.url}: try again") from error


def push(
    link: Repl,
    files: Mapping[str, bytes],
    *,
    only_files_below: Sequence[str] = (),
    progress: Progress | None = None,
) -> PushResult:
    """Make the board hold ``files``: write those whose SHA-256 differs, leave the rest alone.

    Each file is written beside its place, read back, compared, and renamed: a power cut, an
    unplugged cable or a full flash leaves the old file or the new one.

    Args:
        link: the board.
        files: absolute device path → content.
        only_files_below: folders in which every other file is removed afterwards.
        progress: called with bytes of content written so far, and in all.

    Raises:
        DeviceFull: no room; says how much is missing and leaves no half-written file.
        BoardProblem: the board failed; the files finished so far are whole.
    """
    started = time.monotonic()
    seen = survey(link, files, only_files_below)
    differing = {p: c for p, c in files.items() if seen.hashes.get(p) != sha256(c)}
    stale = tuple(sorted(path for path in seen.hashes if path not in files))
    try:
        require_room(link, seen, _missing_blocks(seen, differing))
        sent = write(link, seen, differing, progress) if differing else 0
        if stale:
            remove(link, stale)
    except DeviceError:
        link.exec(FORGET)
        raise
    link.exec(FORGET)
    return PushResult(
        copied=tuple(differing),
        unchanged=tuple(path for path in files if path not in differing),
        removed=stale,
        content_bytes=sum(map(len, differing.values())),
        sent_bytes=sent,
        seconds=time.monotonic() - started,
    )


def _missing_blocks(seen: Survey, differing: Mapping[str, bytes]) -> int:
    """Return how many blocks are missing at worst: old and new exist together for a while."""
    free = lowest = seen.free_blocks
    for path, content in differing.items():
        free -= seen.blocks(len(content))
        lowest = min(lowest, free)
        free += seen.blocks(seen.sizes.get(path, 0))
    return -lowest
