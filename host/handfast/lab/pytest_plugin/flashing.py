"""``--handfast-flash``: each board on the desk is flashed once in a run, before its first test."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from handfast.errors import BoardProblem
from handfast.files import write_atomically

if TYPE_CHECKING:
    from handfast.boards.definition import BoardDefinition
    from handfast.lab.pytest_plugin.selection import Candidate

_STARTED_S = 30.0


class Flasher:
    """Flashes the boards of one run, whichever of its processes has them first.

    Args:
        firmware: the image for them; None is the one that each board's definition names.
        records: the folder of the leases, where it is noted which run has flashed a board.
        run: what names this run, the same in all its processes.
    """

    def __init__(self, firmware: Path | None, records: Path, run: str) -> None:
        self._firmware = firmware
        self._records = records
        self._run = run

    def flash(self, candidate: Candidate, where: Callable[[], str] | None = None) -> str:
        """Flash a leased board, unless this run has; returns what the report says, "" if nothing.

        Args:
            candidate: the board.
            where: says what port it is at now, where its ``url`` does not.

        Raises:
            HandfastError: it is not known what board it is, or it cannot be flashed.
        """
        from handfast.lab.pytest_plugin.leases import file_of

        record = file_of(self._records, candidate.url, ".flashed")
        with suppress(OSError):
            if record.read_text(encoding="utf-8") == self._run:
                return ""
        record.unlink(missing_ok=True)  # a flash that is broken off leaves nobody's firmware
        where = where or (lambda: candidate.url)
        told = self._put(candidate, where, _definition(candidate))
        write_atomically(record, self._run.encode())
        return told

    def _put(self, candidate: Candidate, where: Callable[[], str], board: BoardDefinition) -> str:
        from handfast.boards.definition import load_boards
        from handfast.boards.flash.flash_board import Options, firmware_for, flash_board
        from handfast.boards.flash.running import ask_running, compare_board

        image = firmware_for(board, file=self._firmware)
        options = Options(drive=Path(candidate.drive) if candidate.drive else None)
        done = flash_board(board, image, port=where(), options=options)
        running = ask_running(where, timeout_s=_STARTED_S)
        compare_board(running, board, load_boards(), published=self._firmware is None)
        return (
            f"flashed as {board.name} with {image.path.name} ({done.written} bytes written): it "
            f"runs MicroPython {running.version}, build {running.build}"
        )


def _definition(candidate: Candidate) -> BoardDefinition:
    """Return what board it is: as the bench file says, else as the board does."""
    from handfast.boards.definition import load_board, load_boards
    from handfast.boards.discovery import Port, scan

    if candidate.board:
        return load_board(candidate.board)
    (found,) = scan([Port(candidate.url)], load_boards())
    if found.board is None:
        raise BoardProblem(
            f"it does not say what it is ({found.problem}): name its `board` in the bench file"
        )
    return load_board(found.board)
