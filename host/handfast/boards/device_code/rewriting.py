"""Writes a module of the device library anew: short names, constants in place, modules joined."""

from __future__ import annotations

import ast
from typing import cast

from handfast.boards.device_code.library import BY_NAME, Global, Library, Module
from handfast.boards.device_code.locals import Locals
from handfast.boards.device_code.naming import Names, Uses
from handfast.boards.device_code.scopes import Scope

PACKAGE = "__init__"  # the file that is the package itself


class Rewriter(ast.NodeTransformer):
    """For one module: gives names their short form, and notes what they are used for."""

    def __init__(
        self, library: Library, module: Module, local: Locals, names: Names, uses: Uses
    ) -> None:
        self._library = library
        self._module = module
        self._local = local
        self._names = names
        self._uses = uses
        self._file = library.layout.file_of(module.name)

    def statements(self) -> list[ast.stmt]:
        """Return the module's body, rewritten in place."""
        self.visit(self._module.tree)
        return self._module.tree.body

    # What a name stands for

    def _bound(self, scope: Scope, name: str) -> str:
        """Return the new spelling of a name bound in a scope."""
        if name in scope.foreign:
            return name
        if scope.kind == "module":
            return self._spell(Global(self._module.name, name))
        if scope.kind == "class":
            return self._attribute(name, self._library.family(self._module, scope))
        return self._local.name(scope, name) or self._keyword(name)

    def _spell(self, found: Global) -> str:
        name = self._library.spelling(found)
        use = self._uses.globals[name]
        use.count += 1
        use.files.add(self._file)
        return self._names.globals.get(name, name)

    def _attribute(self, name: str, family: str | None) -> str:
        use = self._uses.attributes[name]
        use.count += 1
        if family is None:
            use.open = True
        else:
            use.families.add(family)
        return self._names.attributes.get(name, name)

    def _keyword(self, name: str) -> str:
        self._uses.keywords[name].count += 1
        return self._names.keywords.get(name, name)

    def _reference(self, found: Global) -> ast.expr:
        constant = self._library.constant(found)
        return constant or ast.Name(self._spell(found), ast.Load())

    def _scope(self, node: ast.AST, name: str) -> Scope | None:
        return self._module.scopes.at[node].resolve(name)

    # Expressions

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Replace a name by its short form, or by the constant that it stands for."""
        scope = self._scope(node, node.id)
        if scope is not None and self._module.scopes.at[node].kind == "class":
            self._note_in_class(scope, node.id)
        if scope is None:
            self._uses.builtins.add(node.id)
            return node
        if (target := scope.imports.get(node.id)) is not None:
            if target[1] is None:
                return ast.Name(self._whole_file(target[0]), ast.Load())
            return self._reference(self._library.follow(target[0], target[1]))
        if scope.kind == "module" and isinstance(node.ctx, ast.Load):
            constant = self._library.constant(Global(self._module.name, node.id))
            if constant is not None:
                return constant
        return ast.Name(self._bound(scope, node.id), node.ctx)

    def _whole_file(self, module: str) -> str:
        """Return the name of a module that is used as a value: it has to be a file of its own."""
        file = self._library.layout.file_of(module)
        if file == self._file or self._library.layout.order.get(file, (module,)) != (module,):
            raise ValueError(f"{self._module.name}: {module} is used as a value")
        return _module_name(file)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """Replace an attribute's name; what is another module's becomes that module's global."""
        owner = self._library.module_of(self._module, node.value)
        if owner is None:
            node.attr = self._attribute(node.attr, self._family_of(node.value))
            node.value = self.visit(node.value)
            return node
        found = self._library.follow(owner, node.attr)
        file = self._library.layout.file_of(found.module)
        if file == self._file:
            if not isinstance(node.ctx, ast.Load):
                raise ValueError(f"{self._module.name}: {owner}.{node.attr} is set")
            return self._reference(found)
        reference = self._reference(found)
        if not isinstance(reference, ast.Name):
            return reference
        return ast.Attribute(ast.Name(_module_name(file), ast.Load()), reference.id, node.ctx)

    def _family_of(self, node: ast.expr) -> str | None:
        """Return the family of the class whose method's `self` this is; None for anything else."""
        scope = self._scope(node, node.id) if isinstance(node, ast.Name) else None
        if scope is None or scope.parent is None or scope.parent.kind != "class":
            return None
        if not isinstance(node, ast.Name) or scope.parameters[:1] != [node.id]:
            return None
        return self._library.family(self._module, scope.parent)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Replace the name that getattr and its like are given as text."""
        if isinstance(node.func, ast.Name) and node.func.id in BY_NAME:
            name = node.args[1]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                name.value = self._attribute(name.value, None)
        return cast(ast.Call, self.generic_visit(node))

    def visit_keyword(self, node: ast.keyword) -> ast.keyword:
        """Replace a keyword."""
        if node.arg is not None:
            node.arg = self._keyword(node.arg)
        return cast(ast.keyword, self.generic_visit(node))

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Join texts that became constants."""
        node = cast(ast.BinOp, self.generic_visit(node))
        left, right = node.left, node.right
        if isinstance(node.op, ast.Add) and _are_text(left, right):
            return ast.Constant(left.value + right.value)  # type: ignore[attr-defined]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        """Write `a is not b` as `not a is b`: a branch then takes the `not` for nothing."""
        node = cast(ast.Compare, self.generic_visit(node))
        match node.ops:
            case [ast.IsNot()]:
                node.ops = [ast.Is()]
            case [ast.NotIn()]:
                node.ops = [ast.In()]
            case _:
                return node
        return ast.UnaryOp(ast.Not(), node)

    def _note_in_class(self, scope: Scope, name: str) -> None:
        target = scope.imports.get(name, (self._module.name, name))
        if scope.kind == "module" and target[1] is not None:
            found = self._library.follow(target[0], target[1])
            self._uses.globals[self._library.spelling(found)].in_class = True

    # Statements

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        """Name a function."""
        return cast(ast.FunctionDef, self._function(node))

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AsyncFunctionDef:
        """Name a function."""
        return cast(ast.AsyncFunctionDef, self._function(node))

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        scope = self._module.scopes.at[node]
        if scope.kind == "module":
            spelling = self._library.spelling(Global(self._module.name, node.name))
            self._uses.globals[spelling].functions[self._file] = f"{self._module.name}.{node.name}"
        elif scope.kind == "class":
            full = f"{self._module.name}.{scope.name}.{node.name}"
            self._uses.attributes[node.name].functions.setdefault(self._file, full)
        node.name = self._bound(scope, node.name)
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.stmt:
        """Name a class; one that is empty is made by a call, which takes half as much."""
        node.name = self._bound(self._module.scopes.at[node], node.name)
        empty = [type(statement) for statement in node.body] == [ast.Pass]
        node = cast(ast.ClassDef, self.generic_visit(node))
        if not empty or not node.bases or node.decorator_list:
            return node
        self._uses.builtins.add("type")
        bases = ast.Tuple(node.bases, ast.Load())
        made = ast.Call(
            ast.Name("type", ast.Load()), [ast.Constant(node.name), bases, ast.Dict([], [])], []
        )
        return ast.Assign([ast.Name(node.name, ast.Store())], made)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        """Name a parameter."""
        node.arg = self._bound(self._module.scopes.at[node], node.arg)
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        """Name what was caught."""
        if node.name and (scope := self._scope(node, node.name)):
            node.name = self._bound(scope, node.name)
        return cast(ast.ExceptHandler, self.generic_visit(node))

    def visit_Nonlocal(self, node: ast.Nonlocal) -> ast.Nonlocal:
        """Name what belongs to another scope."""
        found = [self._scope(node, name) for name in node.names]
        node.names = [self._bound(s, n) for s, n in zip(found, node.names, strict=True) if s]
        return node

    visit_Global = visit_Nonlocal  # type: ignore[assignment]

    def visit_Assign(self, node: ast.Assign) -> ast.Assign | None:
        """Leave a constant's definition out; say files where modules are listed."""
        target = node.targets[0]
        if self._module.scopes.at[node] is self._module.scopes.module and isinstance(
            target, ast.Name
        ):
            found = Global(self._module.name, target.id)
            if self._library.constant(found) is not None and not self._library.is_public(found):
                return None
            if f"{found.module}.{found.name}" in self._library.layout.module_names:
                node.value = self._files_in(node.value)
        return cast(ast.Assign, self.generic_visit(node))

    def _files_in(self, value: ast.expr) -> ast.expr:
        """Return a tuple of modules as one of files, or a dict without what is in the package."""
        files = self._library.layout.file_of
        modules = ast.literal_eval(value)
        if isinstance(modules, dict):
            found = {name: files(module) for name, module in modules.items()}
            return _literal({name: file for name, file in found.items() if file != PACKAGE})
        kept = dict.fromkeys(files(module) for module in modules)
        return _literal(tuple(file for file in kept if file != PACKAGE))

    # Imports

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.stmt | list[ast.stmt] | None:
        """Leave out what is in the same file; import the rest from where it is."""
        if not node.level:
            node.names = [
                a for a in node.names if (node.module, a.name) != ("micropython", "const")
            ]
            return node if node.names else None
        found: dict[tuple[str, ...], None] = {}
        for alias in node.names:
            if node.module is None:
                file = self._library.layout.file_of(alias.name)
                if file != self._file:
                    found[("module", file)] = None
                continue
            target = self._library.follow(node.module, alias.name)
            file = self._library.layout.file_of(target.module)
            if file != self._file and self._library.constant(target) is None:
                found[("name", file, self._spell(target))] = None
        return [_import(*what) for what in found]

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Visit what is inside; a body that is left empty gets a `pass`."""
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list) and not body and not isinstance(node, ast.Module):
            body.append(ast.Pass())
        return node


def _import(kind: str, file: str, name: str = "") -> ast.stmt:
    if kind == "module":
        if file == PACKAGE:
            return ast.Import([ast.alias(_module_name(file))])
        return ast.ImportFrom(None, [ast.alias(file)], 1)
    return ast.ImportFrom(None if file == PACKAGE else file, [ast.alias(name)], 1)


def _module_name(file: str) -> str:
    return "mtls" if file == PACKAGE else file


def _literal(value: object) -> ast.expr:
    return ast.parse(repr(value), mode="eval").body


def _are_text(left: ast.expr, right: ast.expr) -> bool:
    if not isinstance(left, ast.Constant) or not isinstance(right, ast.Constant):
        return False
    return isinstance(left.value, str | bytes) and type(left.value) is type(right.value)
