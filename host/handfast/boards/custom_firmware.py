"""Builds firmware for real boards that has more than stock: a checkout, a toolchain, our options.

What the options change is never written into the user's checkout: its files are copied and patched.
Nothing is downloaded by us; ESP-IDF's component manager fetches what MicroPython's port for the
ESP32 names (ports/esp32/main/idf_component.yml). A build that cannot be made says everything that
is missing, at once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from handfast.boards import qemu_mps2_build, rp2040_build
from handfast.boards.builder import build_simulator
from handfast.boards.commands import run
from handfast.boards.definition import BoardDefinition, load_board
from handfast.boards.firmware_options import apply_patches, checked, custom_dir, variables
from handfast.boards.make import Make, MakeFailed
from handfast.boards.products import build_failed
from handfast.boards.rp2_build import (
    CXX_FLAGS,
    PICO_SDK_VERSION,
    has_newlib,
    make_libraries,
    percentage,
    write_uf2,
)
from handfast.boards.sources import Progress, cache_dir
from handfast.errors import EnvironmentProblem, UsageError

ESP_IDF_VERSION = "5.4.2"  # which MicroPython 1.26.1 recommends (ports/esp32/README.md)

_CONFIGURE_S = 600.0
_MERGE_S = 120.0
_IDF_BUILD_S = 3600.0
_COMMON_PARTS = ("py", "extmod", "shared", "lib", "tools", "mpy-cross", "drivers")


@dataclass(frozen=True, slots=True)
class CustomFirmware:
    """What was built: ``file`` is what ``handfast board flash --firmware`` takes."""

    board: str
    options: tuple[str, ...]
    file: Path
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Job:
    board: BoardDefinition
    options: tuple[str, ...]
    checkout: Path
    work: Path
    progress: Progress

    @property
    def definition(self) -> Path:
        """The board's MicroPython board definition, in the work folder."""
        return self.work / "board"


def build_custom_firmware(
    name: str,
    options: Sequence[str],
    *,
    micropython: Path | None,
    out: Path,
    progress: Progress = lambda _: None,
) -> CustomFirmware:
    """Build firmware for a board and put it into ``out``.

    Args:
        name: the board's; simulated and emulated ones are built from pinned sources, without a
            checkout.
        options: names of :data:`firmware_options.OPTIONS`.
        micropython: a checkout of the board's version of MicroPython, with its submodules.
        out: a folder; made if it is not there.
        progress: is told, in words, what is going on.

    Raises:
        UsageError: there is no such board or option, or the board has no custom firmware.
        EnvironmentProblem: something that the build needs is missing, or it failed.
    """
    board, chosen = load_board(name), checked(options)
    if board.kind == "simulated":
        made = build_simulator(name, options=chosen, progress=progress)
        return _put(made, board, chosen, out)
    if name == rp2040_build.BOARD:
        made = rp2040_build.build_firmware(options=chosen, progress=progress)
        return _put(made, board, chosen, out)
    if name == qemu_mps2_build.BOARD:
        made = qemu_mps2_build.build_qemu_mps2(options=chosen, progress=progress)
        return _put(made, board, chosen, out)
    port = _PORTS.get(board.port)
    definition = board.folder / "firmware"
    if port is None or not definition.is_dir():
        raise UsageError(f"{name} has no MicroPython board definition: {definition} is not there")
    if idle := set(chosen) & set(port.stock):
        raise UsageError(f"{', '.join(sorted(idle))}: stock firmware of {board.port} has it")
    missing = missing_for(board, micropython)
    if missing or micropython is None:
        listed = "".join(f"\n  - {thing}" for thing in missing)
        raise EnvironmentProblem(f"to build firmware for {name} there is missing:{listed}")
    with tempfile.TemporaryDirectory(prefix=".custom-", dir=cache_dir()) as folder:
        job = _Job(board, chosen, micropython.resolve(), Path(folder), progress)
        if re.search(r"\s", str(job.work)):
            raise EnvironmentProblem(f"make takes no blanks in paths: {job.work}")
        shutil.copytree(definition, job.definition)
        try:
            made = port.build(job, _copy(job))
        except MakeFailed as failure:
            log = "-".join(("custom", name, *chosen))
            raise build_failed(f"firmware for {name}", log, failure) from failure
        return _put(made, board, chosen, out)


