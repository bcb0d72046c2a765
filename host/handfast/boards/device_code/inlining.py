"""Puts functions that are called once where they are called: a function costs a board 14 octets.

Only where it is plainly the same. The function is private, the library names it once beside its
definition, and what its locals hold may live as long as the caller's do: a function that imports is
left alone, since what it loads is to go when it ends.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from handfast.boards.device_code.layout import Layout

_NEVER_INSIDE = (
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Global, ast.Nonlocal),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp),
    *(ast.Yield, ast.YieldFrom, ast.Await, ast.Import, ast.ImportFrom),
)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_ENDS = (ast.Return, ast.Raise)

Finish = Callable[[ast.expr | None], list[ast.stmt]]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A function and the body that it is defined in; `owner` is its class, None for a module's."""

    function: ast.FunctionDef
    home: list[ast.stmt]
    owner: ast.ClassDef | None


def inlined(sources: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """Return the modules with such functions in their place; module → text."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    names = _names(trees.values())  # stay as they are: a body is moved, not copied
    kept = layout.public | layout.shared
    for module, tree in trees.items():
        for candidate in list(_candidates(tree)):
            name = candidate.function.name
            private = not name.startswith("__") and not {name, f"{module}.{name}"} & kept
            if not private or candidate.function.decorator_list:
                continue
            nobody_calls = names[name] == 1
            once = names[name] == 2 and _plain(candidate)
            if nobody_calls or (once and _Site(candidate).replace(tree)):
                _remove(candidate)
    return {name: ast.unparse(tree) for name, tree in trees.items()}


def _remove(candidate: _Candidate) -> None:
    candidate.home.remove(candidate.function)
    if not candidate.home:
        candidate.home.append(ast.Pass())


def _candidates(tree: ast.Module) -> Iterator[_Candidate]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield _Candidate(node, tree.body, None)
        elif isinstance(node, ast.ClassDef):
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef):
                    yield _Candidate(inner, node.body, node)


def _names(trees: Iterable[ast.Module]) -> Counter[str]:
    """Return how often the library says each name, whatever it means by it, in texts too."""
    found: Counter[str] = Counter()
    for tree in trees:
        for node in ast.walk(tree):
            for field in ("id", "attr", "name", "arg", "asname"):
                value = getattr(node, field, None)
                if isinstance(value, str):
                    found[value] += 1
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found[node.value] += 1
    return found


def _plain(candidate: _Candidate) -> bool:
    """Whether its parameters are by position only, and its body opens no scope of its own."""
    function = candidate.function
    given = function.args
    extra = (given.vararg, given.kwarg, *given.kwonlyargs, *given.defaults)
    if any(extra):
        return False
    if candidate.owner is not None and not given.args:
        return False
    inside = (node for statement in function.body for node in ast.walk(statement))
    return not any(isinstance(node, _NEVER_INSIDE) for node in inside)


class _Site:
    """Finds the one call of a function, and puts the function's body there if that can be."""

    def __init__(self, candidate: _Candidate) -> None:
        self._candidate = candidate
        self._function = candidate.function
        self._done = False

    def replace(self, tree: ast.Module) -> bool:
        owner = self._candidate.owner
        for function in _functions(tree if owner is None else owner):
            if function is not self._function:
                self._caller = function
                self._in_bodies(function)
        return self._done

    def _in_bodies(self, node: ast.AST) -> None:
        for field in ("body", "orelse", "finalbody"):
            body = getattr(node, field, None)
            if isinstance(body, list):
                setattr(node, field, self._in_body(body))
        for handler in getattr(node, "handlers", ()):
            self._in_bodies(handler)

    def _in_body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        found: list[ast.stmt] = []
        for statement in body:
            if isinstance(statement, _SCOPES):
                found.append(statement)
                continue
            made = None if self._done else self._instead_of(statement)
            if made is None:
                self._in_bodies(statement)
                found.append(statement)
            else:
                self._done = True
                found += made
        return found

    def _instead_of(self, statement: ast.stmt) -> list[ast.stmt] | None:
        """Return what stands for a statement that is the call, or is decided by it."""
        match statement:
            case ast.Return(value=ast.Call() as call) if self._is_it(call):
                return self._returned(call)
            case ast.Expr(value=ast.Call() as call) if self._is_it(call):
                return self._body(call, _dropped)
            case ast.Assign(targets=[ast.Name() as target], value=ast.Call() as call) if (
                self._is_it(call)
            ):
                return self._body(call, lambda value: [_assign(target, value)])
            case ast.If(test=ast.Call() as call) if self._is_it(call):
                return self._decided(statement, call, lambda test: test)
            case ast.If(test=ast.UnaryOp(op=ast.Not() as op, operand=ast.Call() as call)) if (
                self._is_it(call)
            ):
                return self._decided(statement, call, lambda test: ast.UnaryOp(op, test))
        return None

    def _is_it(self, call: ast.Call) -> bool:
        name = self._function.name
        if self._candidate.owner is None:
            named = isinstance(call.func, ast.Name) and call.func.id == name
        else:
            mine = self._caller.args.args[:1]
            named = (
                isinstance(call.func, ast.Attribute)
                and call.func.attr == name
                and isinstance(call.func.value, ast.Name)
                and call.func.value.id == (mine[0].arg if mine else None)
            )
        starred = any(isinstance(argument, ast.Starred) for argument in call.args)
        return named and not call.keywords and not starred

    def _returned(self, call: ast.Call) -> list[ast.stmt] | None:
        begun = self._begun(call)
        if begun is None:
            return None
        first, body = begun
        if not isinstance(body[-1], _ENDS):
            body.append(ast.Return(None))
        return [*first, *body]

    def _body(self, call: ast.Call, finish: Finish) -> list[ast.stmt] | None:
        begun = self._begun(call)
        if begun is None:
            return None
        first, body = begun
        ended = _in_tail(body, finish)
        if ended is None:
            return None
        return [*first, *ended] or [ast.Pass()]

    def _decided(
        self, statement: ast.If, call: ast.Call, test: Callable[[ast.expr], ast.expr]
    ) -> list[ast.stmt] | None:
        answer = f"{self._function.name}__answer"
        target = ast.Name(answer, ast.Store())
        made = self._body(call, lambda value: [_assign(target, value)])
        if made is None:
            return None
        statement.test = test(ast.Name(answer, ast.Load()))
        return [*made, statement]

    def _begun(self, call: ast.Call) -> tuple[list[ast.stmt], list[ast.stmt]] | None:
        """Return what gives the parameters their values, and the body with names of its own."""
        parameters = [argument.arg for argument in self._function.args.args]
        given = list(call.args)
        if self._candidate.owner is not None:
            given.insert(0, ast.Name(self._caller.args.args[0].arg, ast.Load()))
        if len(given) != len(parameters):
            return None
        body = _without_docstring(copy.deepcopy(self._function.body))
        bound = _bound(body)
        if (_read(body) - {*parameters, *bound}) & _all_bound(self._caller):
            return None  # what it reads would be the caller's own there
        names = {name: f"{self._function.name}__{name}" for name in {*parameters, *bound}}
        first: list[ast.stmt] = []
        values: dict[str, ast.expr] = {}
        fixed = _fixed(self._caller)
        for name, value in zip(parameters, given, strict=True):
            simple = isinstance(value, ast.Constant) or (
                isinstance(value, ast.Name) and value.id in fixed
            )
            if simple and name not in bound:
                values[name] = value
            else:
                first.append(_assign(ast.Name(names[name], ast.Store()), value))
        renamer = _Renamer(names, values)
        return first, [renamer.visit(statement) for statement in body]


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def _read(body: list[ast.stmt]) -> set[str]:
    nodes = (node for statement in body for node in ast.walk(statement))
    return {node.id for node in nodes if isinstance(node, ast.Name)}


def _all_bound(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return every name that a function, or what is within it, binds in any way."""
    found: set[str] = set()
    for node in ast.walk(function):
        match node:
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name.partition(".")[0])
            case ast.ExceptHandler(name=str(name)):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                if node is not function:
                    found.add(name)
            case ast.ClassDef(name=name):
                found.add(name)
    return found


def _fixed(caller: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the caller's own names that are bound once: nothing changes them meanwhile."""
    stored = Counter(argument.arg for argument in caller.args.args)
    shared: set[str] = set()
    for statement in caller.body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                stored[node.id] += 1
            elif isinstance(node, ast.ExceptHandler) and node.name:
                stored[node.name] += 2
            elif isinstance(node, ast.Nonlocal):
                shared.update(node.names)
    return {name for name, times in stored.items() if times == 1} - shared


def _bound(body: Sequence[ast.stmt]) -> set[str]:
    found = set()
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                found.add(node.id)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                found.add(node.name)
    return found


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    told = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return (body[1:] if told else body) or [ast.Pass()]


class _Renamer(ast.NodeTransformer):
    """Gives a body's names the spelling that they have in the caller, or the caller's values."""

    def __init__(self, names: Mapping[str, str], values: Mapping[str, ast.expr]) -> None:
        self._names = names
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Rename, or replace by a value."""
        if node.id in self._values:
            return copy.deepcopy(self._values[node.id])
        return ast.Name(self._names.get(node.id, node.id), node.ctx)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.AST:
        """Rename what was caught."""
        if node.name:
            node.name = self._names.get(node.name, node.name)
        return self.generic_visit(node)


def _assign(target: ast.Name, value: ast.expr | None) -> ast.stmt:
    return ast.Assign([target], value or ast.Constant(None), lineno=0)


def _dropped(value: ast.expr | None) -> list[ast.stmt]:
    return [] if value is None or isinstance(value, ast.Constant | ast.Name) else [ast.Expr(value)]


def _in_tail(body: Sequence[ast.stmt], finish: Finish) -> list[ast.stmt] | None:
    """Return a body whose returns do `finish` and reach the end; None if one stands elsewhere."""
    found: list[ast.stmt] = []
    for number, statement in enumerate(body):
        rest = body[number + 1 :]
        if isinstance(statement, ast.Return):
            return found + finish(statement.value)
        if not any(isinstance(node, ast.Return) for node in ast.walk(statement)):
            found.append(statement)
            if isinstance(statement, ast.Raise):
                return found
            continue
        if not isinstance(statement, ast.If):
            return None
        if rest and (statement.orelse or not isinstance(statement.body[-1], _ENDS)):
            return None
        inside = _in_tail(statement.body, finish)
        otherwise = _in_tail(statement.orelse or rest, finish)
        if inside is None or otherwise is None:
            return None
        found.append(_if(statement.test, inside, otherwise))
        return found
    return found + finish(None)


def _if(test: ast.expr, inside: list[ast.stmt], otherwise: list[ast.stmt]) -> ast.stmt:
    if not inside and otherwise:
        return ast.If(ast.UnaryOp(ast.Not(), test), otherwise, [])
    return ast.If(test, inside or [ast.Pass()], otherwise)
