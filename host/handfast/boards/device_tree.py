"""Installs files that belong together as one: a board runs all the old or all the new.

What differs is laid out whole in a folder beside the old tree, file by file, so that a run that was
cut short goes on with what has arrived. One rename then makes the new tree the board's: of the
folder, where the board's boot.py looks for it, and else of boot.py. From there on whoever comes
first, this host or boot.py at the next start, moves each file to its place before anything of the
tree runs; that may be cut short and begun again too. docs/decisions/0022 says why.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from handfast.boards.device_error import DeviceError
from handfast.boards.device_writer import (
    COMMAND_TIMEOUT_S,
    FORGET,
    Progress,
    Repl,
    Survey,
    remove,
    require_room,
    sha256,
    survey,
    write,
)

BOOT = "/boot.py"
NEXT = "/handfast.next"  # whole: it is installed at the next start, if boot.py looks for it
PART = "/handfast.part"  # in the making
SCRIPT = f"{NEXT}/install.py"  # boot.py runs it by this very name

_FOLDER_BLOCKS = 2  # littlefs keeps a folder in a pair
_SPARE_BLOCKS = 6  # what the folders that take the files may need when they are moved in
_LISTED = 4  # paths a line of the script

# Runs at boot, and whatever is missing was done before: it may begin again after any step.
_INSTALL = """\
# Handfast: puts a new version in its place, all of it; boot.py runs this before anything else
import os

NEXT = {next!r}


def there(path):
    try:
        return os.stat(path)
    except OSError as error:
        if error.errno != 2:
            raise


def clear(folder):
    for entry in list(os.ilistdir(folder)):
        path = folder + "/" + entry[0]
        if entry[1] & 0x4000:
            clear(path)
            os.rmdir(path)
        elif path != {script!r}:
            os.remove(path)


for path in (
{moved}):
    if there(NEXT + path):
        os.rename(NEXT + path, path)
for path in (
{removed}):
    if there(path):
        os.remove(path)
for path in (
{emptied}):
    try:
        os.rmdir(path)
    except OSError:
        pass
clear(NEXT)
os.remove({script!r})
os.rmdir(NEXT)
"""

# Whether this board's boot.py runs the script. A board without one, or with another's, does not.
_COMMITS = f"""
def _commits():
    try:
        with open({BOOT!r}) as f:
            return {SCRIPT!r} in f.read()
    except OSError:
        return False
def _clear_way(p):
    try:
        _o.rmdir(p)
    except OSError:
        pass
"""

# The removal of what is not there has littlefs end a rename that a power cut halved: until the
# first change after power-on it hides the file behind the one that was moved out of its folder.
_SETTLE = f"""
import os as _o
{_COMMITS}
try:
    _o.remove('{NEXT}/none')
except OSError:
    pass
try:
    with open({SCRIPT!r}) as _f:
        _s = _f.read()
except OSError:
    _s = None
if _s and _commits():
    exec(_s, {{}})
elif _s:
    _clear_way({PART!r})
    _o.rename({NEXT!r}, {PART!r})
else:
    _clear_way({NEXT!r})
del _o, _s, _commits, _clear_way
globals().pop('_f', None)
"""

_MAKE_WAY = """
def _make_way(p):
    for n in range(1, len(p) + 1):
        if n == len(p) or p[n] == '/':
            try:
                folder = _o.stat(p[:n])[0] & 0x4000
            except OSError as e:
                if e.errno != 2:
                    raise
                break
            if bool(folder) == (n == len(p)):
                raise OSError(p[:n] + ' is in the way')
    _folder(p)
"""

_COMMIT = f"""
{_COMMITS}
_clear_way({NEXT!r})
_o.rename({PART!r}, {NEXT!r})
if not _commits():
    _o.rename({NEXT + BOOT!r}, {BOOT!r})
