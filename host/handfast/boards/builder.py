"""Builds board firmware from pinned sources, once, into the user's cache.

A build is known by the hash of all that goes into it: source archives, the board's own files, the
compiler. It is made in a temporary folder and renamed into place, under a lock that the kernel
lets go of however the builder ends; so two processes may ask for the same build at once, and what
a killed builder leaves is removed by the next.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.archives import unpack
from handfast.boards.definition import load_board
from handfast.boards.make import Make, MakeFailed
from handfast.boards.sources import Progress, Source, cache_dir, fetch, find_source, locked
from handfast.errors import EnvironmentProblem, UsageError
from handfast.resources import boards_dir

MBEDTLS_VERSION = "3.6.6"

# What a build may have that no stock firmware has, and the make variable of MicroPython's for it.
OPTIONS = {"ecdsa-sign-callback": "MICROPY_PY_SSL_ECDSA_SIGN_ALT=1"}

_RECIPE = "1"  # part of every key: raise it when the steps below change what comes out
_PROGRAM = "micropython"
_SHOWN_LINES = 16  # of the log of a failed build

# What the unix port needs of MicroPython's tree; the rest is documentation, tests and other ports.
_MICROPYTHON_PARTS = ("py/", "extmod/", "shared/", "lib/", "tools/", "mpy-cross/", "ports/unix/")
_MBEDTLS_PARTS = ("include/", "library/")


@dataclass(frozen=True, slots=True)
class _Product:
    """Something that can be built: ``make`` runs in a work folder and returns the file it made."""

    name: str
    key: str
    make: Callable[[Path], Path]


def build_simulator(
    profile: str,
    *,
    micropython: str | None = None,
    options: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Path:
    """Return the simulator program of a board profile, built if it is not in the cache.

    Args:
        profile: a simulated board's name, such as ``sim-pico-w``.
        micropython: the MicroPython version; the board's own by default.
        options: names of :data:`OPTIONS`; none is what stock firmware has.
        progress: is told, in words, what is going on.

    Raises:
        UsageError: there is no such simulated board, or no such option.
        EnvironmentProblem: no compiler, no source, no space, or the build failed.
    """
    board = load_board(profile)
    if board.simulator is None or board.firmware is None:
        raise EnvironmentProblem(f"{profile} is not a simulated board: there is nothing to build")
    if strange := set(options) - set(OPTIONS):
        raise UsageError(f"no build option {', '.join(strange)}; there are: {', '.join(OPTIONS)}")
    version = micropython or board.firmware.micropython
    variables = [OPTIONS[name] for name in sorted(options)]
    variant = boards_dir() / board.simulator.source
    compiler = _compiler_version()
    sources = (find_source("micropython", version), find_source("mbedtls", MBEDTLS_VERSION))

    def make(work: Path) -> Path:
        tree = _unpack_sources(sources, work, progress)
        cross = _product(_mpy_cross(sources[0], compiler, lambda _: tree, progress), progress)
        folders = (variant, board.folder)
        return _make_simulator(profile, folders, variables, tree, cross, work, progress)

    shas = (source.sha256 for source in sources)
    key = _key(compiler, *shas, _files_hash(variant, board.folder), *variables)
    return _product(_Product("-".join((profile, version, *sorted(options))), key, make), progress)


def build_mpy_cross(*, micropython: str, progress: Progress = lambda _: None) -> Path:
    """Return MicroPython's bytecode compiler of a version, built if it is not in the cache.

    Raises:
        EnvironmentProblem: no compiler, no source, no space, or the build failed.
    """
    sources = (find_source("micropython", micropython), find_source("mbedtls", MBEDTLS_VERSION))

    def unpacked(work: Path) -> Path:
        return _unpack_sources(sources, work, progress)

    return _product(_mpy_cross(sources[0], _compiler_version(), unpacked, progress), progress)


# ---- The cache ----


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join((_RECIPE, *parts)).encode()).hexdigest()[:20]


def _files_hash(*folders: Path) -> str:
    """Hash every file that the compiler sees, by name and content."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            if file.suffix in (".c", ".h", ".mk", ".py"):
                name = file.relative_to(folder).as_posix().encode()
                content = file.read_bytes()
                digest.update(b"%d %s %d " % (len(name), name, len(content)) + content)
    return digest.hexdigest()


def _product(product: _Product, progress: Progress) -> Path:
    """Return the product's file from the cache; make it first if it is not there."""
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
            raise _build_failed(product, failure) from failure
        except OSError as error:
            raise EnvironmentProblem(
                f"cannot build {product.name} in {place}: {error.strerror or error}"
            ) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return ready / made.name


