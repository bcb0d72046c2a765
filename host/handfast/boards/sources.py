"""Pinned source archives: found in several places, checked by hash, kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.addresses import Address
from handfast.boards.apt_mirrors import AptConfiguration
from handfast.errors import EnvironmentProblem
from handfast.resources import boards_dir

Progress = Callable[[str], None]

_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 18
_TRY_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Source:
    """One pinned archive.

    ``pool`` is its folder in a Debian mirror's pool, "" where it is in none. Where ``sha512`` is
    given it is what counts: registries of packages pin by it.
    """

    name: str
    version: str
    file: str
    sha256: str
    pool: str
    urls: tuple[Address, ...]
    sha512: str = ""

    @property
    def pin(self) -> tuple[str, str]:
        """The hash that a copy must have: its algorithm as hashlib calls it, and hex digits."""
        return ("sha512", self.sha512) if self.sha512 else ("sha256", self.sha256)


def cache_dir() -> Path:
    """Return handfast's folder in the user's cache, made if it is not there (XDG base directories).

    Raises:
        EnvironmentProblem: it cannot be made.
    """
    root = os.environ.get("XDG_CACHE_HOME") or ""
    # A relative path there is to be ignored, says the specification.
    base = Path(root) if root.startswith("/") else Path.home() / ".cache"
    folder = base / "handfast"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot make the cache folder {folder}: {error.strerror}; set XDG_CACHE_HOME to a "
            "folder that you may write to"
        ) from error
    return folder


def state_folder(name: str) -> Path:
    """Return a folder in the user's state, made if it is not there (XDG base directories).

    Raises:
        EnvironmentProblem: it cannot be made.
    """
    root = os.environ.get("XDG_STATE_HOME") or ""
    base = Path(root) if root.startswith("/") else Path.home() / ".local" / "state"
    folder = base / "handfast" / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise EnvironmentProblem(
            f"cannot make {folder}: {error.strerror}; set XDG_STATE_HOME to a folder of yours"
        ) from error
    return folder


@contextmanager
def locked(
    folder: Path, *, waiting: Callable[[], None] = lambda: None, within_s: float | None = None
) -> Iterator[None]:
    """Hold ``folder`` for this process; it is free again when the process ends, however it ends.

    The lock is on the folder itself, so that no lock file stays behind.

    Raises:
        TimeoutError: somebody else still has it after ``within_s``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            _wait_for(handle, within_s)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int, within_s: float | None) -> None:
    if within_s is None:
        fcntl.flock(handle, fcntl.LOCK_EX)
        return
    give_up = time.monotonic() + within_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= give_up:
                raise TimeoutError from None
            time.sleep(_TRY_AGAIN_S)


def find_source(name: str, version: str, *, file: Path | None = None) -> Source:
    """Return the pinned source of that name and version.

    Raises:
        EnvironmentProblem: none is pinned.
    """
    path = boards_dir() / "sources.toml" if file is None else file
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["source"]
    for entry in entries:
        if (entry["name"], entry["version"]) == (name, version):
            return Source(**{**entry, "urls": tuple(map(Address.parse, entry["urls"]))})
    pinned = ", ".join(f"{entry['name']} {entry['version']}" for entry in entries)
    raise EnvironmentProblem(f"no source is pinned for {name} {version}; there is: {pinned}")


def fetch(
    source: Source, *, progress: Progress = lambda _: None, apt: AptConfiguration | None = None
) -> Path:
    """Return a verified copy of the archive, from the first place that has it.

    Args:
        source: what to get.
        progress: is told, in words, what is going on.
        apt: where apt's mirrors are read from; the machine's own configuration by default.

    Raises:
        EnvironmentProblem: no place has it, or one has another file under its name.
    """
    tried: list[str] = []
    if (local := _from_folder(source, tried)) is not None:
        return local
    folder = cache_dir() / "sources"
    cached = folder / source.file
    with locked(folder, waiting=lambda: progress("waiting for another download")):
        if cached.is_file():
            if _is_pinned(cached, source):
                return cached
            cached.unlink()
        for leftover in folder.glob(".*.part"):
            leftover.unlink()
        for address in (*_in_pools(source, apt or AptConfiguration(), tried), *source.urls):
            progress(f"downloading {source.file}")
            problem = _download(address, source, cached, progress)
            if problem is None:
                return cached
            tried.append(f"{address}: {problem}")
    raise EnvironmentProblem(
        f"no source for {source.name} {source.version}: {source.file} was not found in\n"
        + "".join(f"  {place}\n" for place in tried)
        + f"Put the file ({_told(source)}) into a folder and set HANDFAST_SOURCES to it."
    )


def _from_folder(source: Source, tried: list[str]) -> Path | None:
    folder = os.environ.get("HANDFAST_SOURCES")
    if not folder:
        tried.append("HANDFAST_SOURCES: not set")
        return None
    path = Path(folder) / source.file
    if not path.is_file():
        tried.append(f"{path}: no such file")
        return None
    _verify(path, str(path), source)
    return path


def _in_pools(source: Source, apt: AptConfiguration, tried: list[str]) -> list[Address]:
    """Return where apt's mirrors would have it; a mirror that is no URL is none."""
    found = []
    for mirror in apt.mirrors() if source.pool else []:
        try:
            found.append(Address.parse(mirror).below(f"pool/{source.pool}/{source.file}"))
        except ValueError as error:
            tried.append(str(error))
    return found


def _download(address: Address, source: Source, target: Path, progress: Progress) -> str | None:
    """Fetch what is there to ``target``; return why not when the place does not have it."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            request = _request(address)
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                total = int(answer.headers.get("Content-Length") or 0)
                told = 0
                while chunk := answer.read(_CHUNK_BYTES):
                    file.write(chunk)
                    tenths = 10 * file.tell() // total if total else 0
                    if tenths > told:  # a log has a line for each
                        progress(f"downloading {source.file}: {10 * tenths} %")
                        told = tenths
                if file.tell() < total:
                    return f"the connection ended after {file.tell()} of {total} bytes"
            file.flush()
            os.fsync(file.fileno())
        _verify(Path(name), address.url, source)
        Path(name).replace(target)
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except (TimeoutError, ConnectionError, http.client.HTTPException, ValueError) as error:
        return str(error) or type(error).__name__
    except OSError as error:
        raise EnvironmentProblem(f"cannot keep {target}: {error.strerror or error}") from error
    finally:
        Path(name).unlink(missing_ok=True)
    return None


def _request(address: Address) -> urllib.request.Request:
    """Ask with the user's name and password, which urllib itself would take for the host's name."""
    request = urllib.request.Request(address.url)  # noqa: S310
    request.add_header("User-Agent", "handfast")
    if address.authorization is not None:
        # Not to be told to whom we are sent on.
        request.add_unredirected_header("Authorization", address.authorization)
    return request


def _verify(path: Path, place: str, source: Source) -> None:
    if not _is_pinned(path, source):
        found = _hash(path, source.pin[0])
        raise EnvironmentProblem(
            f"{place} is not the file that {source.name} {source.version} is built from: its "
            f"hash is {found}, expected {_told(source)}. Remove or replace it."
        )


def _is_pinned(path: Path, source: Source) -> bool:
    algorithm, expected = source.pin
    return _hash(path, algorithm) == expected


def _told(source: Source) -> str:
    algorithm, expected = source.pin
    return f"{algorithm.upper().replace('SHA', 'SHA-')} {expected}"


def _hash(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
