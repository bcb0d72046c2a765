"""Builds the firmware of qemu-mps2: MicroPython's qemu port, out of pinned sources."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from handfast.boards.builder import (
    LWIP_VERSION,
    MBEDTLS_VERSION,
    build_mpy_cross,
    counted_lines,
    unpack_sources,
)
from handfast.boards.definition import BoardDefinition, load_board
from handfast.boards.firmware_options import apply_patches, checked, ingredients, variables
from handfast.boards.make import Make
from handfast.boards.products import Product, build, files_hash, product_key
from handfast.boards.sources import Progress, find_source
from handfast.errors import EnvironmentProblem
from handfast.resources import boards_dir

BOARD = "qemu-mps2"

_COMPILER = "arm-none-eabi-gcc"
_PACKAGES = {
    "qemu-system-arm": "qemu-system-arm",
    _COMPILER: "gcc-arm-none-eabi",
    "gcc": "gcc",
    "make": "make",
}


def require_tools() -> None:
    """Check that what builds and runs the board is there.

    Raises:
        EnvironmentProblem: naming the Debian packages that are missing.
    """
    missing = [package for tool, package in _PACKAGES.items() if shutil.which(tool) is None]
    if not _has_newlib():
        missing.append("libnewlib-arm-none-eabi")
    if missing:
        raise EnvironmentProblem(
            f"{BOARD} is built from source and runs in QEMU, which needs {', '.join(missing)}: "
            f"run `apt-get install {' '.join(missing)}` (as root), then try again"
        )


def _has_newlib() -> bool:
    if shutil.which(_COMPILER) is None:
        return False
    # The compiler gives the name back as it is when it does not find the file.
    answer = _ask_compiler("-print-file-name=libc.a")
    return Path(answer).is_absolute()


def _ask_compiler(question: str) -> str:
    asked = subprocess.run([_COMPILER, question], text=True, capture_output=True, check=True)
    return asked.stdout.splitlines()[0]


def build_qemu_mps2(
    *,
    micropython: str | None = None,
    options: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Path:
    """Return the firmware as an ELF file, built if it is not in the cache.

    Args:
        micropython: its version; the board's own by default.
        options: names of :data:`firmware_options.OPTIONS`; none is what stock firmware has.
        progress: is told, in words, what is going on.

    Raises:
        UsageError: there is no such option.
        EnvironmentProblem: no compiler or emulator, no source, no space, or the build failed.
    """
    require_tools()
    board = load_board(BOARD)
    chosen = checked(options)
    version = micropython or _default_version(board)
    shared = boards_dir() / (board.emulator.source if board.emulator else "")
    names = (("micropython", version), ("mbedtls", MBEDTLS_VERSION), ("lwip", LWIP_VERSION))
    sources = [find_source(*name) for name in names]

    def make(work: Path) -> Path:
        cross = build_mpy_cross(micropython=version, progress=progress)
        tree = unpack_sources(sources, work, progress, port="qemu")
        apply_patches(chosen, {"micropython": tree, "mbedtls": tree / "lib" / "mbedtls"})
        progress(f"building {BOARD}")
        # Copies: make takes no blanks in paths, and nothing may change half-way.
        modules = work / "modules"
        shutil.copytree(board.folder, modules / "mps2")
        shutil.copytree(shared, modules / "sim")
        out = work / "build"
        Make(tree / "ports" / "qemu", progress=counted_lines(BOARD, progress)).run(
            f"BUILD={out}",
            f"BOARD={BOARD}",
            f"BOARD_DIR={modules / 'mps2'}",
            f"USER_C_MODULES={modules}",
            f"MICROPY_MPYCROSS={cross}",
            "MICROPY_MPYCROSS_DEPENDENCY=",
            *variables(chosen, "make", work),
        )
        return out / "firmware.elf"

    hashes = (source.sha256 for source in sources)
    key = product_key(
        _ask_compiler("--version"),
        *hashes,
        files_hash(board.folder, shared),
        *ingredients(chosen, "make"),
    )
    return build(Product("-".join((BOARD, version, *chosen)), key, make), progress)


def _default_version(board: BoardDefinition) -> str:
    if board.firmware is None:
        raise EnvironmentProblem(f"{board.name}: board.toml has no [firmware]")
    return board.firmware.micropython
