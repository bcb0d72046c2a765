"""What became of each test, and of each test that ran several times."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from handfast.lab.pytest_plugin.recording import Record

_REPETITION = re.compile(r"\[repeat\d+\]$|(?<=\[)repeat\d+-|-repeat\d+(?=[\]-])")


@dataclass(slots=True)
class Result:
    """One run of one test: ``outcome`` is passed, failed or skipped; ``detail`` why."""

    nodeid: str
    outcome: str = "passed"
    seconds: float = 0.0
    detail: str = ""
    record: Record | None = None


@dataclass(slots=True)
class Tally:
    """How often something ran, and how often it failed."""

    runs: int = 0
    failures: int = 0

    def count(self, failed: bool) -> None:
        """Count one more run."""
        self.runs += 1
        self.failures += failed

    def __str__(self) -> str:
        return f"{self.failures} of {self.runs}"


@dataclass(slots=True)
class Flake(Tally):
    """A test that has failed and has passed, and the same by board."""

    test: str = ""
    boards: dict[str, Tally] = field(default_factory=dict)

    def line(self) -> str:
        """Return it for people."""
        by_board = ", ".join(f"{name}: {tally}" for name, tally in sorted(self.boards.items()))
        return f"{self.test}: failed {self}" + (f" ({by_board})" if by_board else "")


def flakes(results: Iterable[Result]) -> list[Flake]:
    """Return the tests that failed in some of their runs and passed in others."""
    found: dict[str, Flake] = {}
    for result in results:
        if result.outcome == "skipped":
            continue
        name = base_name(result.nodeid)
        flake = found.setdefault(name, Flake(test=name))
        failed = result.outcome == "failed"
        flake.count(failed)
        for board in result.record["boards"] if result.record else ():
            flake.boards.setdefault(board, Tally()).count(failed)
    return [flake for flake in found.values() if 0 < flake.failures < flake.runs]


def base_name(nodeid: str) -> str:
    """Return a test's id without the number of its repetition."""
    return _REPETITION.sub("", nodeid)
