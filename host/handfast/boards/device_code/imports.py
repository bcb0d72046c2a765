"""One statement for what is imported from one place: each costs a board a tuple and a look-up."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from itertools import groupby

_IMPORTS = (ast.Import, ast.ImportFrom)


def merge_within(tree: ast.AST) -> None:
    """Merge the imports that follow each other in the functions of a tree."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and not isinstance(node, ast.Module):
            node.body = [  # type: ignore[attr-defined]
                statement
                for kind, run in groupby(body, lambda one: isinstance(one, _IMPORTS))
                for statement in (merged(list(run)) if kind else run)
            ]


def merged(imports: Sequence[ast.Import | ast.ImportFrom]) -> list[ast.stmt]:
    """Return imports that do the same, each name once, in the order of their first appearance."""
    modules: dict[tuple[str, str | None], None] = {}
    names: dict[tuple[str | None, int], dict[tuple[str, str | None], None]] = {}
    for statement in imports:
        found = {(alias.name, alias.asname): None for alias in statement.names}
        if isinstance(statement, ast.Import):
            modules.update(found)
        else:
            names.setdefault((statement.module, statement.level), {}).update(found)
    plain: list[ast.stmt] = [ast.Import([ast.alias(*name)]) for name in modules]
    return plain + [
        ast.ImportFrom(module, [ast.alias(*name) for name in of], level)
        for (module, level), of in names.items()
    ]
