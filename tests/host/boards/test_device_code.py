"""The compact form of the device library means what the source means."""

from __future__ import annotations

import ast
import builtins
import re
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from handfast.boards.builder import build_simulator
from handfast.boards.device_code import compact
from handfast.boards.device_code.inlining import inlined
from handfast.boards.device_code.layout import Layout, read_layout
from handfast.boards.device_code.library import Library
from handfast.boards.device_code.static_names import PARAMETER_NAMES, STATIC_NAMES
from handfast.boards.device_code.texts import packed
from handfast.boards.device_library import device_library
from handfast.boards.sources import fetch, find_source
from handfast.resources import firmware_dir

LAYOUT = read_layout(firmware_dir() / "layout.toml")
SOURCES = {path.stem: path.read_text() for path in (firmware_dir() / "mtls").glob("*.py")}
FILES = compact(SOURCES, LAYOUT).files


def layout(public: str = "", **files: tuple[str, ...]) -> Layout:
    joined = {module: name for name, modules in files.items() for module in modules}
    return Layout(joined, files, (), frozenset(public.split()), frozenset(), frozenset())


def run(folder: Path, files: dict[str, str], expression: str) -> str:
    """Import a package of these files in a Python of its own; return what `print` makes of it."""
    package = folder / "mtls"
    package.mkdir()
    for file, text in ({"__init__": ""} | files).items():
        (package / f"{file}.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", f"import mtls.two\nprint({expression})"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


ONE = """
from micropython import const
_LIMIT = const(7)
_TEXT = const("a text that is longer than a name")
TAKEN = b"a" + b"b"
def _same(x, more=2):
    return x + more + _LIMIT
class Base:
    kind = "base"
    def __init__(self, count):
        self._count = count
    def _next(self):
        self._count += 1
        return self._count
class Failure(Exception):
    pass
def answer(x):
    return _same(x, more=1), _TEXT, TAKEN
"""
TWO = """
from . import one
from .one import Base, Failure, TAKEN
def _same(x):
    return "two", x
class Derived(Base):
    def twice(self):
        add = lambda n: n + self._next()
        return [add(n) for n in (10, 20)], getattr(self, "_count"), self.kind
def everything(x):
    total = 0
    def inner(y):
        nonlocal total
        total += y
        return x
    try:
        raise Failure("gone")
    except Failure as error:
        told = str(error), type(error).__name__
    return inner(3), total, _same(x), one.answer(x), Derived(0).twice(), TAKEN, told
"""
EXPECTED = (
    *(5, 3, ("two", 5), (13, "a text that is longer than a name", b"ab")),
    *(([11, 22], 2, "base"), b"ab", ("gone", "Failure")),
)


@pytest.mark.parametrize(
    "made",
    [layout("everything Failure"), layout("everything Failure", two=("one", "two"))],
    ids=["two files", "one file"],
)
def test_what_it_computes_is_what_the_source_computes(tmp_path: Path, made: Layout) -> None:
    files = compact({"one": ONE, "two": TWO}, made).files
    assert not {"_count", "Derived", "_same", "TAKEN"} & set(
        re.findall(r"\w+", "".join(files.values()))
    )
    assert run(tmp_path, dict(files), "mtls.two.everything(5)") == repr(EXPECTED)


def test_no_global_is_called_as_a_parameter_that_keeps_its_name(tmp_path: Path) -> None:
    """A parameter that applications know is a local where the function imports a global."""
    known = STATIC_NAMES[0]  # the one that a global would be called by first
    one = "def one_of_ours(x):\n    return x + 1\n"
    two = f"def f({known}):\n    from .one import one_of_ours\n    return one_of_ours({known}), 0\n"
    files = compact({"one": one, "two": two}, layout(f"f {known}")).files
    assert run(tmp_path, dict(files), f"mtls.two.f({known}=1)") == "(2, 0)"


def test_a_traceback_s_names_lead_back_to_the_source() -> None:
    made = compact({"one": ONE, "two": TWO}, layout("everything", two=("one", "two")))
    named = made.functions["two"]
    defined = [
        n.name for n in ast.walk(ast.parse(made.files["two"])) if isinstance(n, ast.FunctionDef)
    ]
    found = {named[name] for name in defined if name in named}
    assert {"one.Base._next", "one._same", "two._same", "two.Derived.twice"} <= found


@pytest.mark.parametrize(
    "text",
    [
        "from . import one\ndef f(g):\n    return g(one)\n",  # a module that is no file, as a value
        "from . import one\ndef f():\n    one.TAKEN = 1\n",
        "STATE = None\ndef f():\n    global STATE\n    STATE = 1\n",
        "def f():\n    return locals()\n",
        "def f(x, name):\n    return getattr(x, name)\n",
        "def f(x, name):\n    return getattr(x, '_' + name, None)\n",
        "class F:\n    def f(self, name):\n        setattr(self, name, 1)\n",
        "def f(x):\n    return [hasattr(x, name) for name in 'ab']\n",
        "def f(x, names):\n    return map(lambda name: delattr(x, name), names)\n",
        "def f(x, names):\n    return map(getattr, names)\n",
    ],
)
def test_what_cannot_be_followed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"one|STATE|locals|two\.(F\.)?f \(line \d\)"):
        compact({"one": ONE, "two": text}, layout("f", two=("one", "two")))


