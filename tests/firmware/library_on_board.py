"""`import mtls` gives the library as it runs in a board's MicroPython, to the tests of this Python.

Each function, class and object of it is one there (`device/far.py`), so that a file of tests asks a
board what it asks CPython. Only the classes of its errors are of this Python, for `pytest.raises`.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from device_interpreter import DEVICE_SCRIPTS, micropython_environment

from handfast.resources import firmware_dir

sys.path.insert(0, str(DEVICE_SCRIPTS))

from far import End, Far

_HEAP = "16m"  # a question is compiled, some are long


class FarOnHost(Far):
    """What CPython asks of an object besides, and its import of a module."""

    __slots__ = ("__spec__",)
    __path__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name in ("_end", "_number", "__spec__"):
            object.__setattr__(self, name, value)
        else:
            self._end.ask("set", self, name, value)

    def __delattr__(self, name: str) -> None:
        self._end.ask("delete", self, name)

    def __del__(self) -> None:
        self._end.let_go.append(self._number)

    def __bytes__(self) -> bytes:
        return self._end.ask("bytes", self)


class HostEnd(End):
    """This Python's end."""

    far = FarOnHost

    def __init__(self, source: Any, sink: Any, errors: dict[str, Any]) -> None:
        super().__init__(source, sink, errors)
        self.asked = 0

    def ask(self, what: str, *operands: Any, named: dict[str, Any] | None = None) -> Any:
        self.asked += 1
        return super().ask(what, *operands, named=named)

    def _told(self, error: Exception) -> tuple[str, Any, Any]:
        name, arguments, facts = super()._told(error)
        return "OSError" if isinstance(error, OSError) else name, arguments, facts

    def _error(self, name: str, arguments: Any, facts: Any) -> Exception:
        error = super()._error(name, arguments, facts)
        if type(error) is OSError and len(error.args) == 1:
            return OSError(error.args[0], os.strerror(error.args[0]))
        return error


class BoardLibrary(MetaPathFinder, Loader):
    """Finds `mtls` and its modules on the board."""

    def __init__(self, program: Path) -> None:
        errors = _errors()
        sys.modules["mtls.errors"] = errors
        self._process = subprocess.Popen(
            [program, "-X", f"heapsize={_HEAP}", DEVICE_SCRIPTS / "serve_library.py"],
            env=micropython_environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._end = HostEnd(self._process.stdout, self._process.stdin, vars(errors))
        if self.module("sys").implementation[0] != "micropython":
            raise RuntimeError(f"{program} is no MicroPython")

    @property
    def asked(self) -> int:
        """How often the board has been asked something."""
        return self._end.asked

    def module(self, name: str) -> Any:
        """Return a module of the board's."""
        return self._end.ask("module", name)

    def close(self) -> None:
        """Let the board's MicroPython end."""
        with self._process:
            self._process.stdin.close()

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        return ModuleSpec(name, self) if name.partition(".")[0] == "mtls" else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Let Python make one: what stands for the board's replaces it."""

    def exec_module(self, module: ModuleType) -> None:
        far = sys.modules[module.__name__] = self.module(module.__name__)
        far.__spec__ = module.__spec__


def _errors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mtls.errors", firmware_dir() / "mtls/errors.py")
    errors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(errors)
    return errors
