"""A board's files over its REPL: hashes in one command, pushing only what differs.

Faster than a file at a time in small pieces: content travels deflated and base64 coded in large
raw-paste commands, and several files share a command. A file appears under its name only when
its content has been read back from flash and its SHA-256 is right.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from handfast.boards.device_error import DeviceError, DeviceFull
from handfast.errors import BoardProblem

TEMPORARY_SUFFIX = ".part"  # of a file that is being written; swept up by the next push

_BLOCK_BYTES = 4096  # of a file's content in one piece: bounds what the board must hold
_WINDOW_BITS = 10  # deflate's window, which the board allocates: 1 KB
_COMMAND_BYTES = 6144  # of base64 in one command, all of it in the board's heap at once
_COMMAND_TIMEOUT_S = 60.0  # at 9600 baud a command takes 7 s; flash erasing is slow too
_SURVEY_TIMEOUT_S = 60.0
_READ_BYTES = 1536

# Runs on the board. Short names: it is sent with each push.
_HASHES = """
import os as _o
from hashlib import sha256 as _h
from binascii import hexlify as _x
_b = bytearray(512)
def _hash(p):
    h = _h()
    m = memoryview(_b)
    with open(p, 'rb') as f:
        while True:
            n = f.readinto(_b)
            if not n:
                return _x(h.digest()).decode()
            h.update(m[:n])
def _walk(d, see):
    try:
        entries = list(_o.ilistdir(d))
    except OSError:
        return
    for e in entries:
        p = d.rstrip('/') + '/' + e[0]
        if e[1] & 0x4000:
            _walk(p, see)
        else:
            see(p)
def _show(p):
    try:
        print(_hash(p), _o.stat(p)[6], p)
    except OSError:
        pass
def _remove(p):
    try:
        _o.remove(p)
    except OSError as e:
        if e.errno != 2:
            raise
def _see(p):
    if p.endswith('.part'):
        _remove(p)
    else:
        _show(p)
"""

_WRITER = """
from binascii import a2b_base64 as _a
def _open(p):
    global _f
    d = ''
    for part in p.split('/')[1:-1]:
        d += '/' + part
        try:
            _o.mkdir(d)
        except OSError as e:
            if e.errno != 17:
                raise
    _f = open(p + '.part', 'wb')
def _raw(t):
    _f.write(_a(t))
def _z(t):
    import deflate, io
    s = deflate.DeflateIO(io.BytesIO(_a(t)), deflate.RAW, WINDOW_BITS)
    while True:
        n = s.readinto(_b)
        if not n:
            return
        _f.write(memoryview(_b)[:n])
def _done(p, h):
    _f.close()
    if _hash(p + '.part') != h:
        _remove(p + '.part')
        raise ValueError('hash of ' + p)
    _o.rename(p + '.part', p)
def _drop(p):
    try:
        _f.close()
    except NameError:
        pass
    _remove(p + '.part')
