"""Pinned source archives: found in several places, checked by SHA-256, kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.apt_mirrors import AptConfiguration
from handfast.errors import EnvironmentProblem
from handfast.resources import boards_dir

Progress = Callable[[str], None]

_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 18


@dataclass(frozen=True, slots=True)
class Source:
    """One pinned archive; ``pool`` is its folder in a Debian mirror's pool."""

    name: str
    version: str
    file: str
    sha256: str
    pool: str
    urls: tuple[str, ...]


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


@contextmanager
def locked(folder: Path, *, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold ``folder`` for this process; it is free again when the process ends, however it ends.

    The lock is on the folder itself, so that no lock file stays behind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def find_source(name: str, version: str, *, file: Path | None = None) -> Source:
    """Return the pinned source of that name and version.

    Raises:
        EnvironmentProblem: none is pinned.
    """
    path = boards_dir() / "sim" / "sources.toml" if file is None else file
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["source"]
    for entry in entries:
        if (entry["name"], entry["version"]) == (name, version):
            return Source(**{**entry, "urls": tuple(entry["urls"])})
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
            if _sha256(cached) == source.sha256:
                return cached
            cached.unlink()
        for leftover in folder.glob(".*.part"):
            leftover.unlink()
        pools = [f"{mirror}/pool/{source.pool}" for mirror in (apt or AptConfiguration()).mirrors()]
        for url in (*(f"{pool}/{source.file}" for pool in pools), *source.urls):
            progress(f"downloading {source.file}")
            problem = _download(url, source, cached, progress)
            if problem is None:
                return cached
            tried.append(f"{url}: {problem}")
    raise EnvironmentProblem(
        f"no source for {source.name} {source.version}: {source.file} was not found in\n"
        + "".join(f"  {place}\n" for place in tried)
        + f"Put the file (SHA-256 {source.sha256}) into a folder and set HANDFAST_SOURCES to it."
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


def _download(url: str, source: Source, target: Path, progress: Progress) -> str | None:
    """Fetch ``url`` to ``target``; return why not when the place does not have it."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            request = urllib.request.Request(url, headers={"User-Agent": "handfast"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                total = int(answer.headers.get("Content-Length") or 0)
                while chunk := answer.read(_CHUNK_BYTES):
                    file.write(chunk)
                    if total:
                        progress(f"downloading {source.file}: {100 * file.tell() // total} %")
                if file.tell() < total:
                    return f"the connection ended after {file.tell()} of {total} bytes"
            file.flush()
            os.fsync(file.fileno())
        _verify(Path(name), url, source)
        Path(name).replace(target)
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code}"
    except urllib.error.URLError as error:
        return str(error.reason)
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    except OSError as error:
        raise EnvironmentProblem(f"cannot keep {target}: {error.strerror or error}") from error
    finally:
        Path(name).unlink(missing_ok=True)
    return None


def _verify(path: Path, place: str, source: Source) -> None:
    found = _sha256(path)
    if found != source.sha256:
        raise EnvironmentProblem(
            f"{place} is not the file that {source.name} {source.version} is built from: its "
            f"SHA-256 is {found}, expected {source.sha256}. Remove or replace it."
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
