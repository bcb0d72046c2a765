"""The lines of the MKR dialogue, version 1: docs/reference/mkr-dialogue.md says what they mean.

Pure: bytes to values and back. A line that was damaged on its way is no line.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

VERSION = 1
LONGEST_LINE = 160  # with its newline
CHUNK_BYTES = 48
LONGEST_CERTIFICATE = 704  # what the chip's slots 8 and 10 to 13 hold

_LINE = re.compile(r"HF(?P<version>[0-9]{1,3}) (?P<id>[0-9a-f]{4}) (?P<words>[!-~]+(?: [!-~]+)*)")
_ENDING = re.compile(rb"(?P<body>[ -~]+) \*(?P<crc>[0-9a-f]{8})\r?\n?")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: ``id`` ties an answer to its request, ``words`` is at least one."""

    version: int
    id: int
    words: tuple[str, ...]


def encode(number: int, *words: str) -> bytes:
    """Return a line of this version, with its checksum and newline.

    Raises:
        ValueError: it would be longer than a line may be.
    """
    body = " ".join((f"HF{VERSION}", f"{number:04x}", *words)).encode("ascii")
    line = body + b" *%08x\n" % zlib.crc32(body)
    if len(line) > LONGEST_LINE:
        raise ValueError(f"a line of {len(line)} bytes")
    return line


def decode(line: bytes) -> Line | None:
    """Return what a line says, whatever its version; None if it is damaged or something else."""
    ending = _ENDING.fullmatch(line) if len(line) <= LONGEST_LINE else None
    if ending is None or zlib.crc32(ending["body"]) != int(ending["crc"], 16):
        return None
    found = _LINE.fullmatch(ending["body"].decode("ascii"))
    if found is None:
        return None
    return Line(int(found["version"]), int(found["id"], 16), tuple(found["words"].split(" ")))
