"""Has the compiler number first what a file uses most.

Bytecode refers to names by number, and those from 128 on take two octets. The compiler numbers them
in the order in which it meets them, and code that is never reached (it leaves that out) counts.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

from handfast.boards.device_code.static_names import PARAMETER_NAMES

_OF_ONE_OCTET = 128
_LEAST_NAMES = 140  # with fewer there is nothing to win
_INTERNED_CHARACTERS = 10  # longer texts are objects with numbers of their own
_LOCAL = re.compile(r"_\d+")


def numbered_first(text: str) -> str:
    """Return what to put before a file's text, "" if it has few names."""
    counts = Counter(_names(ast.parse(text)))
    if len(counts) < _LEAST_NAMES:
        return ""
    most = sorted(counts, key=lambda name: (-counts[name], name))[: _OF_ONE_OCTET - 4]
    names = [name for name in most if name.isidentifier()]
    texts = [repr(name) for name in most if not name.isidentifier()]
    return f"while 1:\n    break\n    {'.'.join(names)}({', '.join(texts)})\n"


def _names(tree: ast.AST) -> Iterator[str]:
    """Yield the names and short texts in the bytecode, as often as it refers to them."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) if name not in PARAMETER_NAMES and not _LOCAL.fullmatch(name):
                yield name
            case ast.Attribute(attr=name) | ast.keyword(arg=str(name)) | ast.arg(arg=name):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield from (name, name)
            case ast.ClassDef(name=name):
                yield from (name, name)
            case ast.alias(name=name):
                yield from (name, name)
            case ast.Constant(value=str(name)) if len(name) <= _INTERNED_CHARACTERS:
                yield name
