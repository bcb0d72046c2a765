"""What a test's report says of its boards; plain lists and texts, which go through pytest-xdist."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from handfast.lab.pytest_plugin.board import Board
    from handfast.lab.pytest_plugin.secret import Secrets

_MOST_LINES = 2000
_LEAF = re.compile(r"mtls: (?:enrolled|renewed) .*serial=\w+")
SERIES = {
    "handshake_ms": "TLS handshake (ms)",
    "heap_free": "free heap (bytes)",
    "answer_ms": "answer to exec and call (ms)",
    "rotation": "certificates issued",
}

Points = list[list[float]]  # [unix seconds, value]


class Record(TypedDict):
    """What one test's boards said and did, by board."""

    boards: list[str]
    console: dict[str, list[list[str]]]
    notes: dict[str, list[str]]
    series: dict[str, dict[str, Points]]


def record(boards: Sequence[Board], roots: Sequence[Path], secrets: Secrets) -> Record:
    """Return what the boards have said and done up to now, without secrets."""
    made = Record(boards=[], console={}, notes={}, series={name: {} for name in SERIES})
    for board in boards:
        made["boards"].append(board.name)
        made["console"][board.name] = _console(board, roots, secrets)
        made["notes"][board.name] = [secrets.redact(note) for note in board.notes]
        measured = _measured(board)
        measured["heap_free"] += board.heap_free
        measured["answer_ms"] = list(board.answers_ms)
        measured["rotation"] = _rotation(board)
        for name, points in measured.items():
            made["series"][name][board.name] = points
    return made


def _console(board: Board, roots: Sequence[Path], secrets: Secrets) -> list[list[str]]:
    from handfast.lab.pytest_plugin.sources import mapped

    if not (entries := board.transcript.entries[-_MOST_LINES:]):
        return []
    # As one text: a private key has many lines.
    clean = secrets.redact("\n".join(entry.text for entry in entries)).split("\n")
    return [
        [_time(entry.at), line]
        for entry, text in zip(entries, clean, strict=True)
        for line in mapped([text], roots)
    ]


def _time(moment: Any) -> str:
    return str(moment.isoformat(timespec="milliseconds"))


def _measured(board: Board) -> dict[str, Points]:
    """Return what the board itself has measured and reported."""
    from handfast.errors import HandfastError

    found: dict[str, Points] = {"heap_free": [], "handshake_ms": []}
    for gateway, device in board.devices:
        with suppress(HandfastError):  # it may have been stopped
            for row in gateway.telemetry(device):
                for name, points in found.items():
                    if isinstance(value := row.values.get(name), int | float):
                        points.append([row.received, float(value)])
    return found


def _rotation(board: Board) -> Points:
    moments = [e.at.timestamp() for e in board.transcript.entries if _LEAF.search(e.text)]
    return [[moment, float(number)] for number, moment in enumerate(moments, 1)]


def properties(made: Record) -> list[tuple[str, str]]:
    """Return the record as JUnit properties: figures, and the console of each board."""
    found = [("handfast_board", ", ".join(made["boards"]))]
    for name, by_board in made["series"].items():
        if values := [value for points in by_board.values() for _, value in points]:
            found.append((f"handfast_{name}", " ".join(f"{value:g}" for value in values)))
            found.append((f"handfast_{name}_median", f"{statistics.median(values):g}"))
    for board in made["boards"]:
        found.append((f"handfast_console_{board}", console_text(made, board)))
        if made["notes"][board]:
            found.append((f"handfast_notes_{board}", "; ".join(made["notes"][board])))
    return found


def console_text(made: Record, board: str) -> str:
    """Return what a board printed as one text, each line with its time."""
    return "\n".join(f"{at} {text}" for at, text in made["console"][board])
