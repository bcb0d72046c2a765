"""Which boards a run may use, and which of them can do what a test asks for."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from handfast.errors import UsageError
from handfast.lab.pytest_plugin.leases import Held
from handfast.lab.pytest_plugin.power import Bench
from handfast.lab.pytest_plugin.whereabouts import is_stable_name

if TYPE_CHECKING:
    from handfast.boards.definition import Kind

_FIRST = "sim-pico-w"  # of the simulated boards: the one with the least room
_TEXTS = {"url", "board", "drive"}
_KEYS = _TEXTS | {"capabilities", "reset", "power_off", "power_on"}
_SIMULATED = frozenset({"reset", "power_cycle"})
SIMULATED_ONLY = frozenset({"power_cut", "clock"})  # no command can count flash operations


class Place(Protocol):
    """A board that somebody else hands out."""

    @property
    def bench(self) -> Bench:
        """Its bench, which works while the place is held."""

    @property
    def gone(self) -> str:
        """Why nobody can have it, for longer than a restart takes; else ""."""

    @property
    def lost(self) -> str:
        """Why it does not work now though the board may be sound; "" if that is not known."""

    def take(self, leases: Path) -> Held | None:
        """Take it; None where somebody else has it."""

    def close(self) -> None:
        """Hang up on who hands it out."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A board that could be leased.

    ``profile`` is that of a virtual one, of which there are as many as are asked for; a wired
    one has a ``url``, or its stable name as that, and the commands that its bench has; one behind
    labgrid has a ``place``.
    ``board`` is its definition's name, ``drive`` where its BOOTSEL drive is mounted; "" is unknown.
    """

    name: str
    capabilities: frozenset[str]
    profile: str = ""
    url: str = ""
    board: str = ""
    drive: str = ""
    reset: tuple[str, ...] = ()
    power_off: tuple[str, ...] = ()
    power_on: tuple[str, ...] = ()
    place: Place | None = None


def candidates(choice: str, bench: Path) -> list[Candidate]:
    """Return the boards that ``--handfast-board`` allows, those to be preferred first.

    Args:
        choice: sim, auto, emulated, hardware, a name (also one that ``handfast board scan`` shows),
            or a serial port's path or URL.
        bench: the file with the boards on the desk; none is on it if it is not there.

    Raises:
        UsageError: there is no such board, or the file is wrong.
    """
    desk = read_bench(bench)
    simulated, emulated = _virtual("simulated"), _virtual("emulated")
    if choice == "sim":
        return simulated
    if choice == "auto":
        return desk or simulated
    if choice == "hardware":
        if not desk:
            raise UsageError(f"no hardware: {bench} names no board, nor does --handfast-board")
        return desk
    if choice == "emulated":
        return _runnable(emulated)
    if is_stable_name(choice):
        return [_by_name(choice)]
    if "/" in choice:
        return [Candidate(choice, frozenset(), url=choice)]
    every = desk + simulated + emulated
    if named := [candidate for candidate in every if candidate.name == choice]:
        return named[:1]
    known = ", ".join(candidate.name for candidate in every)
    raise UsageError(f"there is no board {choice!r} to test on; known: {known}")


def _runnable(boards: Sequence[Candidate]) -> list[Candidate]:
    """Return the boards whose emulator is to be had here."""
    from handfast.boards.virtual import why_missing

    return [board for board in boards if not why_missing(board.profile)]


def fitting(boards: Iterable[Candidate], wanted: Iterable[str]) -> list[Candidate]:
    """Return the boards that can do all that is wanted."""
    return [board for board in boards if board.capabilities >= set(wanted)]


def why_none(boards: Sequence[Candidate], wanted: Iterable[str]) -> str:
    """Say what no board has, as the reason of a skip."""
    have = "; ".join(
        f"{board.name} has {', '.join(sorted(board.capabilities)) or 'none'}" for board in boards
    )
    return f"no board has the capabilities {', '.join(sorted(wanted))} ({have})"


def read_bench(file: Path) -> list[Candidate]:
    """Read the boards on the desk: a table ``[board.<name>]`` each, at least with ``url``.

    Raises:
        UsageError: the file cannot be read, or a key is unknown or of the wrong kind.
    """
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from error
    tables = values.get("board", {})
    if set(values) - {"board"} or not isinstance(tables, dict):
        raise UsageError(f"{file}: must hold tables [board.<name>] and nothing else")
    return [_wired(file, name, table) for name, table in tables.items()]


def _wired(file: Path, name: str, table: Any) -> Candidate:
    where = f"{file}: [board.{name}]"
    if not isinstance(table, dict) or set(table) - _KEYS:
        raise UsageError(f"{where} has a key that is not known (known: {', '.join(sorted(_KEYS))})")
    if not isinstance(url := table.get("url"), str) or not url:
        raise UsageError(
            f"{where} url is missing: the serial port's path or URL, or the board's stable name"
        )
    for key in ("board", "drive"):
        if not isinstance(table.get(key, ""), str):
            raise UsageError(f"{where} {key} must be a text, not {table[key]!r}")
    lists = {key: _texts(where, key, table.get(key, [])) for key in _KEYS - _TEXTS}
    board = table.get("board", "")
    if is_stable_name(url):
        url, called = _stable(url)
        if board not in ("", called):
            raise UsageError(f"{where} board is {board}, and url names a {called}")
        board = called
    if claimed := SIMULATED_ONLY & set(lists["capabilities"]):
        raise UsageError(f"{where} only a simulated board has {', '.join(sorted(claimed))}")
    capabilities = {*lists["capabilities"], *_of_definition(board)} - SIMULATED_ONLY
    if lists["reset"]:
        capabilities.add("reset")
    if lists["power_off"] and lists["power_on"]:
        capabilities.add("power_cycle")
    return Candidate(
        name,
        frozenset(capabilities),
        url=url,
        board=board,
        drive=table.get("drive", ""),
        reset=lists["reset"],
        power_off=lists["power_off"],
        power_on=lists["power_on"],
    )


def _texts(where: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise UsageError(f"{where} {key} must be a list of texts, not {value!r}")
    return tuple(value)


def _by_name(name: str) -> Candidate:
    """Return the board that is called so, wherever it will be plugged in."""
    url, board = _stable(name)
    return Candidate(name, _of_definition(board) - SIMULATED_ONLY, url=url, board=board)


def _stable(name: str) -> tuple[str, str]:
    """Return a stable name as ``handfast board scan`` prints it, and its board's definition's."""
    from handfast.boards.discovery import stable_name

    board, _, hardware_id = name.rpartition("@")
    return stable_name(board, hardware_id), board


def _of_definition(name: str) -> frozenset[str]:
    from handfast.boards.definition import load_board

    return load_board(name).capabilities if name else frozenset()


def _virtual(kind: Kind) -> list[Candidate]:
    from handfast.boards.definition import list_boards, load_board
    from handfast.boards.virtual import virtual_boards

    known = set(virtual_boards())
    names = sorted(known & set(list_boards(kind=kind)), key=lambda name: (name != _FIRST, name))
    return [Candidate(n, load_board(n).capabilities | _SIMULATED, profile=n) for n in names]
