"""Packs the texts of errors: a board unpacks one when somebody looks at it.

In place of its text an error is given a number, and what is to be put in, and makes a ``Text`` of
them. All texts are one deflated file, which is loaded when a Text is made to a str, and let go of
like other visitors. Only what is said when something fails is packed: what an error class is given,
and what is given to a function that does nothing but raise. A refusal's texts stay: applications
read them.
"""

from __future__ import annotations

import ast
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

_CLASS = """
class Text:
    def __init__(self, number, *given):
        self.number = number
        self.given = given
    def __str__(self):
        try:
            from .texts import unpacked
            return unpacked(self.number) % self.given
        except Exception:
            return "text %d, which there is no room to unpack" % self.number
    def __repr__(self):
        return repr(str(self))
"""
# An error that is given a number has a text; a Refused has its status first.
_INIT = """
def __init__(self, *given):
    if given and isinstance(given[0], int) and not isinstance(self, Refused):
        given = Text(*given),
    super().__init__(*given)
"""
_FILE = """
from io import BytesIO
from deflate import RAW, DeflateIO
_PACKED = {packed!r}
def unpacked(number):
    lines = DeflateIO(BytesIO(_PACKED), RAW, {window_bits})
    for _ in range(number):
        lines.readline()
    return lines.readline()[:-1].decode()
"""
_WINDOW_BITS = 11  # what unpacking takes of a board's heap: 2 KB
_LEAST_CHARACTERS = 10  # shorter ones are no smaller as a number
_HOME, _BASE, _NAME, _FILE_NAME = "errors", "MTLSError", "Text", "texts"
_READ_BY_APPLICATIONS = ("Refused",)


def packed(sources: Mapping[str, str]) -> dict[str, str]:
    """Return the modules with numbers for their errors' texts, and the module of these texts."""
    trees = {name: ast.parse(text) for name, text in sources.items()}
    errors = _errors(trees[_HOME]) if _HOME in trees else set()
    if _BASE not in errors:
        return dict(sources)
    texts: defaultdict[str, list[ast.Constant]] = defaultdict(list)
    for name, tree in trees.items():
        _Packer(texts, errors, _only_raising(tree)).visit(tree)
        if name != _HOME and any(_is_text_class(node) for node in ast.walk(tree)):
            tree.body.insert(0, ast.ImportFrom(_HOME, [ast.alias(_NAME)], 1))
    base = next(n for n in trees[_HOME].body if isinstance(n, ast.ClassDef) and n.name == _BASE)
    base.body += ast.parse(_INIT).body
    if "heap" in trees:
        _let_go_of_texts(trees["heap"])
    lines = sorted(texts)  # alike beside alike: they pack better
    for number, text in enumerate(lines):
        for place in texts[text]:
            place.value = number
    found = {name: ast.unparse(ast.fix_missing_locations(tree)) for name, tree in trees.items()}
    found[_HOME] = _CLASS + found[_HOME]
    found[_FILE_NAME] = _FILE.format(packed=_deflated(lines), window_bits=_WINDOW_BITS)
    return found


def _deflated(lines: Sequence[str]) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -_WINDOW_BITS, memLevel=9)
    return packer.compress("".join(f"{line}\n" for line in lines).encode()) + packer.flush()


def _let_go_of_texts(heap: ast.Module) -> None:
    """Have the module of the texts go before a handshake, with those that the source lists."""
    for node in heap.body:
        match node:
            case ast.Assign(targets=[ast.Name(id="VISITORS")], value=ast.Tuple(elts=listed)):
                listed.append(ast.Constant(_FILE_NAME))


def _errors(tree: ast.Module) -> set[str]:
    """Return the error classes, those excepted whose texts applications read."""
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return classes - set(_READ_BY_APPLICATIONS)


def _only_raising(tree: ast.Module) -> set[str]:
    return {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and all(isinstance(s, ast.Raise) for s in node.body)
    }


class _Packer(ast.NodeTransformer):
    """Replaces texts in one module; `texts` gathers where their numbers are to stand."""

    def __init__(
        self, texts: defaultdict[str, list[ast.Constant]], errors: set[str], raising: set[str]
    ) -> None:
        self._texts = texts
        self._errors = errors
        self._raising = raising

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        """Pack what the function is given that makes the error."""
        kept = self._errors | set(_READ_BY_APPLICATIONS)
        if isinstance(node.exc, ast.Call) and not _is_named(node.exc, kept):
            self._pack(node.exc)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Pack what an error is given, or a function that only raises."""
        if _is_named(node, self._errors | self._raising):
            self._pack(node)
        match node.args:
            case [ast.Call(func=made, args=args)] if _is_text_class(made):
                if _is_named(node, self._errors):  # the error makes the Text itself
                    node.args = args
        return self.generic_visit(node)

    def _pack(self, call: ast.Call) -> None:
        call.args = [self._instead_of(argument) for argument in call.args]

    def _instead_of(self, argument: ast.expr) -> ast.expr:
        parts = list(_parts(argument))
        form = "".join(text for text, _ in parts)
        if len(form) < _LEAST_CHARACTERS or "\n" in form:
            return argument
        given = [value for _, values in parts for value in values]
        number = ast.Constant(0)
        self._texts[form].append(number)
        return ast.Call(ast.Name(_NAME, ast.Load()), [number, *given], [])


def _is_text_class(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == _NAME


def _is_named(call: ast.Call, names: Collection[str]) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id in names


def _parts(node: ast.expr) -> Iterator[tuple[str, list[ast.expr]]]:
    """Yield what a text is put together from: formats, each with what it is given."""
    match node:
        case ast.Constant(value=str(text)):
            yield text.replace("%", "%%"), []
        case ast.BinOp(op=ast.Add()):
            yield from _parts(node.left)
            yield from _parts(node.right)
        case ast.BinOp(op=ast.Mod(), left=ast.Constant(value=str(form)), right=values):
            yield form, values.elts if isinstance(values, ast.Tuple) else [values]
        case _:
            yield "%s", [node]
