"""What a board is: ``boards/<name>/board.toml``, read and checked (format: docs, board.toml)."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from handfast.errors import UsageError
from handfast.resources import boards_dir

SCHEMA = 1

Kind = Literal["hardware", "simulated", "emulated"]
_KINDS = ("hardware", "simulated", "emulated")
_TOP_KEYS = ("schema", "name", "mcu", "port", "kind", "capabilities")
_TABLES = ("usb", "flash", "memory", "firmware", "tls", "simulator", "emulator")


@dataclass(frozen=True, slots=True)
class Flash:
    """The flash chip, and the part of it that the board's filesystem has."""

    size_kb: int
    filesystem_kb: int
    sector_bytes: int
    page_bytes: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What a program has to live in."""

    heap_kb: int


@dataclass(frozen=True, slots=True)
class Firmware:
    """The MicroPython that runs on the board unless another is asked for."""

    micropython: str


@dataclass(frozen=True, slots=True)
class Tls:
    """How the board's TLS takes certificates, and where it takes its memory from."""

    certificate_formats: tuple[str, ...]
    heap: str


@dataclass(frozen=True, slots=True)
class Simulator:
    """How a simulated board is made: ``source`` is the folder under boards/ with its C sources."""

    source: str
    epoch: int
    unique_id_bytes: int


@dataclass(frozen=True, slots=True)
class BoardDefinition:
    """One board.toml; a table that the file does not have is None."""

    name: str
    mcu: str
    port: str
    kind: Kind
    capabilities: frozenset[str]
    folder: Path
    flash: Flash | None
    memory: Memory | None
    firmware: Firmware | None
    tls: Tls | None
    simulator: Simulator | None


class _Table:
    """Takes values out of one table of a board.toml; every complaint names the file and the key."""

    def __init__(self, file: Path, prefix: str, values: dict[str, Any]) -> None:
        self._file = file
        self._prefix = prefix
        self._values = values

    def problem(self, key: str, what: str) -> UsageError:
        return UsageError(f"{self._file}: {self._prefix}{key} {what}")

    def refuse_unknown(self, known: tuple[str, ...]) -> None:
        for key in self._values:
            if key not in known:
                raise self.problem(key, f"is not a known key (known: {', '.join(known)})")

    def _get(self, key: str) -> Any:
        if key not in self._values:
            raise self.problem(key, "is missing")
        return self._values[key]

    def text(self, key: str, *, choices: tuple[str, ...] = ()) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not value:
            raise self.problem(key, f"must be a text, not {value!r}")
        if choices and value not in choices:
            raise self.problem(key, f"must be one of {', '.join(choices)}, not {value!r}")
        return value

    def number(self, key: str, *, choices: tuple[int, ...] = ()) -> int:
        value = self._get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.problem(key, f"must be a whole number above 0, not {value!r}")
        if choices and value not in choices:
            raise self.problem(key, f"must be one of {choices}, not {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.problem(key, f"must be a list of texts, not {value!r}")
        return tuple(value)

    def table(self, key: str, known: tuple[str, ...]) -> _Table | None:
        if key not in self._values:
            return None
        value = self._values[key]
        if not isinstance(value, dict):
            raise self.problem(key, "must be a table")
        table = _Table(self._file, f"[{key}] ", value)
        table.refuse_unknown(known)
        return table


def _flash(top: _Table) -> Flash | None:
    table = top.table("flash", ("size_kb", "filesystem_kb", "sector_bytes", "page_bytes"))
    if table is None:
        return None
    flash = Flash(
        size_kb=table.number("size_kb"),
        filesystem_kb=table.number("filesystem_kb"),
        sector_bytes=table.number("sector_bytes"),
        page_bytes=table.number("page_bytes"),
    )
    if flash.filesystem_kb > flash.size_kb:
        raise table.problem("filesystem_kb", f"is larger than the flash ({flash.size_kb} KB)")
    if flash.filesystem_kb * 1024 % flash.sector_bytes:
        raise table.problem(
            "filesystem_kb", f"is not a number of {flash.sector_bytes}-byte sectors"
        )
    return flash


def _memory(top: _Table) -> Memory | None:
    table = top.table("memory", ("heap_kb",))
    return None if table is None else Memory(heap_kb=table.number("heap_kb"))


def _firmware(top: _Table) -> Firmware | None:
    table = top.table("firmware", ("micropython",))
    return None if table is None else Firmware(micropython=table.text("micropython"))


def _tls(top: _Table) -> Tls | None:
    table = top.table("tls", ("certificate_formats", "heap"))
    if table is None:
        return None
    formats = table.texts("certificate_formats")
    if not formats or not set(formats) <= {"der", "pem"}:
        raise table.problem("certificate_formats", f"must list der, pem or both, not {formats!r}")
    return Tls(certificate_formats=formats, heap=table.text("heap", choices=("gc", "c")))


def _simulator(top: _Table) -> Simulator | None:
    table = top.table("simulator", ("source", "epoch", "unique_id_bytes"))
    return (
        None
        if table is None
        else Simulator(
            source=table.text("source"),
            epoch=table.number("epoch", choices=(1970, 2000)),
            unique_id_bytes=table.number("unique_id_bytes"),
        )
    )


def read_board(file: Path) -> BoardDefinition:
    """Read one board.toml.

    Raises:
        UsageError: it cannot be read, or a key is missing, unknown or of the wrong kind; the
            message names the file and the key.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{file}: is not TOML: {error}") from error
    top = _Table(file, "", values)
    if (schema := top.number("schema")) != SCHEMA:
        raise top.problem("schema", f"is {schema}; this version of handfast reads {SCHEMA}")
    top.refuse_unknown(_TOP_KEYS + _TABLES)
    board = BoardDefinition(
        name=top.text("name"),
        mcu=top.text("mcu"),
        port=top.text("port"),
        kind=cast(Kind, top.text("kind", choices=_KINDS)),
        capabilities=frozenset(top.texts("capabilities")),
        folder=file.parent,
        flash=_flash(top),
        memory=_memory(top),
        firmware=_firmware(top),
        tls=_tls(top),
        simulator=_simulator(top),
    )
    if board.name != file.parent.name:
        raise top.problem("name", f"is {board.name!r}, but the folder is {file.parent.name!r}")
    if board.kind == "simulated":
        for table in ("flash", "memory", "firmware", "tls", "simulator"):
            if getattr(board, table) is None:
                raise top.problem(f"[{table}]", "is missing; a simulated board needs it")
    return board


def list_boards(*, kind: Kind | None = None, root: Path | None = None) -> list[str]:
    """Return the names of the boards that have a board.toml, sorted, of one kind if asked."""
    root = boards_dir() if root is None else root
    names = sorted(file.parent.name for file in root.glob("*/board.toml"))
    if kind is None:
        return names
    return [name for name in names if load_board(name, root=root).kind == kind]


def load_board(name: str, *, root: Path | None = None) -> BoardDefinition:
    """Return the board called ``name``.

    Raises:
        UsageError: there is no such board, or its board.toml is wrong.
    """
    root = boards_dir() if root is None else root
    names = list_boards(root=root)
    if name not in names:
        raise UsageError(f"there is no board {name!r}; known boards: {', '.join(names) or 'none'}")
    return read_board(root / name / "board.toml")
