"""What is tried on a board that does not answer, the gentlest first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from handfast.errors import BoardProblem

NO_ANSWER = "it does not answer"
QUARANTINED = "it is in quarantine until this run ends"
NOT_FLASHED = "it could not be flashed"
NOT_READY = "it could not be made ready"
ANSWER_S = 5.0


class Recoverable(Protocol):
    """What a board can be asked to do."""

    def answers(self, timeout_s: float) -> bool:
        """Say whether it gives a prompt."""

    def reset(self) -> None:
        """Press its reset button."""

    def power_cycle(self) -> None:
        """Take its power away and give it back."""


def recover(board: Recoverable, *, answer_s: float = ANSWER_S) -> tuple[bool, list[str]]:
    """Bring the board to a prompt; returns whether it has one, and what was tried."""
    if board.answers(answer_s):
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
        if board.answers(answer_s):
            tried.append(f"{name}: it answers again")
            return True, tried
        tried.append(f"{name}: no answer")
    return False, tried
