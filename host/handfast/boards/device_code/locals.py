"""New names for what functions call their own: parameters cost a name in the bytecode each."""

from __future__ import annotations

from collections.abc import Collection

from handfast.boards.device_code.library import Module
from handfast.boards.device_code.scopes import Scope
from handfast.boards.device_code.static_names import PARAMETER_NAMES


class Locals:
    """Names functions' parameters and variables, those of `kept` excepted: they are keywords."""

    def __init__(self, module: Module, kept: Collection[str]) -> None:
        self._names: dict[Scope, dict[str, str | None]] = {}
        self._kept = kept
        for scope in module.scopes.of.values():
            if scope.kind == "function":
                self._of(scope)

    def name(self, scope: Scope, name: str) -> str | None:
        """Return the new name of a function's local; None for a keyword."""
        return self._of(scope)[name]

    def _of(self, scope: Scope) -> dict[str, str | None]:
        if scope in self._names:
            return self._names[scope]
        found: dict[str, str | None] = {}
        # Beside those of the functions around it: an inner one may use these.
        above = scope.parent
        taken: set[str | None] = set()
        while above is not None:
            if above.kind == "function":
                taken |= set(self._of(above).values())
            above = above.parent
        free = [name for name in PARAMETER_NAMES if name not in taken]
        for name in scope.bound:
            if name in scope.elsewhere or name in scope.imports or name in scope.foreign:
                continue
            if name in scope.parameters and name in self._kept:
                found[name] = None
            elif name in scope.parameters and free:
                found[name] = free.pop(0)
            else:
                found[name] = f"_{len(taken) + len(found)}"
        self._names[scope] = found
        return found