def missing_for(board: BoardDefinition, micropython: Path | None) -> list[str]:
    """Return what a build for this board needs and has not, in words with what to do about it."""
    port = _PORTS[board.port]
    wanted = board.firmware.micropython if board.firmware else ""
    missing = [f"{tool}: {how}" for tool, how in port.tools.items() if shutil.which(tool) is None]
    if micropython is None:
        missing.append(
            f"MicroPython {wanted} with its submodules: git clone -b v{wanted} "
            "https://github.com/micropython/micropython, then `make submodules BOARD="
            f"{board.firmware.build if board.firmware else ''}` in ports/{board.port}; "
            "give the folder by --micropython"
        )
    else:
        missing += _wrong_version(micropython, wanted)
        missing += [
            f"{micropython / part}: an empty submodule; run `make submodules` in ports/{board.port}"
            for part in port.submodules
            if not (micropython / part).exists()
        ]
    return missing + port.missing(micropython)


def _wrong_version(micropython: Path, wanted: str) -> list[str]:
    header = micropython / "py" / "mpconfig.h"
    if not header.is_file():
        return [f"MicroPython {wanted}: {micropython} is no checkout of it"]
    found = ".".join(
        _number(header, rf"#define MICROPY_VERSION_{part} (\d+)")
        for part in ("MAJOR", "MINOR", "MICRO")
    )
    if found == wanted:
        return []
    return [f"MicroPython {wanted}: {micropython} is {found}, which the patches were not made for"]