""".replace("WINDOW_BITS", str(_WINDOW_BITS))

_FORGET = (
    "for _n in ('_o _h _x _a _b _f _hash _walk _show _remove _see"
    " _open _raw _z _done _drop').split():\n"
    " globals().pop(_n, None)\n"
    "import gc\ngc.collect()\ndel _n, gc"
)


class Repl(Protocol):
    """What is needed of the line to a board: :class:`handfast.boards.serial_link.SerialLink`."""

    @property
    def url(self) -> str:
        """The port's path or URL."""

    def exec(self, code: str, timeout_s: float = 10.0) -> str:
        """Run ``code`` on the board and return what it printed."""


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did: device paths, bytes of content and of commands, and seconds."""

    copied: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    content_bytes: int
    sent_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Survey:
    hashes: dict[str, str]
    sizes: dict[str, int]
    block_bytes: int
    free_blocks: int
    can_inflate: bool

    def blocks(self, size: int) -> int:
        return -(-size // self.block_bytes)


def hashes(link: Repl, root: str = "/") -> dict[str, str]:
    """Return path → SHA-256 (hex) of every file below ``root``, which may itself be a file."""
    printed = link.exec(
        f"{_HASHES}\n_walk({root!r}, _show)\n_show({root!r})\n{_FORGET}", _SURVEY_TIMEOUT_S
    )
    return _parse_hashes(printed)[0]


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
        _COMMAND_TIMEOUT_S,
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
    progress: Callable[[int, int], None] | None = None,
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
    survey = _survey(link, files, only_files_below)
    expected = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    differing = {p: c for p, c in files.items() if survey.hashes.get(p) != expected[p]}
    stale = tuple(sorted(path for path in survey.hashes if path not in files))
    try:
        _require_room(link, survey, differing)
        sent = _write(link, survey, differing, expected, progress) if differing else 0
        if stale:
            _remove(link, stale)
    except DeviceError:
        link.exec(_FORGET)
        raise
    link.exec(_FORGET)
    return PushResult(
        copied=tuple(differing),
        unchanged=tuple(path for path in files if path not in differing),
        removed=stale,
        content_bytes=sum(map(len, differing.values())),
        sent_bytes=sent,
        seconds=time.monotonic() - started,
    )


def _survey(link: Repl, files: Mapping[str, bytes], folders: Sequence[str]) -> _Survey:
    alone = [p for p in files if not any(p.startswith(f.rstrip("/") + "/") for f in folders)]
    commands = [f"_show({path!r})\n_remove({path + TEMPORARY_SUFFIX!r})" for path in alone]
    commands += [f"_walk({folder!r}, _see)" for folder in folders]
    printed = link.exec(
        _HASHES + "\n".join(commands) + "\n_s = _o.statvfs('/')\n"
        "try:\n from deflate import DeflateIO as _d\n _d = True\nexcept ImportError:\n _d = False\n"
        "print('room', _s[0], _s[3], _d)\ndel _s, _d",
        _SURVEY_TIMEOUT_S,
    )
    listing, _, room = printed.rpartition("room ")
    found, sizes = _parse_hashes(listing)
    block_bytes, free_blocks, can_inflate = room.split()
    return _Survey(found, sizes, int(block_bytes), int(free_blocks), can_inflate == "True")


def _parse_hashes(listing: str) -> tuple[dict[str, str], dict[str, int]]:
    found: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for line in listing.splitlines():
        digest, size, path = line.split(" ", 2)
        found[path], sizes[path] = digest, int(size)
    return found, sizes


def _require_room(link: Repl, survey: _Survey, differing: Mapping[str, bytes]) -> None:
    """Refuse what cannot fit before anything is written: old and new exist together for a while."""
    free = survey.free_blocks
    lowest = free
    for path, content in differing.items():
        free -= survey.blocks(len(content))
        lowest = min(lowest, free)
        free += survey.blocks(survey.sizes.get(path, 0))
    if lowest < 0:
        missing_kb = -(-(-lowest * survey.block_bytes) // 1024)
        raise _full(link, f"{missing_kb} KB more", "nothing was written")


def _full(link: Repl, missing: str, state: str) -> DeviceFull:
    return DeviceFull(
        f"the file system of the board at {link.url} is full: {missing} are needed; {state}. "
        "Remove files from the board and run the command again",
        kind="OSError",
        detail="ENOSPC",
        traceback="",
    )


def _write(
    link: Repl,
    survey: _Survey,
    differing: Mapping[str, bytes],
    expected: Mapping[str, str],
    progress: Callable[[int, int], None] | None,
) -> int:
    total = sum(map(len, differing.values()))
    link.exec(_WRITER)
    sent = 0
    for command in _commands(differing, expected, survey.can_inflate):
        try:
            link.exec(command.code, _COMMAND_TIMEOUT_S)
        except DeviceError as error:
            link.exec("\n".join(f"_drop({path!r})" for path in command.paths))
            if isinstance(error, DeviceFull):
                left = total - command.finished_bytes
                raise _full(
                    link, f"up to {-(-left // 1024)} KB", "the files written so far are whole"
                ) from error
            raise
        sent += len(command.code)
        if progress is not None:
            progress(command.written_bytes, total)
    return sent


@dataclass(frozen=True, slots=True)
class _Command:
    code: str
    paths: tuple[str, ...]  # the files it touches
    finished_bytes: int  # content in files that were whole before it
    written_bytes: int  # content written after it


def _commands(
    files: Mapping[str, bytes], expected: Mapping[str, str], can_inflate: bool
) -> Iterator[_Command]:
    lines: list[str] = []
    paths: dict[str, None] = {}
    finished = before = written = size = 0
    for path, content in files.items():
        lines.append(f"_open({path!r})")
        paths[path] = None
        for start in range(0, len(content), _BLOCK_BYTES):
            block = content[start : start + _BLOCK_BYTES]
            piece = _piece(block, can_inflate)
            if size + len(piece) > _COMMAND_BYTES:
                yield _Command("\n".join(lines), tuple(paths), before, written)
                before, size = finished, 0
                lines, paths = [], {path: None}
            lines.append(piece)
            size += len(piece)
            written += len(block)
        lines.append(f"_done({path!r}, {expected[path]!r})")
        finished += len(content)
    if lines:
        yield _Command("\n".join(lines), tuple(paths), before, written)


def _piece(block: bytes, can_inflate: bool) -> str:
    if can_inflate:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -_WINDOW_BITS)
        packed = deflate.compress(block) + deflate.flush()
        if len(packed) < len(block):
            return f"_z({base64.b64encode(packed)!r})"
    return f"_raw({base64.b64encode(block)!r})"


def _remove(link: Repl, paths: Sequence[str]) -> None:
    folders = sorted({path.rpartition("/")[0] for path in paths}, reverse=True)
    commands = [f"_remove({path!r})" for path in paths]
    commands += [
        f"try:\n _o.rmdir({folder!r})\nexcept OSError:\n pass" for folder in folders if folder
    ]
    link.exec("\n".join(commands), _COMMAND_TIMEOUT_S)
