"""Lines of Python that simulated boards have run, as coverage.py's data has them.

A simulated board built with ``sys.settrace`` notes them (boards/sim/lines.c). Added here are the
statements for which MicroPython makes no code: no board can note them, but by CPython's rules, as
coverage.py has them, they were run.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from handfast.lab.pytest_plugin.sources import find_source

Lines = dict[Path, set[int]]

NOTES = "*.lines"  # beside the board's flash image


def lines_run(notes: Iterable[Path], roots: Sequence[Path], below: Path) -> Lines:
    """Return the lines that boards have run, by source file of this machine.

    Args:
        notes: the boards' files, with lines ``file:line``.
        roots: folders that hold a board's files; the first that has one counts.
        below: only sources in this folder are measured: coverage.py leaves out what is installed.

    Returns:
        Source → lines. The other sources of a folder that has one are in it without lines, since
        a file that no board has imported is not covered.
    """
    noted = _noted(notes)
    found: Lines = {}
    for name, lines in noted.items():
        source = find_source(name, roots)
        if source is not None and source.resolve().is_relative_to(below.resolve()):
            found.setdefault(source.resolve(), set()).update(lines)
    for folder in {source.parent for source in found}:
        for source in folder.glob("*.py"):
            found.setdefault(source, set())
    return {source: lines | without_code(source, lines) for source, lines in found.items()}


def _noted(notes: Iterable[Path]) -> dict[str, set[int]]:
    noted: defaultdict[str, set[int]] = defaultdict(set)
    for file in notes:
        for line in file.read_text(errors="replace").splitlines():
            name, _, number = line.rpartition(":")
            if name and number.isdigit():
                noted[name].add(int(number))
    return noted


def without_code(source: Path, run: set[int]) -> set[int]:
    """Return the lines of statements that were passed though MicroPython made no code for them.

    Such a statement counts as run if the next one in its block was, else if the one before was,
    else, when the block holds nothing else, if the line that leads into the block was.
    """
    try:
        tree = ast.parse(source.read_bytes())
    except (SyntaxError, ValueError):  # a dialect that coverage.py cannot report on either
        return set()
    found: set[int] = set()
    for header, block in _blocks(tree):
        _fill(header, block, run, found)
    return found


def _blocks(tree: ast.AST) -> Iterator[tuple[int | None, list[ast.stmt]]]:
    """Yield the blocks, the innermost first, each with the line of what leads into it."""
    for node in reversed(list(ast.walk(tree))):
        header = getattr(node, "lineno", None)
        for name in ("finalbody", "orelse", "body"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block:
                # An `else` may be passed by; a `finally` is not.
                yield None if name == "orelse" else header, block


def _fill(header: int | None, block: Sequence[ast.stmt], run: set[int], found: set[int]) -> None:
    def passed(statement: ast.stmt) -> bool:
        return bool({statement.lineno, *_decorators(statement)} & (run | found))

    silent = [statement for statement in block if _has_no_code(statement)]
    for statement in reversed(silent):
        at = block.index(statement)
        after, before = block[at + 1 : at + 2], block[:at][-1:]
        telling = after or before
        if any(map(passed, telling)) or (not telling and header in (run | found)):
            found.update(range(statement.lineno, (statement.end_lineno or statement.lineno) + 1))
    # A loop for ever has no test, and so no code of its own.
    for statement in block:
        if isinstance(statement, ast.While) and isinstance(statement.test, ast.Constant):
            found.update([statement.lineno] if passed(statement.body[0]) else [])


def _decorators(statement: ast.stmt) -> Iterator[int]:
    for decorator in getattr(statement, "decorator_list", ()):
        yield decorator.lineno


def _has_no_code(statement: ast.stmt) -> bool:
    """Say whether MicroPython compiles the statement to nothing (py/compile.c, py/parse.c)."""
    if isinstance(statement, ast.Pass | ast.Global | ast.Nonlocal):
        return True
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.AnnAssign):
        return statement.value is None
    if isinstance(statement, ast.Assign):
        target, value = statement.targets[0], statement.value
        return (
            isinstance(target, ast.Name)
            and target.id.startswith("_")
            and isinstance(value, ast.Call)
            and isinstance(value.func, ast.Name)
            and value.func.id == "const"
        )
    return False
