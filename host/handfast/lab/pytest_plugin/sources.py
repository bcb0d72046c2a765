"""Where on this machine the code is that a board's traceback speaks of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

_FRAME = re.compile(r'^\s*File "(?P<file>[^"<>]+)", line (?P<line>\d+)')


def mapped(lines: Iterable[str], roots: Sequence[Path]) -> Iterator[str]:
    """Yield lines; after a traceback's frame, the source file's path, line and text.

    Args:
        lines: what a board printed.
        roots: folders that hold a board's files, the first that has one counts.
    """
    for line in lines:
        yield line
        if (frame := _FRAME.match(line)) and (source := _find(frame["file"], roots)):
            number = int(frame["line"])
            text = source.read_text(errors="replace").splitlines()
            if 0 < number <= len(text):
                yield f"    → {source}:{number}: {text[number - 1].strip()}"


def _find(name: str, roots: Sequence[Path]) -> Path | None:
    relative = name.lstrip("/")
    for root in roots:
        for candidate in (root / relative, root / relative.removeprefix("lib/")):
            if candidate.is_file() and ".." not in candidate.parts:
                return candidate
    return None
