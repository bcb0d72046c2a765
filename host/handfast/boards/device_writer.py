"""The two ends of copying files over a REPL: what the host sends, and the script that takes it.

Faster than a file at a time in small pieces: content travels deflated and base64 coded in large
raw-paste commands, and several files share a command. A file appears under its name only when
its content has been read back from flash and its SHA-256 is right. What is there already is
compared by one digest of all hashes, so that nothing else travels where nothing changed.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from handfast.boards.device_error import DeviceError, DeviceFull
from handfast.errors import BoardProblem

TEMPORARY_SUFFIX = ".part"  # of a file that is being written; swept up by the next push

_BLOCK_BYTES = 4096  # of a file's content in one piece: bounds what the board must hold
_WINDOW_BITS = 10  # deflate's window, which the board allocates: 1 KB
_COMMAND_BYTES = 6144  # of base64 in one command, all of it in the board's heap at once
COMMAND_TIMEOUT_S = 60.0  # at 9600 baud a command takes 7 s; flash erasing is slow too
SURVEY_TIMEOUT_S = 60.0
_SAME = "same"

# Runs on the board. Short names: it is sent with each push.
_SEE = """
import os as _o
from hashlib import sha256 as _h
from binascii import hexlify as _x
_b = bytearray(512)
_l = []
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
        _l.append('%s %d %s\\n' % (_hash(p), _o.stat(p)[6], p))
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
def _tell(known):
    _l.sort()
    h = _h()
    for s in _l:
        h.update(s.encode())
    print('same\\n' if _x(h.digest()).decode() == known else ''.join(_l), end='')
"""

_WRITER = """
from binascii import a2b_base64 as _a
def _folder(p):
    d = ''
    for part in p.split('/')[1:-1]:
        d += '/' + part
        try:
            _o.mkdir(d)
        except OSError as e:
            if e.errno != 17:
                raise
def _open(p):
    global _f
    _folder(p)
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

FORGET = (
    "for _n in ('_o _h _x _a _b _f _l _hash _walk _show _remove _see _tell"
    " _folder _open _raw _z _done _drop').split():\n"
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


# (bytes of content that are on the board, bytes in all)
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Survey:
    """What is on a board: path → SHA-256 (hex) and size, free room, whether it can inflate."""

    hashes: Mapping[str, str]
    sizes: Mapping[str, int]
    block_bytes: int
    free_blocks: int
    can_inflate: bool

    def blocks(self, size: int) -> int:
        """Return how many blocks of flash a file of ``size`` bytes takes."""
        return -(-size // self.block_bytes)


def sha256(content: bytes) -> str:
    """Return the SHA-256 of ``content`` in hex, as the board writes it."""
    return hashlib.sha256(content).hexdigest()


def list_hashes(link: Repl, root: str) -> dict[str, str]:
    """Return path → SHA-256 (hex) of every file below ``root``, which may itself be a file."""
    printed = link.exec(
        f"{_SEE}\n_walk({root!r}, _show)\n_show({root!r})\n_tell('')\n{FORGET}", SURVEY_TIMEOUT_S
    )
    return _parse(printed)[0]


def survey(link: Repl, files: Mapping[str, bytes], folders: Sequence[str]) -> Survey:
    """Look at what is on the board, and leave the script there that :func:`write` needs.

    Half-written files of an earlier try are removed.

    Args:
        link: the board.
        files: what is to be there.
        folders: in which everything else is looked at too.

    Raises:
        BoardProblem: what the board said is no list of files.
    """
    alone = [p for p in files if not any(p.startswith(f.rstrip("/") + "/") for f in folders)]
    wanted = {path: (sha256(content), len(content)) for path, content in files.items()}
    lines = sorted(f"{digest} {size} {path}\n" for path, (digest, size) in wanted.items())
    unchanged = sha256("".join(lines).encode())
    printed = link.exec(
        f"{_SEE}\nfor _n in {alone!r}:\n _show(_n)\n _remove(_n + {TEMPORARY_SUFFIX!r})\n"
        f"for _n in {list(folders)!r}:\n _walk(_n, _see)\n_tell({unchanged!r})\n"
        "_n = _o.statvfs('/')\n"
        "try:\n from deflate import DeflateIO as _d\n _d = True\nexcept ImportError:\n _d = False\n"
        "print('room', _n[0], _n[3], _d)\ndel _n, _d",
        SURVEY_TIMEOUT_S,
    )
    try:
        return _survey(printed, wanted)
    except ValueError as error:
        raise BoardProblem(
            f"the board printed something of its own while its files were listed ({error}): "
            "try again"
        ) from error


def _survey(printed: str, wanted: Mapping[str, tuple[str, int]]) -> Survey:
    listing, _, room = printed.rpartition("room ")
    block_bytes, free_blocks, can_inflate = room.split()
    if listing.strip() == _SAME:
        found = {path: digest for path, (digest, _) in wanted.items()}
        sizes = {path: size for path, (_, size) in wanted.items()}
    else:
        found, sizes = _parse(listing)
    return Survey(found, sizes, int(block_bytes), int(free_blocks), can_inflate == "True")


def _parse(listing: str) -> tuple[dict[str, str], dict[str, int]]:
    found: dict[str, str] = {}
    sizes: dict[str, int] = {}
    for line in listing.splitlines():
        digest, size, path = line.split(" ", 2)
        found[path], sizes[path] = digest, int(size)
    return found, sizes


def require_room(link: Repl, seen: Survey, missing_blocks: int) -> None:
    """Refuse what cannot fit, before anything is written.

    Raises:
        DeviceFull: ``missing_blocks`` more than there are would be needed.
    """
    if missing_blocks > 0:
        missing_kb = -(-(missing_blocks * seen.block_bytes) // 1024)
        raise _full(link, f"{missing_kb} KB more", "nothing was written")


def _full(link: Repl, missing: str, state: str) -> DeviceFull:
    return DeviceFull(
        f"the file system of the board at {link.url} is full: {missing} are needed; {state}. "
        "Remove files from the board and run the command again",
        kind="OSError",
        detail="ENOSPC",
        traceback="",
    )


def write(
    link: Repl, seen: Survey, files: Mapping[str, bytes], progress: Progress | None = None
) -> int:
    """Write ``files``, each atomically and verified; returns how many bytes of commands it took.

    Raises:
        DeviceFull: no room; leaves no half-written file.
        DeviceError: the board failed; the files finished so far are whole.
    """
    total = sum(map(len, files.values()))
    link.exec(_WRITER)
    sent = 0
    for command in _commands(files, seen.can_inflate):
        try:
            link.exec(command.code, COMMAND_TIMEOUT_S)
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


def _commands(files: Mapping[str, bytes], can_inflate: bool) -> Iterator[_Command]:
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
        lines.append(f"_done({path!r}, {sha256(content)!r})")
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


def remove(link: Repl, paths: Iterable[str]) -> None:
    """Remove files, and folders above them that are empty then; those that are gone are fine."""
    paths = list(paths)
    above = {str(folder) for path in paths for folder in PurePosixPath(path).parents}
    folders = sorted(above - {"/"}, reverse=True)
    link.exec(
        f"for _n in {paths!r}:\n _remove(_n)\n"
        f"for _n in {folders!r}:\n try:\n  _o.rmdir(_n)\n except OSError:\n  pass\ndel _n",
        COMMAND_TIMEOUT_S,
    )
