"""The device library in one deflated file, beside a package that reads it: two thirds of the flash.

``library.z`` is

- one octet: how many numbers follow; each is of two octets, little-endian;
- a number for each module, in the order of the names: where it stands; then one more, the size of
  the common beginning;
- a raw deflate stream (window of 4 KB) of the common beginning: a line of the modules' names, each
  as ``/name.mpy``, then some modules, whose numbers say after how many octets behind the line they
  begin. It ends at an octet of the file;
- every other module, as the stream that goes on there. Its number is its place in the file and the
  size of the common beginning.

So no module costs a board more than to inflate the beginning and the module itself. Which modules
are the beginning is in layout.toml: those that have most in common with the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from handfast.boards.deflating import PADDING, deflate

ARCHIVE = "library.z"
CLIENT = "client"  # what the package is called in there, whose place the reader takes
_WINDOW_BITS = 12  # what reading takes of a board's heap: 4 KB, and 1.5 for the codes
_SUFFIX = ".mpy"


def packed(files: Mapping[str, bytes], first: Sequence[str]) -> bytes:
    """Return ``library.z``.

    Args:
        files: names of the modules, as ``name.mpy`` → bytecode.
        first: names without suffix of those that are the beginning.
    """
    modules = {inner_name(name): content for name, content in files.items()}
    line = "".join(f"/{name}{_SUFFIX}" for name in modules).encode() + b"/\n"
    beginning = line + b"".join(modules[name] for name in first)
    others = {name: content for name, content in modules.items() if name not in first}
    deflated = deflate(beginning, others, _WINDOW_BITS)
    common = len(beginning) - len(line) + PADDING
    places, at = {}, 0
    for name in first:
        places[name] = at
        at += len(modules[name])
    at = 1 + 2 * (len(modules) + 1) + len(deflated.beginning)
    for name, piece in deflated.pieces.items():
        places[name] = common + at
        at += len(piece)
    numbers = [*(places[name] for name in modules), common]
    header = bytes((len(numbers),)) + b"".join(n.to_bytes(2, "little") for n in numbers)
    return b"".join((header, deflated.beginning, *deflated.pieces.values()))


def inner_name(name: str) -> str:
    """Return what a module's file is called in there, without its suffix."""
    inner = name.removesuffix(_SUFFIX)
    return CLIENT if inner == "__init__" else inner
