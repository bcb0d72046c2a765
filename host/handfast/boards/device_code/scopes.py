"""Which binding a name stands for: Python's rules, as far as the device library needs them.

A scope is a module, a class, a function or a comprehension. Names of a module are its globals; of a
class, attributes; of a function, locals. A name that no scope binds is a builtin.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(eq=False)
class Scope:
    """``imports``: local name → (module of the library, name in it or None for the module)."""

    kind: str  # "module", "class" or "function"
    parent: Scope | None
    name: str = ""  # of a class
    parameters: list[str] = field(default_factory=list)
    bound: dict[str, None] = field(default_factory=dict)  # in the order of their first binding
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)  # imported from elsewhere
    elsewhere: set[str] = field(default_factory=set)  # declared nonlocal or global

    def resolve(self, name: str) -> Scope | None:
        """Return the scope whose binding `name` is here; None for a builtin."""
        scope: Scope | None = self
        while scope is not None:
            visible = scope is self or scope.kind != "class"
            if visible and name in scope.bound and name not in scope.elsewhere:
                return scope
            scope = scope.parent
        return None


class Scopes:
    """The scopes of one module, by the nodes that open them."""

    def __init__(self, tree: ast.Module) -> None:
        self.module = Scope("module", None)
        self.of: dict[ast.AST, Scope] = {tree: self.module}
        self.at: dict[ast.AST, Scope] = {}  # the scope that a node's names are looked up in
        for statement in tree.body:
            self._visit(statement, self.module)

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        self.at[node] = scope
        for name in _bindings(node):
            scope.bound.setdefault(name)
        if isinstance(node, ast.ImportFrom) and node.level:
            for alias in node.names:
                target = (node.module, alias.name) if node.module else (alias.name, None)
                scope.imports[alias.asname or alias.name] = target
        elif isinstance(node, ast.Import | ast.ImportFrom):
            scope.foreign.update(_bindings(node))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            scope.elsewhere.update(node.names)
        for child, inside in self._children(node, scope):
            self._visit(child, inside)

    def _children(self, node: ast.AST, scope: Scope) -> Iterator[tuple[ast.AST, Scope]]:
        if isinstance(node, _FUNCTIONS):
            inner = self._open(node, "function", scope)
            arguments = node.args
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            every += [a for a in (arguments.vararg, arguments.kwarg) if a]
            inner.parameters = [argument.arg for argument in every]
            inner.bound.update(dict.fromkeys(inner.parameters))
            self.at.update(dict.fromkeys(every, inner))
            outside = [*arguments.defaults, *filter(None, arguments.kw_defaults)]
            if not isinstance(node, ast.Lambda):
                outside += node.decorator_list
            yield from ((child, scope) for child in outside)
            body = [node.body] if isinstance(node, ast.Lambda) else node.body
            yield from ((child, inner) for child in body)
        elif isinstance(node, ast.ClassDef):
            inner = self._open(node, "class", scope)
            inner.name = node.name
            yield from ((child, scope) for child in [*node.bases, *node.decorator_list])
            yield from ((child, inner) for child in node.body)
        elif isinstance(node, _COMPREHENSIONS):
            inner = self._open(node, "function", scope)
            first = node.generators[0].iter
            yield first, scope
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.comprehension):
                    parts = [child.target, child.iter, *child.ifs]
                    yield from ((part, inner) for part in parts if part is not first)
                else:
                    yield child, inner
        else:
            yield from ((child, scope) for child in ast.iter_child_nodes(node))

    def _open(self, node: ast.AST, kind: str, parent: Scope) -> Scope:
        self.of[node] = Scope(kind, parent)
        return self.of[node]


def _bindings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
        yield node.id
    elif isinstance(
        node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler
    ):
        if node.name:
            yield node.name
    elif isinstance(node, ast.Import | ast.ImportFrom):
        for alias in node.names:
            yield alias.asname or alias.name.partition(".")[0]