del _commits, _clear_way
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """What an installation did.

    ``copied`` are the device paths that were put in place; ``resumed`` those of them that had come
    to the board in an earlier run. ``sent_bytes`` are bytes of commands that carried content.
    """

    copied: tuple[str, ...]
    resumed: tuple[str, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    sent_bytes: int
    seconds: float


def settle(link: Repl) -> None:
    """Finish what an earlier installation had decided, or take back what it had not.

    Raises:
        BoardProblem: the board failed; call it again.
    """
    link.exec(_SETTLE, COMMAND_TIMEOUT_S)


def install(
    link: Repl,
    files: Mapping[str, bytes],
    *,
    only_files_below: Sequence[str] = (),
    forget: Iterable[str] = (),
    progress: Progress | None = None,
) -> Installed:
    """Make the board hold all of ``files``, or leave it as it is.

    Only what differs by SHA-256 travels, and only what an earlier run has not brought already. A
    board whose power fails, or that is unplugged, runs all of the old files or all of the new.

    Args:
        link: the board, in a state that :func:`settle` has left.
        files: absolute device path → content; a ``/boot.py`` that runs :data:`SCRIPT` among them.
        only_files_below: folders in which every other file is removed in the same step.
        forget: files that are removed in the same step, if they are there.
        progress: called with bytes of content that have arrived, and in all.

    Raises:
        DeviceFull: no room for old and new side by side; says how much is missing.
        BoardProblem: the board failed; install again to go on.
        ValueError: boot.py is missing, or does not run the script.
    """
    started = time.monotonic()
    if SCRIPT.encode() not in files.get(BOOT, b""):
        raise ValueError(f"{BOOT} must run {SCRIPT}")
    forgotten = tuple(forget)
    seen = survey(link, files, (*only_files_below, PART))
    placed = {p: h for p, h in seen.hashes.items() if not p.startswith(f"{PART}/")}
    differing = {p: c for p, c in files.items() if placed.get(p) != sha256(c)}
    stale = tuple(sorted(path for path in placed if path not in files))
    tree = {PART + path: content for path, content in differing.items()}
    if differing or stale or forgotten:
        kept = {posixpath.dirname(path) for path in files}
        script = _script(differing, (*stale, *forgotten), only_files_below, kept)
        tree[f"{PART}/{posixpath.basename(SCRIPT)}"] = script
    try:
        sent, resumed = _lay_out(link, seen, tree, progress)
        if tree:
            link.exec(f"{_MAKE_WAY}for _n in {list(differing)!r}:\n _make_way(_n)\ndel _make_way")
            link.exec(_COMMIT, COMMAND_TIMEOUT_S)
    except DeviceError:
        link.exec(FORGET)
        raise
    link.exec(FORGET)
    if tree:
        settle(link)
    return Installed(
        copied=tuple(differing),
        resumed=resumed,
        unchanged=tuple(path for path in files if path not in differing),
        removed=stale,
        sent_bytes=sent,
        seconds=time.monotonic() - started,
    )


def _lay_out(
    link: Repl, seen: Survey, tree: Mapping[str, bytes], progress: Progress | None
) -> tuple[int, tuple[str, ...]]:
    """Bring the folder in the making to just ``tree``; returns bytes sent, and what was there."""
    there = {path: digest for path, digest in seen.hashes.items() if path.startswith(f"{PART}/")}
    kept = [path for path, content in tree.items() if there.get(path) == sha256(content)]
    missing = {path: content for path, content in tree.items() if path not in kept}
    require_room(link, seen, _missing_blocks(seen, missing))
    if left_over := [path for path in there if path not in tree]:
        remove(link, left_over)
    sent = write(link, seen, missing, progress) if tree else 0
    return sent, tuple(path.removeprefix(PART) for path in kept)


def _missing_blocks(seen: Survey, missing: Mapping[str, bytes]) -> int:
    folders = {posixpath.dirname(path) for path in missing}
    wanted = sum(seen.blocks(len(content)) for content in missing.values())
    # Those of the new tree, and in the worst case as many at the place where it goes.
    wanted += 2 * _FOLDER_BLOCKS * len(folders) + (_SPARE_BLOCKS if missing else 0)
    return wanted - seen.free_blocks


def _script(
    moved: Iterable[str], removed: Sequence[str], folders: Sequence[str], kept: Collection[str]
) -> bytes:
    """Return what moves the new tree in: the same paths always give the same octets.

    Folders that files are removed from go as well, unless they are ``kept``.
    """
    emptied = {
        posixpath.dirname(path)
        for path in removed
        if any(path.startswith(folder.rstrip("/") + "/") for folder in folders)
    }
    return _INSTALL.format(
        next=NEXT,
        script=SCRIPT,
        moved=_listed(moved),
        removed=_listed(removed),
        emptied=_listed(sorted(emptied.difference(kept), reverse=True)),
    ).encode()


def _listed(paths: Iterable[str]) -> str:
    quoted = [f"{path!r}, " for path in paths]
    rows = ["".join(quoted[n : n + _LISTED]) for n in range(0, len(quoted), _LISTED)]
    return "".join(f"    {row.rstrip()}\n" for row in rows)
