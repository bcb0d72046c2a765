"""The device library in the form that a board takes: compiled for its MicroPython if that can be.

Bytecode costs a board neither a compiler's heap nor its seconds at each boot, and half of the
flash. It is compiled by MicroPython's own compiler, built from the pinned sources of the board's
version, else by an ``mpy-cross`` that is installed. Either is judged by what it makes: a board
loads bytecode of one version of the format. The same compiler gives the same bytes, so that a push
by hash still finds what differs. What is compiled is the compact form of the source (device_code).
A board that can inflate gets it packed: one file, of two thirds of the size (packed_library).
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from handfast.boards.builder import build_mpy_cross
from handfast.boards.device_code import Compact, compact
from handfast.boards.device_code.layout import read_layout
from handfast.boards.packed_library import ARCHIVE, packed
from handfast.errors import EnvironmentProblem
from handfast.resources import firmware_dir

_COMPILE_TIMEOUT_S = 60
# As manifest.py freezes it: tracebacks name modules and functions, without the lines. The module's
# own name for its file is one that a board has in memory anyway.
_OPTIMISATION = "-O3"
_PACKAGE = "mtls"  # the file that the reader of a packed library says it is in
# Boards are provisioned in threads. One makes the compact form, the others wait for it; and
# Python 3.11's ast.parse counts its depth once for all threads (SystemError; CPython's gh-106905).
_making = threading.Lock()


@dataclass(frozen=True, slots=True)
class DeviceLibrary:
    """The library as files.

    Attributes:
        files: names below lib/mtls → contents.
        compiler: None where they are source.
        functions: file → short name of a function → its own; empty where they are source.
        packed: the same as fewer files, for boards whose MicroPython has `deflate`; empty where
            they are source.
    """

    files: Mapping[str, bytes]
    compiler: str | None
    functions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    packed: Mapping[str, bytes] = field(default_factory=dict)

    def files_for(self, *, inflates: bool) -> Mapping[str, bytes]:
        """Return the files for a board that has MicroPython's `deflate`, or has not."""
        return self.packed if inflates and self.packed else self.files


def device_library(
    micropython: str, mpy: int, progress: Callable[[str], None] = lambda _: None
) -> DeviceLibrary:
    """Return the library for a board.

    Args:
        micropython: the board's version, such as ``1.26.1``.
        mpy: its ``sys.implementation._mpy``, whose low octet is the bytecode's version; 0 for none.
        progress: is told, in words, what is going on.
    """
    sources = _sources()
    made = _compact_library()
    for name, compiler in _compilers(micropython, progress):
        if compiled := _compile(compiler, made.files, mpy & 0xFF):
            return DeviceLibrary(compiled, name, made.functions, _pack(compiler, compiled))
    return DeviceLibrary({path.name: path.read_bytes() for path in sources}, None)


def compact_source() -> dict[str, bytes]:
    """Return the compact form as source: names below lib/mtls → contents."""
    files = _made(firmware_dir()).files
    return {f"{name}.py": text.encode() for name, text in files.items()}


def source_name(file: str, function: str) -> str | None:
    """Return ``module.Class.function`` for a name in a traceback; None if it is not ours."""
    return _compact_library().functions.get(file, {}).get(function)


def _compact_library() -> Compact:
    with _making:
        return _made(firmware_dir())


@cache
def _made(firmware: Path) -> Compact:
    sources = {path.stem: path.read_text("utf-8") for path in _sources()}
    return compact(sources, read_layout(firmware / "layout.toml"))


def _sources() -> list[Path]:
    return sorted((firmware_dir() / "mtls").glob("*.py"))


def _compilers(micropython: str, progress: Callable[[str], None]) -> Iterator[tuple[str, Path]]:
    # Another version than those that are pinned, or a machine without a C compiler: no matter.
    with suppress(EnvironmentProblem):
        yield micropython, build_mpy_cross(micropython=micropython, progress=progress)
    if installed := shutil.which("mpy-cross"):
        yield "installed", Path(installed)


def _compile(compiler: Path, sources: Mapping[str, str], version: int) -> dict[str, bytes] | None:
    """Return the modules as bytecode, or None if it is not of that version or not made at all."""
    try:
        found = _bytecode(compiler, tuple(sources.items()))
    except (OSError, subprocess.SubprocessError):
        return None
    header = bytes((ord("M"), version))
    return dict(found) if all(code[:2] == header for _, code in found) else None


def _pack(compiler: Path, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    firmware = firmware_dir()
    reader = (firmware / "packed" / "__init__.py").read_text("utf-8")
    ((_, code),) = _bytecode(compiler, ((_PACKAGE, reader),))
    first = read_layout(firmware / "layout.toml").packed_first
    with _making:
        return {"__init__.mpy": code, ARCHIVE: _packed(tuple(files.items()), first)}


@cache
def _packed(files: tuple[tuple[str, bytes], ...], first: tuple[str, ...]) -> bytes:
    return packed(dict(files), first)


@cache  # of what was made, for the next board; a failure is tried again
def _bytecode(
    compiler: Path, sources: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, bytes], ...]:
    """Return the name and the content of each module's bytecode.

    Raises:
        OSError, subprocess.SubprocessError: it was not made.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="handfast-mpy-") as folder:
        for name, text in sources:
            source = Path(folder) / f"{name}.py"
            source.write_text(text, encoding="utf-8")
            out = source.with_suffix(".mpy")
            command = [str(compiler), _OPTIMISATION, "-s", name, "-o", str(out), str(source)]
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILE_TIMEOUT_S)
            found.append((out.name, out.read_bytes()))
    return tuple(found)
