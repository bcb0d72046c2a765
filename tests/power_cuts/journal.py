"""What a run has done so far, line by line, so that another run can go on with it.

A journal is of one code: whatever decides what becomes of a case is part of its key, so results of
other code are never taken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import handfast
from handfast.boards.builder import build_simulator
from handfast.boards.definition import load_board
from handfast.resources import boards_dir, firmware_dir
from tests.power_cuts.cases import Case, Cut, Outcome
from tests.power_cuts.rig import profile_and_version


def key_of(board: str) -> str:
    """Return the SHA-256 (hex) of all that a board's power cuts are tried with.

    The library and the application, the board's definitions, a simulated board's program, the
    host's side with its gateway, and what is in this folder. The board is NAME or NAME=VERSION.
    """
    profile, micropython = profile_and_version(board)
    folders = (firmware_dir(), boards_dir(), Path(handfast.__file__).parent, Path(__file__).parent)
    digest = hashlib.sha256(board.encode())
    if load_board(profile).kind == "simulated":
        program = build_simulator(profile, micropython=micropython)
        digest.update(hashlib.sha256(program.read_bytes()).digest())
    for number, folder in enumerate(folders):
        for file in sorted(_sources(folder)):
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f"{number} {file.relative_to(folder)} {content}\n".encode())
    return digest.hexdigest()


def _sources(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


class Journal:
    """A file of what was measured and tried; use it in one thread at a time.

    Attributes:
        seed: draws the samples.
        measured: figures by name: operations of a sequence, wear, seconds of earlier runs.
        outcomes: of each unit of work that was done, by its name.
    """

    def __init__(self, path: Path, key: str) -> None:
        self._path = path
        self._key = key
        self.seed = ""
        self.measured: dict[str, Any] = {}
        self.outcomes: dict[str, list[Outcome]] = {}

    def begin(self, seed: str) -> None:
        """Begin anew; what was in the file is gone."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self.seed = seed
        self.measured, self.outcomes = {}, {}
        self._path.write_text(json.dumps({"key": self._key, "seed": seed}) + "\n")

    def resume(self) -> bool:
        """Take up what another run has left; False if it left nothing, or was of other code."""
        if not self._path.exists():
            return False
        # A run that was killed may have left half a line.
        whole = self._path.read_text().rpartition("\n")[0]
        head, *lines = [json.loads(line) for line in whole.splitlines()] or [{}]
        if head.get("key") != self._key:
            return False
        self.seed = head["seed"]
        for line in lines:
            self._take(line)
        self._path.write_text(whole + "\n")
        return True

    def _take(self, line: dict[str, Any]) -> None:
        if "measured" in line:
            self.measured[line["measured"]] = line["value"]
        for name, rows in line.get("tried", {}).items():
            self.outcomes[name] = [_outcome(line["sequence"], row) for row in rows]

    def measure(self, name: str, value: Any) -> None:
        """Keep a figure: anything that JSON has."""
        self.measured[name] = value
        self._write({"measured": name, "value": value})

    def done(self, sequence: str, tried: dict[str, list[Outcome]]) -> None:
        """Keep what came of units of work, by their names."""
        self.outcomes |= tried
        rows = {name: [_row(one) for one in outcomes] for name, outcomes in tried.items()}
        self._write({"sequence": sequence, "tried": rows})

    def _write(self, line: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps(line, separators=(",", ":")) + "\n")

    def end(self) -> None:
        """Forget all: there is nothing left to go on with."""
        self._path.unlink(missing_ok=True)


def _row(outcome: Outcome) -> list[Any]:
    cuts = [_cut_row(cut) for cut in (outcome.case.first, outcome.case.second)]
    return [*cuts, outcome.reached, outcome.same_image, outcome.problem]


def _cut_row(cut: Cut | None) -> list[Any] | None:
    return None if cut is None else [cut.after, cut.torn]


def _outcome(sequence: str, row: Sequence[Any]) -> Outcome:
    first, second, reached, same_image, problem = row
    case = Case(sequence, Cut(*first), None if second is None else Cut(*second))
    return Outcome(case, reached, problem, same_image)