def test_what_is_listed_may_ask_by_name(tmp_path: Path) -> None:
    text = "def f(x, name):\n    return getattr(x, name)\n"
    made = replace(layout("f"), by_name=frozenset(("two.f",)))
    files = compact({"two": text}, made).files
    assert run(tmp_path, dict(files), "mtls.two.f(3, 'real')") == "3"


def test_whatever_is_listed_asks_by_name() -> None:
    for name in LAYOUT.by_name:
        with pytest.raises(ValueError, match=re.escape(name)):
            Library(SOURCES, replace(LAYOUT, by_name=LAYOUT.by_name - {name}))


CALLED_ONCE = """
class Box:
    def __init__(self):
        self.log = []
    def run(self, n):
        m = n + 1
        answer = self._early(n)
        self._noted(m, n * 2)
        if not self._odd(n):
            m += 100
        for i in range(3):
            if _big(i, m):
                break
        return self._told(m, answer)
    def _early(self, n):
        if n == 1:
            return "one"
        m = n * 10
        if n == 2:
            m += 1
            return m
        return "many", m
    def _noted(self, m, twice):
        m = [m, twice]
        self.log.append(m)
    def _odd(self, n):
        return n % 2
    def _told(self, m, answer):
        for one in self.log:
            if one[-1] == 4:
                return "four"
        try:
            return [m, answer, list(self.log), {}[m]]
        except KeyError as error:
            self.log.append(str(error))
    def public(self):
        return self.log
    def _unused(self):
        return self.log
def _big(i, m):
    return i > m
def _lost():
    import sys
    return sys.maxsize
def _twice(n):
    return _twice(n - 1) if n else 0
def everything(x):
    box = Box()
    _raised(x) if x < 0 else None
    return [box.run(n) for n in (x, 1, 2, 3)], box.public(), _lost() > x, _later(x)()
def _raised(x):
    raise ValueError(x)
def _later(x):
    return lambda: x
"""


def test_a_function_that_is_called_once_stands_where_it_is_called(tmp_path: Path) -> None:
    made = inlined({"two": CALLED_ONCE}, layout("everything public"))["two"]
    gone = [name for name in re.findall(r"def (_[a-z]+)", CALLED_ONCE) if f"def {name}" not in made]
    assert gone == ["_early", "_noted", "_odd", "_told", "_unused", "_big"]
    for x in (2, 3, 4):
        call = f"mtls.two.everything({x})"
        plain, compacted = tmp_path / f"plain{x}", tmp_path / f"made{x}"
        plain.mkdir()
        compacted.mkdir()
        assert run(plain, {"two": CALLED_ONCE}, call) == run(compacted, {"two": made}, call)


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ("def run(limit):\n    return _helper(limit)", "6"),
        ("def run(x):\n    limit = lambda: 9\n    y = _helper(x)\n    return y", "6"),
        ("def run(x):\n    import os as limit\n    return _helper(x)", "6"),
        ("def run(*limit):\n    return _helper(limit[0])", "6"),
        ("def run(x):\n    return [_helper(x) for limit in (1, 2)]", "[6, 6]"),
    ],
)
def test_a_moved_body_reads_no_name_of_its_caller(
    tmp_path: Path, caller: str, expected: str
) -> None:
    text = f"def limit():\n    return 5\ndef _helper(x):\n    return limit() + x\n{caller}\n"
    files = compact({"two": text}, layout("run limit")).files
    assert run(tmp_path, dict(files), "mtls.two.run(1)") == expected


@pytest.mark.parametrize("error", ["NotAllowed(404)", "Failed('one', 'two')", "MTLSError('a\\nb')"])
def test_an_application_s_own_errors_say_what_they_are_given(tmp_path: Path, error: str) -> None:
    ours = "class MTLSError(Exception):\n    pass\nclass Refused(MTLSError):\n    pass\n"
    theirs = (
        "from .errors import MTLSError, Refused\n"
        "class NotAllowed(Refused):\n    pass\nclass Failed(MTLSError):\n    pass\n"
        f"def run():\n    return str({error}), {error}.args\n"
    )
    sources = {"errors": ours, "two": theirs}
    made = compact(sources, layout("run MTLSError Refused NotAllowed Failed")).files
    plain, compacted = tmp_path / "plain", tmp_path / "made"
    plain.mkdir()
    compacted.mkdir()
    files = {name: text for name, text in made.items() if name != "texts"}
    assert run(compacted, files, "mtls.two.run()") == run(plain, sources, "mtls.two.run()")


