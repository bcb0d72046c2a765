"""Takes checked values out of a TOML file; every complaint names the file, the line and the key."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from handfast.errors import UsageError

NOT_RECORDED = "not recorded"  # written where a fact is not known, so that nobody invents one

_USB_ID = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Return the line, from 1, of the statement that first sets the key at ``path``; None if none.

    ``text`` is valid TOML. A prefix of it that ends inside a value that takes several lines does
    not parse, so the statement starts after the last prefix that parsed without the key.
    """
    lines = text.splitlines(keepends=True)
    before = 0
    for count in range(1, len(lines) + 1):
        try:
            values: Any = tomllib.loads("".join(lines[:count]))
        except tomllib.TOMLDecodeError:
            continue
        if _reaches(values, path):
            return before + 1
        before = count
    return None


def _reaches(values: Any, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


class TomlTable:
    """One table of a TOML file, with readers that refuse what is not of the kind asked for."""

    def __init__(
        self, file: Path, text: str, path: tuple[str, ...], values: dict[str, Any]
    ) -> None:
        self._file = file
        self._text = text
        self._path = path
        self._values = values
        self._known: set[str] = set()

    @classmethod
    def read(cls, file: Path) -> TomlTable:
        """Return the top table of ``file``.

        Raises:
            UsageError: it cannot be read, or is not TOML; tomllib's message has the line.
        """
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: cannot be read: {error}") from error
        try:
            return cls(file, text, (), tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"at line (\d+)", str(error))
            line = found[1] if found else str(len(text.splitlines()))
            raise UsageError(f"{file}:{line}: is not TOML: {error}") from error

    def problem(self, key: str, what: str) -> UsageError:
        """Return the error that says ``what`` about a key, at the line of the key or its table."""
        line = line_of(self._text, (*self._path, key)) or line_of(self._text, self._path) or 1
        prefix = f"[{'.'.join(self._path)}] " if self._path else ""
        return UsageError(f"{self._file}:{line}: {prefix}{key} {what}")

    def refuse_unread(self) -> None:
        """Refuse every key that no reader has asked for: a mistyped key must not pass in silence.

        Raises:
            UsageError: there is one.
        """
        for key in self._values:
            if key not in self._known:
                known = ", ".join(sorted(self._known))
                raise self.problem(key, f"is not a known key (known: {known})")

    def has(self, key: str) -> bool:
        """Return whether the key is there."""
        self._known.add(key)
        return key in self._values

    def _get(self, key: str) -> Any:
        if not self.has(key):
            raise self.problem(key, "is missing")
        return self._values[key]

    def _wrong(self, key: str, wanted: str) -> NoReturn:
        raise self.problem(key, f"must be {wanted}, not {self._values[key]!r}")

    def text(self, key: str, *, choices: Sequence[str] = (), pattern: str = "") -> str:
        """Return a text that is not empty, one of ``choices``, or all of it like ``pattern``."""
        value = self._get(key)
        if not isinstance(value, str) or not value:
            self._wrong(key, "a text")
        if choices and value not in choices:
            self._wrong(key, f"one of {', '.join(choices)}")
        if pattern and not re.fullmatch(pattern, value):
            self._wrong(key, f"a text like {pattern}")
        return value

    def recorded(self, key: str, *, pattern: str) -> str | None:
        """Return a text as :meth:`text` does, or None where the file says "not recorded"."""
        if self._get(key) == NOT_RECORDED:
            return None
        return self.text(key, pattern=pattern)

    def number(self, key: str, *, choices: Sequence[int] = (), least: int = 1) -> int:
        """Return a whole number of at least ``least``, one of ``choices`` where they are given."""
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self._wrong(key, f"a whole number of at least {least}")
        if choices and value not in choices:
            self._wrong(key, f"one of {', '.join(map(str, choices))}")
        return value

    def numbers(self, key: str) -> tuple[int, ...]:
        """Return a list of whole numbers above 0, at least one."""
        value = self._get(key)
        if not isinstance(value, list) or not value or not all(type(n) is int for n in value):
            self._wrong(key, "a list of whole numbers")
        if min(value) < 1:
            self._wrong(key, "a list of numbers above 0")
        return tuple(value)

    def recorded_number(self, key: str) -> int | None:
        """Return a whole number above 0, or None where the file says "not recorded"."""
        return None if self._get(key) == NOT_RECORDED else self.number(key)

    def flag(self, key: str) -> bool:
        """Return true or false."""
        value = self._get(key)
        if not isinstance(value, bool):
            self._wrong(key, "true or false")
        return value

    def texts(self, key: str, *, choices: Sequence[str] = (), pattern: str = "") -> tuple[str, ...]:
        """Return a list of texts, each one of ``choices`` or like ``pattern``, none twice."""
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._wrong(key, "a list of texts")
        if choices and not set(value) <= set(choices):
            self._wrong(key, f"a list out of {', '.join(choices)}")
        if pattern and not all(re.fullmatch(pattern, item) for item in value):
            self._wrong(key, f"a list of texts like {pattern}")
        if len(set(value)) < len(value):
            self._wrong(key, "a list without repetitions")
        return tuple(value)

    def usb_ids(self, key: str) -> tuple[tuple[int, int], ...]:
        """Return (vendor, product) pairs, written as ``"2e8a:0005"``."""
        pairs = (text.split(":") for text in self.texts(key, pattern=_USB_ID.pattern))
        return tuple((int(vendor, 16), int(product, 16)) for vendor, product in pairs)

    def table(self, key: str) -> TomlTable | None:
        """Return a table below this one, or None where there is none."""
        if not self.has(key):
            return None
        value = self._values[key]
        if not isinstance(value, dict):
            self._wrong(key, "a table")
        return TomlTable(self._file, self._text, (*self._path, key), value)
