"""Builds simulated boards, and MicroPython's bytecode compiler, from pinned sources."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from handfast.boards.archives import unpack
from handfast.boards.definition import load_board
from handfast.boards.firmware_options import apply_patches, checked, ingredients, variables
from handfast.boards.make import Make
from handfast.boards.products import Product, build, files_hash, product_key
from handfast.boards.sources import Progress, Source, fetch, find_source
from handfast.errors import EnvironmentProblem
from handfast.resources import boards_dir

MBEDTLS_VERSION = "3.6.6"
LWIP_VERSION = "2.2.1"

_PROGRAM = "micropython"

# What a port needs of each tree; the rest is documentation, tests and other ports.
_MICROPYTHON_PARTS = ("py/", "extmod/", "shared/", "lib/", "tools/", "mpy-cross/")
_LIBRARY_PARTS = {"mbedtls": ("include/", "library/"), "lwip": ("src/",)}


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
        options: names of :data:`firmware_options.OPTIONS`; none is what stock firmware has.
        progress: is told, in words, what is going on.

    Raises:
        UsageError: there is no such simulated board, or no such option.
        EnvironmentProblem: no compiler, no source, no space, or the build failed.
    """
    board = load_board(profile)
    if board.simulator is None or board.firmware is None:
        raise EnvironmentProblem(f"{profile} is not a simulated board: there is nothing to build")
    chosen = checked(options)
    version = micropython or board.firmware.micropython
    variant = boards_dir() / board.simulator.source
    compiler = _compiler_version()
    sources = (find_source("micropython", version), find_source("mbedtls", MBEDTLS_VERSION))

    def make(work: Path) -> Path:
        tree = unpack_sources(sources, work, progress)
        cross = build(_mpy_cross(sources[0], compiler, lambda _: tree, progress), progress)
        apply_patches(chosen, {"micropython": tree, "mbedtls": tree / "lib" / "mbedtls"})
        folders = (variant, board.folder)
        added = variables(chosen, "make", work)
        return _make_simulator(profile, folders, added, tree, cross, work, progress)

    shas = (source.sha256 for source in sources)
    key = product_key(
        compiler, *shas, files_hash(variant, board.folder), *ingredients(chosen, "make")
    )
    return build(Product("-".join((profile, version, *chosen)), key, make), progress)


def build_mpy_cross(*, micropython: str, progress: Progress = lambda _: None) -> Path:
    """Return MicroPython's bytecode compiler of a version, built if it is not in the cache.

    Raises:
        EnvironmentProblem: no compiler, no source, no space, or the build failed.
    """
    sources = (find_source("micropython", micropython), find_source("mbedtls", MBEDTLS_VERSION))

    def unpacked(work: Path) -> Path:
        return unpack_sources(sources, work, progress)

    return build(_mpy_cross(sources[0], _compiler_version(), unpacked, progress), progress)


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


def unpack_sources(
    sources: Sequence[Source], work: Path, progress: Progress, *, port: str = "unix"
) -> Path:
    """Unpack MicroPython, the first of the sources, and the libraries that go into its tree.

    Args:
        sources: fetched where they are not in the cache.
        work: where the tree is made.
        progress: is told, in words, what is going on.
        port: the folder under MicroPython's ports/ that is wanted.

    Returns:
        The tree.
    """
    archives = [fetch(source, progress=progress) for source in sources]
    progress("unpacking the sources")
    tree = work / "tree"
    unpack(archives[0], tree, parts=(*_MICROPYTHON_PARTS, f"ports/{port}/"))
    for source, archive in zip(sources[1:], archives[1:], strict=True):
        unpack(archive, tree / "lib" / source.name, parts=_LIBRARY_PARTS[source.name])
    # Its makefile only looks whether the file is there; Debian's archive leaves the folder empty.
    readme = tree / "lib" / "micropython-lib" / "README.md"
    readme.parent.mkdir(exist_ok=True)
    readme.touch()
    return tree


def _mpy_cross(
    source: Source, compiler: str, tree: Callable[[Path], Path], progress: Progress
) -> Product:
    """MicroPython's bytecode compiler, the same for every board of a version.

    ``tree`` gives MicroPython's unpacked sources; it may use the work folder that it is told.
    """

    def make(work: Path) -> Path:
        sources = tree(work)
        progress("building mpy-cross")
        out = work / "build"
        Make(sources / "mpy-cross", progress=counted_lines("mpy-cross", progress)).run(
            f"BUILD={out}"
        )
        return out / "mpy-cross"

    return Product(f"mpy-cross-{source.version}", product_key(compiler, source.sha256), make)


def _make_simulator(
    profile: str,
    folders: tuple[Path, Path],
    option_variables: Sequence[str],
    tree: Path,
    mpy_cross: Path,
    work: Path,
    progress: Progress,
) -> Path:
    progress(f"building {profile}")
    # Copies: make takes no blanks in paths, and nothing may change half-way.
    for folder, name in zip(folders, ("variant", "profile"), strict=True):
        shutil.copytree(folder, work / name)
    out = work / "build"
    Make(tree / "ports" / "unix", progress=counted_lines(profile, progress)).run(
        f"BUILD={out}",
        f"VARIANT={profile}",
        f"VARIANT_DIR={work / 'variant'}",
        f"PROFILE_DIR={work / 'profile'}",
        f"MICROPY_MPYCROSS={mpy_cross}",
        "MICROPY_MPYCROSS_DEPENDENCY=",
        "STRIP=strip",
        *option_variables,
    )
    program = out / _PROGRAM
    os.chmod(program, 0o755)  # noqa: PTH101, S103
    return program


def counted_lines(name: str, progress: Progress) -> Callable[[str], None]:
    """Return a reader of make's lines that tells how many files were compiled, now and then."""
    compiled = 0

    def on_line(line: str) -> None:
        nonlocal compiled
        if line.startswith("CC "):
            compiled += 1
            if compiled % 25 == 0:
                progress(f"building {name}: {compiled} files compiled")

    return on_line
