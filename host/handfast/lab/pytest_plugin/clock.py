"""A board's clock, as a test sets it."""

from __future__ import annotations

from handfast.errors import BoardProblem
from handfast.lab.pytest_plugin.board import Board


class BoardClock:
    """The clock of one board; setting it takes the board's power away and gives it back."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def wake_at(self, unix_s: int) -> None:
        """Power-cycle the board; its clock starts at ``unix_s``.

        Raises:
            BoardProblem: its bench cannot do that (capability ``clock``).
        """
        if "clock" not in self._board.capabilities:
            raise BoardProblem(f"the clock of {self._board.name} cannot be set from outside")
        self._board.power_cycle(rtc=unix_s)

    def read(self) -> float:
        """Return what the clock shows, in unix seconds; a running application is stopped."""
        return float(
            self._board.exec(
                "import time\nprint(time.time() + (946684800 if time.gmtime(0)[0] == 2000 else 0))"
            )
        )
