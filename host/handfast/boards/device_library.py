"""The device library in the form that a board takes: compiled for its MicroPython if that can be.

Bytecode costs a board neither a compiler's heap nor its seconds at each boot, and half of the
flash. It is compiled by MicroPython's own compiler, built from the pinned sources of the board's
version, else by an ``mpy-cross`` that is installed. Either is judged by what it makes: a board
loads bytecode of one version of the format. The same compiler gives the same bytes, so that a push
by hash still finds what differs.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from handfast.boards.builder import build_mpy_cross
from handfast.errors import EnvironmentProblem
from handfast.resources import firmware_dir

_COMPILE_TIMEOUT_S = 60
# As manifest.py freezes it: tracebacks name files and functions, without the lines.
_OPTIMISATION = "-O3"


@dataclass(frozen=True, slots=True)
class DeviceLibrary:
    """``files``: names below lib/mtls → contents; ``compiler`` is None where they are source."""

    files: Mapping[str, bytes]
    compiler: str | None


def device_library(
    micropython: str, mpy: int, progress: Callable[[str], None] = lambda _: None
) -> DeviceLibrary:
    """Return the library for a board.

    Args:
        micropython: the board's version, such as ``1.26.1``.
        mpy: its ``sys.implementation._mpy``, whose low octet is the bytecode's version; 0 for none.
        progress: is told, in words, what is going on.
    """
    sources = sorted((firmware_dir() / "mtls").glob("*.py"))
    for name, compiler in _compilers(micropython, progress):
        if compiled := _compile(compiler, sources, mpy & 0xFF):
            return DeviceLibrary(compiled, name)
    return DeviceLibrary({path.name: path.read_bytes() for path in sources}, None)


def _compilers(micropython: str, progress: Callable[[str], None]) -> Iterator[tuple[str, Path]]:
    # Another version than those that are pinned, or a machine without a C compiler: no matter.
    with suppress(EnvironmentProblem):
        yield micropython, build_mpy_cross(micropython=micropython, progress=progress)
    if installed := shutil.which("mpy-cross"):
        yield "installed", Path(installed)


def _compile(compiler: Path, sources: list[Path], version: int) -> dict[str, bytes] | None:
    """Return the modules as bytecode, or None if it is not of that version or not made at all."""
    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="handfast-mpy-") as folder:
        for source in sources:
            out = Path(folder) / f"{source.stem}.mpy"
            command: list[str | Path] = [
                compiler,
                _OPTIMISATION,
                "-s",
                f"mtls/{source.name}",
                "-o",
                out,
                source,
            ]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_TIMEOUT_S)
                found[out.name] = out.read_bytes()
            except (OSError, subprocess.SubprocessError):
                return None
            if found[out.name][:2] != bytes((ord("M"), version)):
                return None
    return found
