"""firmware/layout.toml: which modules of the device library are joined, and which names stay."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """What `compact` goes by.

    Attributes:
        joined: the file that a module goes into, for those that are not files of their own.
        aliases: modules in the package's own file that applications import by name.
        public: names, and ``module.name`` for globals, that applications use.
        shared: names of the library that objects of MicroPython's have as well.
        module_names: ``module.global``: tuples of module names, and dicts whose values are.
        by_name: ``module.Class.function``: what asks for attributes by names that only the running
            program knows.
        packed_first: the files that a packed library begins with.
    """

    joined: Mapping[str, str]
    order: Mapping[str, tuple[str, ...]]
    aliases: tuple[str, ...]
    public: frozenset[str]
    shared: frozenset[str]
    module_names: frozenset[str]
    by_name: frozenset[str] = frozenset()
    packed_first: tuple[str, ...] = ()

    def file_of(self, module: str) -> str:
        """Return the name of the file that a module of the library is in."""
        return self.joined.get(module, module)


def read_layout(path: Path) -> Layout:
    """Read the file; it comes with the library, so that what is wrong in it raises KeyError."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    files = {name: tuple(modules) for name, modules in table["files"].items()}
    return Layout(
        joined={module: name for name, modules in files.items() for module in modules},
        order=files,
        aliases=tuple(table["aliases"]),
        public=frozenset(" ".join(table["public"].values()).split()),
        shared=frozenset(" ".join(table["shared"].values()).split()),
        module_names=frozenset(table["module_names"]),
        by_name=frozenset(table["by_name"]),
        packed_first=tuple(table["packed_first"]),
    )
