"""The device library as a folder that others take it from: mip, or a firmware's manifest.

What is in it is what `provision` gives a board: the compact form. mip installs it as bytecode,
packed unless it is for a MicroPython without `deflate`. A firmware freezes it as source, since its
build goes by names that it gives bytecode itself; a board has no heap to compile a file so large.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from handfast import __version__
from handfast.boards.device_library import compact_source, device_library
from handfast.boards.frozen_library import MARK, mark
from handfast.errors import EnvironmentProblem, UsageError
from handfast.resources import firmware_dir

_COMPILER = "1.26.1"  # of MicroPython; any that makes the version of bytecode would do
_MANIFEST = """\
# Freezes the compact device library into a firmware: FROZEN_MANIFEST, or include() this file.
package("mtls", base_path=".", opt=3)
"""
_OURS = frozenset(("mtls", "package.json", "manifest.py"))


@dataclass(frozen=True, slots=True)
class LibraryPackage:
    """What was written.

    Attributes:
        folder: holds mtls/ and what describes it.
        files: names below mtls/ → bytes.
        mpy: the version of the bytecode; None for source.
    """

    folder: Path
    files: Mapping[str, int]
    mpy: int | None

    @property
    def described(self) -> Path:
        """The file that mip is given (package.json), or a firmware's build (manifest.py)."""
        return self.folder / ("manifest.py" if self.mpy is None else "package.json")


def write_library(
    folder: Path,
    *,
    mpy: int | None,
    packed: bool = True,
    progress: Callable[[str], None] = lambda _: None,
) -> LibraryPackage:
    """Write the compact library with what mip, or a firmware's build, goes by.

    Args:
        folder: is made; what an earlier call left there is replaced.
        mpy: the version of the bytecode; None for source.
        packed: the bytecode in one deflated file.
        progress: is told, in words, what is going on.

    Raises:
        UsageError: the folder holds something else.
        EnvironmentProblem: no compiler makes this version.
    """
    files = _marked_source() if mpy is None else _bytecode(mpy, packed, progress)
    _clear(folder)
    (folder / "mtls").mkdir(parents=True)
    for name, content in files.items():
        (folder / "mtls" / name).write_bytes(content)
    written = LibraryPackage(folder, {name: len(text) for name, text in files.items()}, mpy)
    described = _MANIFEST if mpy is None else _package(files)
    written.described.write_text(described, encoding="utf-8")
    return written


def _marked_source() -> Mapping[str, bytes]:
    """Return what a firmware freezes; provisioning asks a board which source that was made of."""
    return {**compact_source(), MARK: mark(firmware_dir() / "mtls").encode()}


def _package(files: Iterable[str]) -> str:
    urls = [[f"mtls/{name}", f"mtls/{name}"] for name in sorted(files)]
    return json.dumps({"urls": urls, "version": __version__}, indent=2) + "\n"


def _bytecode(mpy: int, packed: bool, progress: Callable[[str], None]) -> Mapping[str, bytes]:
    library = device_library(_COMPILER, mpy, progress)
    if library.compiler is None:
        raise EnvironmentProblem(
            f"no compiler here makes bytecode of version {mpy}: put an mpy-cross that does on the "
            "PATH, or write the source (--source)"
        )
    return library.files_for(inflates=packed)


def _clear(folder: Path) -> None:
    """Remove what an earlier call wrote, and nothing else."""
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if not there <= _OURS:
        raise UsageError(f"{folder} holds more than this library: name another folder")
    shutil.rmtree(folder / "mtls", ignore_errors=True)
    for name in there - {"mtls"}:
        (folder / name).unlink()
