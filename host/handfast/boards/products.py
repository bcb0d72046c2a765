"""What is built from pinned sources, made once and kept in the user's cache.

A product is known by the hash of all that goes into it: source archives, the board's own files, the
compiler. It is made in a temporary folder and renamed into place, under a lock that the kernel
lets go of however the builder ends; so two processes may ask for the same product at once, and what
a killed builder leaves is removed by the next.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.make import MakeFailed
from handfast.boards.sources import Progress, cache_dir, locked
from handfast.errors import EnvironmentProblem

_RECIPE = "1"  # part of every key: raise it when the steps of a build change what comes out
_SHOWN_LINES = 16  # of the log of a failed build
_COMPILED = (".c", ".h", ".mk", ".py", ".S", ".ld", ".cmake", ".patch")


@dataclass(frozen=True, slots=True)
class Product:
    """Something that can be built: ``make`` runs in a work folder and returns the file it made."""

    name: str
    key: str
    make: Callable[[Path], Path]


def product_key(*parts: str) -> str:
    """Return the part of a product's name in the cache that all its ingredients decide."""
    return hashlib.sha256("\0".join((_RECIPE, *parts)).encode()).hexdigest()[:20]


def files_hash(*folders: Path) -> str:
    """Hash every file that the compiler sees, by name and content."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            if file.suffix in _COMPILED:
                name = file.relative_to(folder).as_posix().encode()
                content = file.read_bytes()
                digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()


def build(product: Product, progress: Progress) -> Path:
    """Return the product's file from the cache; make it first if it is not there.

    Raises:
        EnvironmentProblem: the build failed, or there is no space.
    """
    builds = cache_dir() / "builds"
    ready = builds / f"{product.name}-{product.key}"
    if (found := _only_file(ready)) is not None:
        return found
    if re.search(r"\s", str(builds)):
        raise EnvironmentProblem(
            f"cannot build in {builds}: make takes no blanks in paths; "
            "set XDG_CACHE_HOME to a folder without"
        )
    # One lock a product: a build may need another product's build while it runs.
    place = builds / f".{product.name}"
    with locked(place, waiting=lambda: progress(f"waiting for another build of {product.name}")):
        if (found := _only_file(ready)) is not None:
            return found
        for leftover in place.iterdir():
            shutil.rmtree(leftover, ignore_errors=True)
        work = Path(tempfile.mkdtemp(dir=place))
        try:
            made = product.make(work)
            finished = work / "finished"
            finished.mkdir()
            made.rename(finished / made.name)
            finished.rename(ready)
        except MakeFailed as failure:
            raise build_failed(product.name, f"{product.name}-{product.key}", failure) from failure
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot build {product.name} in {place}: {error.strerror or error}"
            ) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return ready / made.name


def _only_file(folder: Path) -> Path | None:
    return next(folder.iterdir(), None) if folder.is_dir() else None


def build_failed(what: str, log_name: str, failure: MakeFailed) -> EnvironmentProblem:
    """Return the error of a failed build, having kept its log.

    Args:
        what: was to be built, in words.
        log_name: of the file among the user's logs, without its suffix; an earlier one is replaced.
        failure: of make, or of another step.
    """
    logs = cache_dir() / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{log_name}.log"
    log.write_text(failure.output, encoding="utf-8")
    said = "\n".join(_telling_lines(failure.output))
    return EnvironmentProblem(f"the build of {what} failed ({failure}); from {log}:\n{said}")


def _telling_lines(output: str) -> list[str]:
    """Return what went wrong: the compiler's first error, and the end of the log.

    What make's other jobs and MicroPython's scripts print after the error can be long.
    """
    lines = output.splitlines()
    first = next((number for number, line in enumerate(lines) if "error:" in line), len(lines))
    if first >= len(lines) - _SHOWN_LINES:
        return lines[-_SHOWN_LINES:]
    return [*lines[first : first + _SHOWN_LINES // 3], "...", *lines[-_SHOWN_LINES // 2 :]]
