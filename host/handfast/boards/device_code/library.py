"""The device library's modules as trees, and what each global name in them stands for."""

from __future__ import annotations

import ast
import operator
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from handfast.boards.device_code.layout import Layout
from handfast.boards.device_code.scopes import Scope, Scopes

_OPERATORS: Mapping[type[ast.AST], Callable[..., object]] = {
    ast.Add: operator.add,
    ast.BitOr: operator.or_,
    ast.LShift: operator.lshift,
    ast.Sub: operator.sub,
    ast.USub: operator.neg,
}
BY_NAME = frozenset(("getattr", "hasattr", "setattr", "delattr"))
_BY_NAMES_OF_ALL = ("globals", "locals", "vars")
_LITERALS = (int, str, bytes, bool, type(None))


@dataclass(frozen=True, slots=True)
class Global:
    """A global of a module: where it is defined, whoever imports it."""

    module: str
    name: str


class Module:
    """One module's source: its tree without docstrings, and the scopes in it."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.tree = ast.parse(source)
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Global):  # its value here would be taken for a constant
                raise ValueError(f"{name} rebinds the global {node.names[0]} in a function")
            if isinstance(node, ast.Name) and node.id in _BY_NAMES_OF_ALL:
                raise ValueError(f"{name} asks {node.id}() for names, which are others on a board")
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                _drop_docstring(node)
        self.scopes = Scopes(self.tree)

    def own_globals(self) -> Iterator[str]:
        """Yield the names that the module itself defines."""
        scope = self.scopes.module
        return (n for n in scope.bound if n not in scope.imports and n not in scope.foreign)


class Library:
    """All modules; answers what one name of one module means."""

    def __init__(self, sources: Mapping[str, str], layout: Layout) -> None:
        self.layout = layout
        self.modules = {name: Module(name, source) for name, source in sources.items()}
        self._homes = Counter(n for m in self.modules.values() for n in m.own_globals())
        self._changing = set(self._assigned_from_outside())
        self._families = self._find_families()
        self._constants: dict[Global, object] = {}
        for module in self.modules.values():
            self._find_constants(module)
            self._require_known_names(module)

    def _require_known_names(self, module: Module) -> None:
        """Refuse what asks for an attribute by a name that only the running program knows."""
        for where, node in _asking_by_name(module.tree, module.name):
            if where not in self.layout.by_name:
                raise ValueError(
                    f"{where} (line {node.lineno}) asks for an attribute by a name that is not in "
                    "the text: boards have other names; list it as by_name in layout.toml if it "
                    "asks for public ones or MicroPython's"
                )

    def follow(self, module: str, name: str) -> Global:
        """Return the global that a name in a module is, through the modules that hand it on."""
        while (target := self.modules[module].scopes.module.imports.get(name)) is not None:
            if target[1] is None:
                raise ValueError(f"{module}.{name} is a module, not a value")
            module, name = target[0], target[1]
        return Global(module, name)

    def spelling(self, found: Global) -> str:
        """Return a name that no other global of the library has."""
        shared = self._homes[found.name] > 1 and not self.is_public(found)
        return f"{found.name}@{found.module}" if shared else found.name

    def is_public(self, found: Global) -> bool:
        """Whether applications may ask the module for it."""
        if found.name.startswith("__") or f"{found.module}.{found.name}" in self.layout.public:
            return True
        return self._homes[found.name] == 1 and found.name in self.layout.public

    def constant(self, found: Global) -> ast.expr | None:
        """Return the literal that stands for a global; None if it is no constant."""
        if found not in self._constants:
            return None
        return ast.parse(repr(self._constants[found]), mode="eval").body

    def family(self, module: Module, scope: Scope) -> str:
        """Return one name for a class, those that it inherits from and those that inherit."""
        return self._families[Global(module.name, scope.name)]

    def _find_families(self) -> dict[Global, str]:
        family: dict[Global, str] = {}
        bases: list[tuple[Global, Global]] = []
        for module in self.modules.values():
            for node in module.scopes.of:
                if isinstance(node, ast.ClassDef):
                    child = Global(module.name, node.name)
                    family[child] = f"{module.name}.{node.name}"
                    for base in node.bases:
                        if (parent := self._global_of(module, base)) is not None:
                            bases.append((child, parent))
        for child, parent in bases:
            one, other = family[child], family[parent]
            family = {k: one if v == other else v for k, v in family.items()}
        return family

    def _global_of(self, module: Module, node: ast.expr) -> Global | None:
        """Return the library's global that a base class is; None for MicroPython's."""
        if isinstance(node, ast.Attribute):
            owner = self.module_of(module, node.value)
            return None if owner is None else self.follow(owner, node.attr)
        if isinstance(node, ast.Name):
            scope = module.scopes.at[node].resolve(node.id)
            if scope is module.scopes.module and node.id not in scope.foreign:
                return self.follow(module.name, node.id)
        return None

    def _assigned_from_outside(self) -> Iterator[Global]:
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
                    continue
                if (owner := self.module_of(module, node.value)) is not None:
                    yield Global(owner, node.attr)

    def module_of(self, module: Module, node: ast.expr) -> str | None:
        """Return the module of the library that an expression is; None if it is none."""
        if not isinstance(node, ast.Name):
            return None
        scope = module.scopes.at[node].resolve(node.id)
        target = scope.imports.get(node.id) if scope else None
        return target[0] if target and target[1] is None else None

    def _find_constants(self, module: Module) -> None:
        stored = Counter(
            node.id
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Name)
            and isinstance(node.ctx, ast.Store)
            and module.scopes.at[node] is module.scopes.module
        )
        names = self.layout.module_names
        for statement in module.tree.body:
            if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
                continue
            target = statement.targets[0]
            if not isinstance(target, ast.Name) or stored[target.id] != 1:
                continue
            found = Global(module.name, target.id)
            if found in self._changing or f"{found.module}.{found.name}" in names:
                continue
            with suppress(LookupError):  # what is made when the module is run
                self._constants[found] = self._value(module, statement.value)

    def _value(self, module: Module, node: ast.expr) -> object:
        match node:
            case ast.Constant(value=value) if isinstance(value, _LITERALS):
                return value
            case ast.Call(func=ast.Name(id="const"), args=[inner]):
                return self._value(module, inner)
            case ast.Tuple(elts=elements):
                return tuple(self._value(module, element) for element in elements)
            case ast.Name(id=name):
                return self._constants[self.follow(module.name, name)]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return _OPERATORS[ast.USub](self._value(module, operand))
            case ast.BinOp(left=left, op=op, right=right):
                return _OPERATORS[type(op)](self._value(module, left), self._value(module, right))
        raise LookupError


def _asking_by_name(tree: ast.AST, where: str) -> Iterator[tuple[str, ast.Name]]:
    """Yield (module.Class.function, node) of getattr and its like without a literal name."""
    literal = {
        node.func
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
    }
    yield from _unless(literal, tree, where)


def _unless(literal: set[ast.expr], tree: ast.AST, where: str) -> Iterator[tuple[str, ast.Name]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Name) and node.id in BY_NAME and node not in literal:
            yield where, node
        inside = where
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            inside = f"{where}.{node.name}"
        yield from _unless(literal, node, inside)


def _drop_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        del node.body[0]
        if not node.body and not isinstance(node, ast.Module):
            node.body.append(ast.Pass())