def _number(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else "?"


def _copy(job: _Job) -> Path:
    """Copy what a build needs of the checkout, and patch the copy."""
    job.progress("copying the sources")
    tree = job.work / "micropython"
    for part in (*_COMMON_PARTS, f"ports/{job.board.port}"):
        source = job.checkout / part
        shutil.copytree(source, tree / part, symlinks=True, ignore=_all_but_sources(source))
    trees = {"micropython": tree}
    if job.board.port == "rp2":  # ESP-IDF has an mbedTLS of its own
        trees["mbedtls"] = tree / "lib" / "mbedtls"
    apply_patches(job.options, trees)
    return tree


def _all_but_sources(top: Path) -> Callable[[str, list[str]], set[str]]:
    """Return what tells copytree to leave out git's and Python's files, and builds at the top.

    Deeper, sources are called so too, such as mbedTLS's build_info.h.
    """

    def left_out(folder: str, names: list[str]) -> set[str]:
        builds = ("build", "build-*") if Path(folder) == top else ()
        return shutil.ignore_patterns(".git", "__pycache__", *builds)(folder, names)

    return left_out


def _put(made: Path, board: BoardDefinition, options: Sequence[str], out: Path) -> CustomFirmware:
    out.mkdir(parents=True, exist_ok=True)
    target = out / ("-".join((board.name, *options)) + made.suffix)
    shutil.copy2(made, target)
    content = target.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return CustomFirmware(board.name, tuple(options), target, sha256, len(content))


# ---- Ports ----


@dataclass(frozen=True, slots=True)
class _Port:
    """How firmware of one of MicroPython's ports is built.

    Attributes:
        tools: program → how to get it.
        submodules: a file of each that a build needs.
        missing: says what else is missing, given the checkout.
        build: builds in a job's work folder from the patched tree; returns the image.
        stock: options that stock firmware of this port has.
    """

    tools: dict[str, str]
    submodules: tuple[str, ...]
    missing: Callable[[Path | None], list[str]]
    build: Callable[[_Job, Path], Path]
    stock: tuple[str, ...] = ()


def _rp2_missing(micropython: Path | None) -> list[str]:
    missing = []
    # Without the compiler, what that is told with has the library's package too.
    if shutil.which("arm-none-eabi-gcc") and not has_newlib():
        missing.append("newlib, the C library: apt install libnewlib-arm-none-eabi")
    if micropython is None:
        return missing
    file = micropython / "lib" / "pico-sdk" / "pico_sdk_version.cmake"
    if not file.is_file():
        return missing  # an empty submodule, which is told already
    found = ".".join(
        _number(file, rf"set\(PICO_SDK_VERSION_{part} (\d+)")
        for part in ("MAJOR", "MINOR", "REVISION")
    )
    if found != PICO_SDK_VERSION:
        missing.append(f"pico-sdk {PICO_SDK_VERSION}: it is {found}")
    return missing


def _build_rp2(job: _Job, tree: Path) -> Path:
    loader = job.board.flash.loader if job.board.flash else None
    if loader is None or not loader.uf2_family_ids:
        raise UsageError(f"{job.board.file}: no UF2 family id in [flash]")
    out = job.work / "build"
    settings = {
        "MICROPY_BOARD": job.board.firmware.build if job.board.firmware else job.board.name,
        "MICROPY_BOARD_DIR": job.definition,
        "PICO_NO_PICOTOOL": 1,  # which would be fetched; the tree's uf2conv.py does as well
        "CMAKE_EXE_LINKER_FLAGS": f"-L{make_libraries(job.work)}",
        "HANDFAST_CUSTOM_DIR": custom_dir(),  # also for a build without options
    }
    job.progress("configuring")
    run(
        [
            *("cmake", "-G", "Unix Makefiles", "-S", str(tree / "ports" / "rp2"), "-B", str(out)),
            *(f"-D{key}={value}" for key, value in settings.items()),
            *(f"-D{added}" for added in variables(job.options, "cmake", job.work)),
        ],
        folder=job.work,
        timeout_s=_CONFIGURE_S,
        environment={"CXXFLAGS": CXX_FLAGS},
    )
    Make(out, progress=percentage(job.board.name, job.progress)).run()
    made = job.work / f"{job.board.name}.uf2"
    write_uf2(out / "firmware.bin", made, loader.uf2_family_ids[0], tree)
    return made


def _esp32_missing(_micropython: Path | None) -> list[str]:
    idf = os.environ.get("IDF_PATH")
    how = (
        f"ESP-IDF {ESP_IDF_VERSION}: git clone -b v{ESP_IDF_VERSION} --recursive "
        "https://github.com/espressif/esp-idf, ./install.sh, then `. ./export.sh` in this shell"
    )
    if not idf:
        return [f"{how} (IDF_PATH is not set)"]
    file = Path(idf) / "tools" / "cmake" / "version.cmake"
    if not file.is_file():
        return [f"{how} ({idf} is none)"]
    found = ".".join(
        _number(file, rf"set\(IDF_VERSION_{part} (\d+)") for part in ("MAJOR", "MINOR", "PATCH")
    )
    return [] if found == ESP_IDF_VERSION else [f"{how} ({idf} is {found})"]


def _build_esp32(job: _Job, tree: Path) -> Path:
    port, out = tree / "ports" / "esp32", job.work / "build"
    settings = {
        "MICROPY_BOARD": job.board.firmware.build if job.board.firmware else job.board.name,
        "MICROPY_BOARD_DIR": job.definition,
        "HANDFAST_CUSTOM_DIR": custom_dir(),
    }
    given = [f"{key}={value}" for key, value in settings.items()]
    given += variables(job.options, "cmake", job.work)
    job.progress("building by idf.py")
    # ESP-IDF's tools are told by the environment where everything is.
    run(
        ["idf.py", *(f"-D{setting}" for setting in given), "-B", str(out), "build"],
        folder=port,
        timeout_s=_IDF_BUILD_S,
        environment=dict(os.environ),
    )
    made = job.work / f"{job.board.name}.bin"
    images = ("bootloader/bootloader.bin", "partition_table/partition-table.bin", "micropython.bin")
    run(
        [
            *("python3", "makeimg.py", str(out / "sdkconfig")),
            *(str(out / image) for image in images),
            *(str(made), str(job.work / "unused.uf2")),
        ],
        folder=port,
        timeout_s=_MERGE_S,
        environment=dict(os.environ),
    )
    return made


_MPY_CROSS_TOOLS = {
    "make": "apt install make",
    "gcc": "apt install gcc (the host's own, for mpy-cross)",
}
_PORTS = {
    "rp2": _Port(
        tools={
            "cmake": "apt install cmake",
            **_MPY_CROSS_TOOLS,
            "arm-none-eabi-g++": "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi",
            "patch": "apt install patch",
        },
        submodules=(
            "lib/pico-sdk/pico_sdk_init.cmake",
            "lib/tinyusb/src",
            "lib/mbedtls/library",
            "lib/lwip/src",
            "lib/cyw43-driver/src",
            "lib/btstack/src",
            "lib/micropython-lib/README.md",
        ),
        missing=_rp2_missing,
        build=_build_rp2,
    ),
    "esp32": _Port(
        tools={
            "idf.py": "it comes with ESP-IDF",
            **_MPY_CROSS_TOOLS,
            "patch": "apt install patch",
        },
        submodules=("lib/berkeley-db-1.xx/db", "lib/micropython-lib/README.md"),
        missing=_esp32_missing,
        build=_build_esp32,
        stock=("fast-mbedtls",),  # boards/sdkconfig.base compiles everything by -O2
    ),
}