def _only_file(folder: Path) -> Path | None:
    return next(folder.iterdir(), None) if folder.is_dir() else None


def _build_failed(product: _Product, failure: MakeFailed) -> EnvironmentProblem:
    logs = cache_dir() / "logs"
    logs.mkdir(exist_ok=True)
    log = logs / f"{product.name}-{product.key}.log"
    log.write_text(failure.output, encoding="utf-8")
    said = "\n".join(_telling_lines(failure.output))
    return EnvironmentProblem(
        f"the build of {product.name} failed ({failure}); from {log}:\n{said}"
    )


def _telling_lines(output: str) -> list[str]:
    """Return what went wrong: the compiler's first error, and the end of the log.

    What make's other jobs and MicroPython's scripts print after the error can be long.
    """
    lines = output.splitlines()
    first = next((number for number, line in enumerate(lines) if "error:" in line), len(lines))
    if first >= len(lines) - _SHOWN_LINES:
        return lines[-_SHOWN_LINES:]
    return [*lines[first : first + _SHOWN_LINES // 3], "...", *lines[-_SHOWN_LINES // 2 :]]


# ---- Steps ----


def _compiler_version() -> str:
    """Return what the compiler says it is, having checked that all needed tools are there."""
    packages = {"make": "make", "gcc": "gcc"}
    missing = [package for tool, package in packages.items() if shutil.which(tool) is None]
    if not missing:
        probe = "#include <stdio.h>\n#include <pthread.h>\n"
        check = subprocess.run(
            ["gcc", "-x", "c", "-fsyntax-only", "-"], input=probe, text=True, capture_output=True
        )
        missing = ["libc6-dev"] if check.returncode else []
    if missing:
        raise EnvironmentProblem(
            f"a simulated board is built from source, which needs {', '.join(missing)}: "
            f"run `apt install {' '.join(missing)}` (as root), then try again"
        )
    answer = subprocess.run(["gcc", "--version"], text=True, capture_output=True, check=True)
    return answer.stdout.splitlines()[0]


def _unpack_sources(sources: Sequence[Source], work: Path, progress: Progress) -> Path:
    micropython, mbedtls = (fetch(source, progress=progress) for source in sources)
    progress("unpacking the sources")
    tree = work / "tree"
    unpack(micropython, tree, parts=_MICROPYTHON_PARTS)
    unpack(mbedtls, tree / "lib" / "mbedtls", parts=_MBEDTLS_PARTS)
    # Its makefile only looks whether the file is there; Debian's archive leaves the folder empty.
    readme = tree / "lib" / "micropython-lib" / "README.md"
    readme.parent.mkdir(exist_ok=True)
    readme.touch()
    return tree


def _mpy_cross(
    source: Source, compiler: str, tree: Callable[[Path], Path], progress: Progress
) -> _Product:
    """MicroPython's bytecode compiler, the same for every board of a version.

    ``tree`` gives MicroPython's unpacked sources; it may use the work folder that it is told.
    """

    def make(work: Path) -> Path:
        sources = tree(work)
        progress("building mpy-cross")
        build = work / "build"
        Make(sources / "mpy-cross", progress=_counted("mpy-cross", progress)).run(f"BUILD={build}")
        return build / "mpy-cross"

    return _Product(f"mpy-cross-{source.version}", _key(compiler, source.sha256), make)


def _make_simulator(
    profile: str,
    folders: tuple[Path, Path],
    variables: Sequence[str],
    tree: Path,
    mpy_cross: Path,
    work: Path,
    progress: Progress,
) -> Path:
    progress(f"building {profile}")
    # Copies: make takes no blanks in paths, and nothing may change half-way.
    for folder, name in zip(folders, ("variant", "profile"), strict=True):
        shutil.copytree(folder, work / name)
    build = work / "build"
    Make(tree / "ports" / "unix", progress=_counted(profile, progress)).run(
        f"BUILD={build}",
        f"VARIANT={profile}",
        f"VARIANT_DIR={work / 'variant'}",
        f"PROFILE_DIR={work / 'profile'}",
        f"MICROPY_MPYCROSS={mpy_cross}",
        "MICROPY_MPYCROSS_DEPENDENCY=",
        "STRIP=strip",
        *variables,
    )
    program = build / _PROGRAM
    os.chmod(program, 0o755)  # noqa: PTH101, S103
    return program


def _counted(name: str, progress: Progress) -> Callable[[str], None]:
    """Turn make's lines into a count of compiled files, told now and then."""
    compiled = 0

    def on_line(line: str) -> None:
        nonlocal compiled
        if line.startswith("CC "):
            compiled += 1
            if compiled % 25 == 0:
                progress(f"building {name}: {compiled} files compiled")

    return on_line