def test_a_text_and_what_is_put_in_fit_each_other() -> None:
    numbers = ast.parse(FILES["texts"])
    blob = next(n.value for n in ast.walk(numbers) if isinstance(getattr(n, "value", 0), bytes))
    lines = zlib.decompress(blob, -zlib.MAX_WBITS).decode().splitlines()
    texts = packed(SOURCES)
    makers = {"Text", *re.findall(r"class (\w+)\(", SOURCES["errors"])} - {"Refused"}
    used = set()
    for name, source in texts.items():
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(func=ast.Name(id=maker), args=[ast.Constant(value=int(n)), *given]):
                    if maker not in makers:
                        continue
                    used.add(n)
                    asked = len(re.findall(r"%[^%]", lines[n].replace("%%", "")))
                    assert len(given) == asked, (name, lines[n])
    assert used == set(range(len(lines)))


@pytest.mark.parametrize("profile", ["sim-pico-w", "sim-esp32"])
def test_a_board_says_what_the_source_says(tmp_path: Path, profile: str) -> None:
    """The same errors, made by the source and by the compact form: same words, same other facts."""
    said = []
    program = build_simulator(profile)
    for kind in ("source", "compact"):
        library = tmp_path / kind / "mtls"
        library.mkdir(parents=True)
        compiled = device_library("1.26.1", 6).files
        source = {f"{name}.py": text.encode() for name, text in SOURCES.items()}
        for name, content in (source if kind == "source" else compiled).items():
            (library / name).write_bytes(content)
        done = subprocess.run(
            [program, "-X", "heapsize=1m", Path(__file__).with_name("errors_on_board.py")],
            env={"MICROPYPATH": f".frozen:{library.parent}"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        lines = done.stdout.splitlines()
        said.append([line for line in lines if not line.startswith("  File")])
    assert said[0] == said[1]
    assert sum(line.startswith("(") for line in said[0]) == 7


def module_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)


def test_what_the_store_finds_in_custody_keeps_its_name() -> None:
    tree = ast.parse(SOURCES["custody"])
    for name in (node.name for node in tree.body if isinstance(node, ast.FunctionDef)):
        takes_store = f"def {name}(store" in SOURCES["custody"] and not name.startswith("_")
        assert not takes_store or {name, f"custody.{name}"} <= LAYOUT.public, name


@pytest.mark.parametrize("file", sorted(FILES))
def test_every_name_is_known_where_it_is_used(file: str) -> None:
    tree = ast.parse(FILES[file])
    never_reached = tree.body.pop(0) if isinstance(tree.body[0], ast.While) else None
    known = {*module_names(tree), *dir(builtins), "__name__"}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    assert used - known == set()
    assert never_reached is None or isinstance(never_reached, ast.While)


@pytest.mark.parametrize("file", sorted(FILES))
def test_what_a_file_imports_is_in_the_file_that_it_names(file: str) -> None:
    for node in ast.walk(ast.parse(FILES[file])):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        for alias in node.names:
            if node.module is None and alias.name in FILES:
                continue
            home = node.module or "__init__"
            assert alias.name in set(module_names(ast.parse(FILES[home]))), (home, alias.name)


def test_public_names_stay() -> None:
    words = set(re.findall(r"\w+", "".join(FILES.values())))
    assert [name for name in LAYOUT.public if name.rpartition(".")[2] not in words] == []


# What only the library's own objects have, of names that MicroPython's have too.
OURS = """
bits blocking buf check done end extension floor host info integer left locked may next now peek
point port pull random ready start started stop target up
"""


def test_no_attribute_gets_a_short_name_that_micropython_knows_by_its_own() -> None:
    """A name of MicroPython's stands for what its objects have: own ones are listed, by hand."""
    made = [node for text in FILES.values() for node in ast.walk(ast.parse(text))]
    kept = {node.attr for node in made if isinstance(node, ast.Attribute)}
    kept |= {n.name for n in made if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}
    source = [node for text in SOURCES.values() for node in ast.walk(ast.parse(text))]
    own = {n.attr for n in source if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store)}
    for node in source:
        if isinstance(node, ast.ClassDef):
            own |= {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    known: set[str] = set()
    with tarfile.open(fetch(find_source("micropython", "1.26.1"))) as archive:
        for member in archive:
            if member.name.endswith((".c", ".h")) and (file := archive.extractfile(member)):
                known |= set(re.findall(r"MP_QSTR_(\w+)", file.read().decode("utf-8", "replace")))
    renamed = {name for name in own - kept if not name.startswith("__")}
    assert renamed & known - set(OURS.split()) == set()
    assert renamed & known  # of those there are some


def test_short_names_are_identifiers_and_no_keywords() -> None:
    names = [*STATIC_NAMES, *PARAMETER_NAMES]
    assert all(name.isidentifier() for name in names)
    assert len(set(names)) == len(names)
