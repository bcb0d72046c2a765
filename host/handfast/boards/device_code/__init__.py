"""Makes the device library's source smaller for a board: what it does stays the same.

Modules that are needed together become one file, names that no application uses become short ones,
or ones that every MicroPython has in its ROM, and constants stand where they are used. A board's
tracebacks then speak of the short names: :attr:`Compact.functions` leads back.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from handfast.boards.device_code.imports import merge_within, merged
from handfast.boards.device_code.inlining import inlined
from handfast.boards.device_code.layout import Layout
from handfast.boards.device_code.library import Global, Library
from handfast.boards.device_code.locals import Locals
from handfast.boards.device_code.naming import Names, Uses, choose_names
from handfast.boards.device_code.numbering import numbered_first
from handfast.boards.device_code.rewriting import PACKAGE, Rewriter
from handfast.boards.device_code.texts import packed


@dataclass(frozen=True, slots=True)
class Compact:
    """``files``: name without suffix → source; ``functions``: file → short name → the one in the
    source, with its module."""

    files: Mapping[str, str]
    functions: Mapping[str, Mapping[str, str]]


def compact(sources: Mapping[str, str], layout: Layout) -> Compact:
    """Return the library's modules as the files that a board is given.

    Args:
        sources: module → its text.
        layout: what to join and which names stay.

    Raises:
        ValueError: the source does what cannot be followed from its text.
    """
    sources = packed(inlined(sources, layout))
    uses = Uses(modules=set(sources) | set(layout.order))
    library = Library(sources, layout)
    _rewritten(library, Names(), uses)
    names = choose_names(uses, _own_names(Library(sources, layout)))
    bodies = _rewritten(Library(sources, layout), names, Uses())
    return Compact({file: _text(body) for file, body in bodies.items() if body}, names.functions)


def _rewritten(library: Library, names: Names, uses: Uses) -> dict[str, list[ast.stmt]]:
    kept = _keywords(library) | library.layout.public | library.layout.shared
    bodies: dict[str, list[ast.stmt]] = {}
    for name in _in_order(library):
        module = library.modules[name]
        rewriter = Rewriter(library, module, Locals(module, kept), names, uses)
        bodies.setdefault(library.layout.file_of(name), []).extend(rewriter.statements())
    if library.layout.aliases:
        bodies[PACKAGE].extend(_aliases(library.layout.aliases))
    return bodies


def _in_order(library: Library) -> Iterator[str]:
    for name in library.modules:
        file = library.layout.file_of(name)
        together = library.layout.order.get(file, (name,))
        if name == together[0]:
            yield from together


def _aliases(modules: tuple[str, ...]) -> list[ast.stmt]:
    # Not modules['mtls']: in a packed library the package is another module than this file.
    lines = f"for _ in {modules!r}:\n    modules['mtls.' + _] = modules[__name__]"
    return ast.parse(lines).body


def _text(body: list[ast.stmt]) -> str:
    """Return a file: its imports, each once, before the rest."""
    imports = merged([node for node in body if isinstance(node, ast.Import | ast.ImportFrom)])
    rest = [node for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]
    tree = ast.fix_missing_locations(ast.Module([*imports, *rest], []))
    merge_within(tree)
    text = ast.unparse(tree) + "\n"
    return numbered_first(text) + text


# Names


def _keywords(library: Library) -> set[str]:
    """Return what is given by keyword anywhere."""
    trees = (module.tree for module in library.modules.values())
    nodes = (node for tree in trees for node in ast.walk(tree))
    return {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}


def _own_names(library: Library) -> dict[str, set[str]]:
    """Return the spellings that the library itself gives to things, and nobody else knows."""
    globals_, attributes, keywords = set(), set(), set()
    given = _keywords(library)
    for module in library.modules.values():
        ours = (Global(module.name, name) for name in module.own_globals())
        globals_ |= {library.spelling(one) for one in ours if not library.is_public(one)}
        for scope in module.scopes.of.values():
            if scope.kind == "class":
                attributes |= set(scope.bound)
            keywords |= given & set(scope.parameters)
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                attributes.add(node.attr)
    kept = library.layout.public | library.layout.shared
    found = {"globals": globals_, "attributes": attributes - kept, "keywords": keywords - kept}
    return {kind: {n for n in names if not n.startswith("__")} for kind, names in found.items()}
