"""What applications, documentation and our own programs ask the library for is there on a board.

Boards get the library with short names (docs/decisions/0021). Whoever asks for a name that is not
among the public ones finds it in the source, on a host, and not on a board.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards.device_code import _own_names, compact
from handfast.boards.device_code.layout import read_layout
from handfast.boards.device_code.library import Library
from handfast.resources import firmware_dir

ROOT = Path(__file__).resolve().parents[3]
LAYOUT = read_layout(firmware_dir() / "layout.toml")
SOURCES = {path.stem: path.read_text() for path in (firmware_dir() / "mtls").glob("*.py")}
LIBRARY = Library(SOURCES, LAYOUT)
FILES = compact(SOURCES, LAYOUT).files
RENAMED = _own_names(LIBRARY)
# What modules give by __getattr__: the package, and aio.
LAZY = {"Session", "Agent", "Store", "MTLSError", "preload"}
LAZY_IN = {("aio", "Agent")}

CODE = re.compile(r"^\s*(from mtls\b|import (.*[ ,])?mtls\b)", re.MULTILINE)
# Boards that these talk to have the source: on the filesystem, or frozen in.
WITH_THE_SOURCE = (
    *("tests/firmware", "tests/fuzz", "tests/host", "tests/end_to_end/test_tls13_build.py"),
    "tests/emulated/test_rp2040_options.py",
)


def is_module(name: str) -> bool:
    return name in FILES or name in LAYOUT.aliases


def is_there(*path: str) -> bool:
    """Say whether a board has ``mtls.<path>``."""
    first, *rest = path
    if first in LAZY or path in LAZY_IN or first.startswith("__"):
        return True
    if not is_module(first) or not rest:
        return is_module(first)
    name = rest[0]
    scope = LIBRARY.modules[first].scopes.module
    if name not in scope.imports and name not in scope.bound:
        return False
    return LIBRARY.is_public(LIBRARY.follow(first, name))


class Reader(ast.NodeVisitor):
    """Collects what a program asks of the library and a board has not."""

    def __init__(self, text: str) -> None:
        tree = ast.parse(text)
        self.missing: list[str] = []
        self._modules = {"mtls": ()}  # name → where it is below the package
        # A program's own classes may call things as they like.
        self._own = {
            getattr(node, "attr", getattr(node, "name", None))
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            or (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
        }
        self.visit(tree)

    def _require(self, *path: str) -> None:
        if path and not is_there(*path):
            self.missing.append(".".join(("mtls", *path)))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            package, *path = alias.name.split(".")
            if package == "mtls":
                self._require(*path)
                if alias.asname:
                    self._modules[alias.asname] = tuple(path)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        package, *path = (node.module or "").split(".")
        if package != "mtls":
            return
        for alias in node.names:
            self._require(*path, alias.name)
            if not path and is_module(alias.name):
                self._modules[alias.asname or alias.name] = (alias.name,)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self._path(node)
        if path is not None:
            self._require(*path)
            return
        if node.attr in RENAMED["attributes"] and node.attr not in self._own:
            self.missing.append(ast.unparse(node))
        self.generic_visit(node)

    def _path(self, node: ast.expr) -> tuple[str, ...] | None:
        if isinstance(node, ast.Name):
            return self._modules.get(node.id)
        if isinstance(node, ast.Attribute):
            above = self._path(node.value)
            if above is None or (above and not is_module(above[-1])):
                return None
            return (*above, node.attr)
        return None

    def visit_keyword(self, node: ast.keyword) -> None:
        if node.arg in RENAMED["keywords"]:
            self.missing.append(f"{node.arg}=")
        self.generic_visit(node)


def missing(text: str) -> list[str]:
    """Return what a program or one call by name asks for that a board has not."""
    if re.fullmatch(r"mtls\.\w+\.\w+", text):
        return [] if is_there(*text.split(".")[1:]) else [text]
    return Reader(text).missing


def programs_in(path: Path) -> Iterator[str]:
    """Yield what a file of the host's has boards run: its texts that import the library."""
    tree = ast.parse(path.read_text())
    pieces = {
        piece for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for piece in node.values
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (p.value if isinstance(p, ast.Constant) else "VALUE" for p in node.values)
            text = "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in pieces:
            # What is filled in later, by format() or %.
            text = re.sub(r"\{\w+(![rs])?\}|%[drs]", "VALUE", node.value)
        else:
            continue
        if CODE.search(text) or re.fullmatch(r"mtls\.\w+\.\w+", text):
            yield text


def programs() -> Iterator[tuple[str, str]]:
    """Yield (where it is, text) of all that runs beside the library on a board."""
    for folder in ("app", "examples"):
        for path in sorted((firmware_dir() / folder).glob("*.py")):
            yield str(path.relative_to(ROOT)), path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = path.read_text()
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            if re.search(r"\bmtls\b", block):
                yield str(path.relative_to(ROOT)), block.replace(", ...)", ")")
        for dotted in re.findall(r"`(mtls\.\w+\.\w+)", text):
            yield str(path.relative_to(ROOT)), dotted
    for top in ("host/handfast", "benchmarks", "tests"):
        for path in sorted((ROOT / top).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            if not where.startswith(WITH_THE_SOURCE) and "give_long_names(" not in path.read_text():
                yield from ((where, text) for text in programs_in(path))


PROGRAMS = list(programs())


@pytest.mark.parametrize("where", sorted({where for where, _ in PROGRAMS}))
def test_what_is_asked_of_the_library_is_there_on_a_board(where: str) -> None:
    for place, text in PROGRAMS:
        if place == where:
            assert missing(text) == [], text


def test_programs_are_found_wherever_there_are_some() -> None:
    """The search itself: each of these is known to have one."""
    found = {where for where, _ in PROGRAMS}
    assert {
        "docs/reference/device-library.md",
        "docs/reference/heap.md",
        "firmware/app/main.py",
        "firmware/examples/rest.py",
        "host/handfast/boards/provision.py",
        "host/handfast/lab/demo/power_cuts.py",
        "tests/emulated/test_rp2040.py",
        "tests/end_to_end/test_rest_examples.py",
        "tests/power_cuts/board_main.py",
    } <= found


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("import mtls\nmtls.Session(1, 2)._connection", ["mtls.Session(1, 2)._connection"]),
        ("import mtls.http", ["mtls.http"]),
        ("from mtls.http import ResponseParser", ["mtls.http.ResponseParser"]),
        ("from mtls import tls", ["mtls.tls"]),
        ("from mtls import clock\nclock._floor()", ["mtls.clock._floor"]),
        ("import mtls.errors as e\ne.MTLSError, e.no_such_error", ["mtls.errors.no_such_error"]),
        ("mtls.provision.no_such", ["mtls.provision.no_such"]),
        ("import mtls\nmtls.Store()._read('x')", ["mtls.Store()._read"]),
        ("import mtls\nclass A:\n def _read(self):\n  return self._read()", []),
    ],
)
def test_what_is_not_public_is_found(text: str, asked: list[str]) -> None:
    assert missing(text) == asked
