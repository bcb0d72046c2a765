"""What is tried on a board that does not answer, the gentlest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from handfast.errors import BoardProblem

NO_ANSWER = "it does not answer"
QUARANTINED = "it is in quarantine until this run ends"
NOT_FLASHED = "it could not be flashed"
NOT_READY = "it could not be made ready"
_ANSWER_S = 5.0
_BOOT_S = 5.0  # what a board that was restarted has more, to boot and on a port that came back


class Recoverable(Protocol):
    """What a board can be asked to do."""

    def answers(self, timeout_s: float) -> bool:
        """Say whether it gives a prompt."""

    def reset(self) -> None:
        """Press its reset button."""

    def power_cycle(self) -> None:
        """Take its power away and give it back."""


def recover(board: Recoverable, *, pace: float = 1.0) -> tuple[bool, list[str]]:
    """Bring the board to a prompt; returns whether it has one, and what was tried.

    ``pace`` is how many times slower than a real board it may be.
    """
    if board.answers(_ANSWER_S * pace):
        return True, []
    tried = [NO_ANSWER]
    remedies: tuple[tuple[str, Callable[[], None]], ...] = (
        ("reset", board.reset),
        ("power cycle", board.power_cycle),
    )
    for name, remedy in remedies:
        try:
            remedy()
        except BoardProblem as problem:
            tried.append(f"{name} failed: {problem}")
            continue
        if board.answers((_ANSWER_S + _BOOT_S) * pace):
            tried.append(f"{name}: it answers again")
            return True, tried
        tried.append(f"{name}: no answer")
    return False, tried
