"""MicroPython's own tests of TLS, asyncio and sockets, taken out of its source package."""

from __future__ import annotations

import ast
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from handfast.boards.archives import unpack
from handfast.boards.sources import cache_dir, fetch, find_source, locked

_PARTS = (
    "tests/extmod/",
    "tests/net_hosted/",
    "tests/net_inet/",
    "tests/multi_net/",
    "tests/run-multitests.py",
)
_FOLDERS = ("extmod", "net_hosted", "net_inet", "multi_net")
# Of extmod only what concerns TLS and asyncio; what is in the others all does.
_IN_EXTMOD = re.compile(r"ssl|tls|asyncio")
_INSTANCE = re.compile(r"^def instance(\d+)\(\):", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class UpstreamTest:
    """One of MicroPython's test files; ``name`` is its path below ``tests/``."""

    name: str
    path: Path

    @property
    def text(self) -> str:
        """The program."""
        return self.path.read_text(encoding="utf-8")

    @property
    def expected(self) -> str | None:
        """What it is to print, where a file says so; CPython says it otherwise."""
        file = self.path.with_name(f"{self.path.name}.exp")
        return file.read_text(encoding="utf-8") if file.is_file() else None

    @property
    def instances(self) -> int:
        """How many boards it needs at once; 0 for a test that is a plain program."""
        return len(_INSTANCE.findall(self.text))

    @property
    def certificates(self) -> dict[str, bytes]:
        """The DER files that lie beside it, by name: what it may open in its folder."""
        return {file.name: file.read_bytes() for file in self.path.parent.glob("*.der")}


@dataclass(frozen=True)
class UpstreamTree:
    """The tests of one MicroPython version."""

    folder: Path

    @classmethod
    def unpacked(cls, version: str) -> UpstreamTree:
        """Unpack the tests of a version, once, into the user's cache.

        Raises:
            EnvironmentProblem: the version's source is not pinned, or not to be had.
        """
        source = find_source("micropython", version)
        archive = fetch(source)
        place = cache_dir() / "upstream-tests"
        ready = place / f"{version}-{source.sha256[:20]}"
        with locked(place):
            if not ready.is_dir():
                work = Path(tempfile.mkdtemp(dir=place))
                try:
                    unpack(archive, work, parts=_PARTS)
                    (work / "tests").rename(ready)
                finally:
                    shutil.rmtree(work)
        return cls(ready)

    def tests(self) -> list[UpstreamTest]:
        """Return the tests, by name; expected.toml has those that need the Internet as not-run."""
        return [test for folder in _FOLDERS for test in self._in(folder)]

    def test(self, name: str) -> UpstreamTest:
        """Return one test by its path below ``tests/``."""
        return UpstreamTest(name, self.folder / name)

    @cached_property
    def multitest_template(self) -> str:
        """The code that upstream's run-multitests.py appends to a test for several boards."""
        module = ast.parse((self.folder / "run-multitests.py").read_text(encoding="utf-8"))
        for node in module.body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == (
                "APPEND_CODE_TEMPLATE"
            ):
                template: str = ast.literal_eval(node.value)
                return template
        raise LookupError("run-multitests.py has no APPEND_CODE_TEMPLATE any more")

    def _in(self, folder: str) -> list[UpstreamTest]:
        files = sorted((self.folder / folder).glob("*.py"))
        return [
            self.test(f"{folder}/{file.name}")
            for file in files
            if folder != "extmod" or _IN_EXTMOD.search(file.name)
        ]
