"""Where on this machine the code is that a board's traceback speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from handfast.boards.device_library import source_name
from handfast.resources import firmware_dir

_FRAME = re.compile(r'^\s*File "(?P<file>[^"<>]+)", line (?P<line>\d+)(?:, in (?P<function>\w+))?')


def source_roots(files: Path) -> tuple[Path, ...]:
    """Return the folders that a board's files come from: the project's own, then handfast's."""
    return (files, firmware_dir(), firmware_dir() / "app")


def mapped(lines: Iterable[str], roots: Sequence[Path]) -> Iterator[str]:
    """Yield lines; after a traceback's frame, the source file's path, line and text.

    After one of the library's compact form, which knows no lines, the function's own name.

    Args:
        lines: what a board printed.
        roots: folders that hold a board's files, the first that has one counts.
    """
    for line in lines:
        yield line
        if (frame := _FRAME.match(line)) and (source := find_source(frame["file"], roots)):
            number = int(frame["line"])
            text = source.read_text(errors="replace").splitlines()
            if 0 < number <= len(text):
                yield f"    → {source}:{number}: {text[number - 1].strip()}"
        elif frame and (own := source_name(frame["file"], frame["function"] or "")):
            yield f"    → mtls.{own}"


def find_source(name: str, roots: Sequence[Path]) -> Path | None:
    """Return the file that is called ``name`` on a board, from the first folder that has it."""
    relative = name.lstrip("/")
    for root in roots:
        for candidate in (root / relative, root / relative.removeprefix("lib/")):
            if candidate.is_file() and ".." not in candidate.parts:
                return candidate
    return None
