"""The papers that go with boards from a production line: a label each, and the line's record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from handfast.boards import label
from handfast.boards.many import Outcome
from handfast.boards.provision import Provisioned
from handfast.boards.record import Record
from handfast.cli.provisioned import exit_code
from handfast.errors import UsageError

_TO_TERMINAL = "-"


@dataclass(frozen=True, slots=True)
class Papers:
    """Where labels go (to the terminal, to one file, to a folder, or nowhere), and the record."""

    on_terminal: bool = False
    label_file: Path | None = None
    label_folder: Path | None = None
    record: Record | None = None

    @classmethod
    def begin(
        cls, label_to: str | None, record_to: Path | None, *, several: bool, as_json: bool
    ) -> Papers:
        """Look at where they are to go before a board is touched.

        Args:
            label_to: ``-``, a file, or a folder, which is made.
            record_to: the record's file, which is made.
            several: there may be more than one board.
            as_json: stdout is for a JSON document.

        Raises:
            UsageError: they cannot go there.
            EnvironmentProblem: the record cannot be written.
        """
        record = None if record_to is None else Record(record_to)
        if label_to is None:
            return cls(record=record)
        if label_to == _TO_TERMINAL:
            if as_json:
                raise UsageError("--label - and --json both want standard output: name a file")
            return cls(on_terminal=True, record=record)
        path = Path(label_to)
        if path.is_dir() or not path.suffix:
            path.mkdir(parents=True, exist_ok=True)
            return cls(label_folder=path, record=record)
        label.require_kind(path)
        if several:
            raise UsageError(f"one file does not hold several labels: give a folder, not {path}")
        return cls(label_file=path, record=record)

    def file(self, outcome: Outcome) -> None:
        """Record what became of a board, and write its label."""
        if self.record is not None:
            self.record.append(_entry(outcome))
        done = outcome.done
        if done is None:
            return
        if self.label_file is not None:
            label.write(self.label_file, done.device_id, done.hardware_id)
        if self.label_folder is not None:
            path = self.label_folder / f"{done.device_id}.svg"
            label.write(path, done.device_id, done.hardware_id)

    def show(self, done: Sequence[Provisioned]) -> None:
        """Print the labels that go to the terminal."""
        if self.on_terminal:
            for one in done:
                click.echo(label.text(one.device_id, one.hardware_id))


def _entry(outcome: Outcome) -> dict[str, object]:
    entry: dict[str, object] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "board": outcome.board,
        "outcome": "failed" if outcome.done is None else "provisioned",
        "exit_code": exit_code([outcome]),
    }
    if outcome.done is not None:
        done = outcome.done
        entry |= {
            "device_id": done.device_id,
            "hardware_id": done.hardware_id,
            "idevid_sha256": done.idevid_sha256,
            "files_copied": done.files_copied,
            "seconds": round(done.seconds, 1),
        }
    return entry
