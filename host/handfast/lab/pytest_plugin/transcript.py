"""All that a board printed during one test, through the consoles that came and went."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from handfast.boards.console import Console


@dataclass(frozen=True, slots=True)
class Entry:
    """One line, and when it was complete (UTC)."""

    at: datetime
    text: str


class Transcript:
    """Entries of consoles that were closed, and of the one that reads now.

    :meth:`expect` goes on behind the line that it found last, so that a line is found once.
    """

    def __init__(self) -> None:
        self._closed: list[Entry] = []
        self._console: Console | None = None
        self._seen = 0

    @property
    def console(self) -> Console | None:
        """The console that reads now."""
        return self._console

    @property
    def entries(self) -> list[Entry]:
        """Everything so far, oldest first."""
        reading = self._console.lines if self._console is not None else []
        return self._closed + [Entry(line.at, line.text) for line in reading]

    def follow(self, console: Console) -> None:
        """Read from this console on, instead of the one before."""
        self.unfollow()
        self._console = console

    def unfollow(self) -> None:
        """Keep what the present console has read; it may then be closed."""
        self._closed = self.entries
        self._console = None

    def add(self, text: str) -> None:
        """Enter what was printed while no console read: the output of a command."""
        now = datetime.now(UTC)
        self._closed += [Entry(now, line) for line in text.splitlines()]

    def expect(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """Return the first match behind the line that was found last, waiting for it if need be.

        Raises:
            NoAnswer: there is none within ``timeout_s``, or nothing is running that could print.
        """
        from handfast.boards.serial_port import NoAnswer

        search = re.compile(pattern).search
        for number, entry in enumerate(self._closed[self._seen :], self._seen):
            if found := search(entry.text):
                self._seen = number + 1
                return found
        if self._console is None:
            raise NoAnswer(f"the board did not print {pattern!r}, and no application runs on it")
        after = max(0, self._seen - len(self._closed))
        line = self._console.wait_for(pattern, timeout_s, after=after)
        self._seen = len(self._closed) + line.number
        found = search(line.text)
        assert found is not None  # noqa: S101 - it is what the console waited for
        return found
