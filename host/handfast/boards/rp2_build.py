"""What every build of MicroPython's rp2 port does, from whichever sources."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from handfast.boards.commands import run
from handfast.boards.sources import Progress

PICO_SDK_VERSION = "2.1.1"  # MicroPython 1.26.1's submodule
CXX_FLAGS = "-DPICO_CXX_DISABLE_ALLOCATION_OVERRIDES=1"  # there is no C++ library: see below

_FLASH_START = "0x10000000"
_CONVERT_S = 120.0


def has_newlib(*flags: str) -> bool:
    """Say whether the cross compiler, which is there, finds its C library."""
    probe = ["arm-none-eabi-gcc", *flags, "-x", "c", "-fsyntax-only", "-"]
    check = subprocess.run(probe, input="#include <stdio.h>\n", text=True, capture_output=True)
    return check.returncode == 0


def make_libraries(work: Path) -> Path:
    """Make a folder for the linker to look into.

    The SDK links as C++ without using it: an empty library in place of one of 300 MB.

    Raises:
        MakeFailed: the archiver failed.
    """
    libraries = work / "libraries"
    libraries.mkdir()
    run(["arm-none-eabi-ar", "rcs", "libstdc++.a"], folder=libraries, timeout_s=_CONVERT_S)
    return libraries


def write_uf2(binary: Path, uf2: Path, family: int, tree: Path) -> None:
    """Write the UF2 file of an image, by MicroPython's own script: picotool would be fetched.

    Raises:
        MakeFailed: the script failed.
    """
    run(
        [
            *(sys.executable, str(tree / "tools" / "uf2conv.py"), "-f", f"{family:#x}"),
            *("-b", _FLASH_START, "-c", "-o", str(uf2), str(binary)),
        ],
        folder=uf2.parent,
        timeout_s=_CONVERT_S,
    )


def percentage(name: str, progress: Progress) -> Callable[[str], None]:
    """Turn the lines of CMake's makefiles into tenths, told as they are reached."""
    told = 0

    def on_line(line: str) -> None:
        nonlocal told
        match = re.match(r"\[ *(\d+)%\]", line)
        if match and int(match[1]) >= told + 10:
            told = int(match[1])
            progress(f"building {name}: {told} %")

    return on_line
