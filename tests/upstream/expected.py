"""The list of tests that are known not to pass, each with its reason (expected.toml)."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from handfast.errors import UsageError
from tests.upstream.verdict import Verdict

LIST = Path(__file__).with_name("expected.toml")
_NotPassing = Literal["fail", "skip", "not-run"]
_KEYS = {"test", "boards", "versions", "outcome", "says", "reason"}
_REASON_LETTERS = 20  # "flaky" is no reason


@dataclass(frozen=True, slots=True)
class Expected:
    """One entry of the list."""

    test: str
    boards: tuple[str, ...]
    versions: tuple[str, ...]
    outcome: _NotPassing
    says: str
    reason: str

    def covers(self, test: str, board: str, version: str) -> bool:
        """Say whether the entry is about a test on a board."""
        return (
            self.test == test
            and any(fnmatchcase(board, pattern) for pattern in self.boards)
            and any(fnmatchcase(version, pattern) for pattern in self.versions)
        )


def read_expected(file: Path = LIST) -> list[Expected]:
    """Read the list.

    Raises:
        UsageError: an entry has a key too many or too few, or a reason that is none.
    """
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get("expected", [])
    return [_entry(file, number, entry) for number, entry in enumerate(entries, 1)]


def _entry(file: Path, number: int, entry: dict[str, Any]) -> Expected:
    where = f"{file}: entry {number}"
    if strange := set(entry) - _KEYS:
        raise UsageError(f"{where}: {', '.join(sorted(strange))} is not a known key")
    if missing := {"test", "boards", "outcome", "reason"} - set(entry):
        raise UsageError(f"{where}: {', '.join(sorted(missing))} is missing")
    if entry["outcome"] not in get_args(_NotPassing):
        raise UsageError(f"{where}: outcome must be fail, skip or not-run")
    if len(entry["reason"]) < _REASON_LETTERS:
        raise UsageError(f"{where}: {entry['reason']!r} gives no reason")
    if (entry["outcome"] == "fail") != bool(entry.get("says")):
        raise UsageError(f"{where}: says belongs to the outcome fail, and has to be there")
    return Expected(
        test=entry["test"],
        boards=tuple(entry["boards"]),
        versions=tuple(entry.get("versions", ["*"])),
        outcome=entry["outcome"],
        says=entry.get("says", ""),
        reason=entry["reason"],
    )


def read_timed(file: Path = LIST) -> dict[str, str]:
    """Return test → reason of those that a busy machine makes fail, which get several tries.

    Raises:
        UsageError: an entry has a key too many or too few, or a reason that is none.
    """
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get("timed", [])
    for number, entry in enumerate(entries, 1):
        if set(entry) != {"test", "reason"} or len(entry["reason"]) < _REASON_LETTERS:
            raise UsageError(f"{file}: timed entry {number} must have test and a reason")
    return {entry["test"]: entry["reason"] for entry in entries}


def entry_for(entries: Sequence[Expected], test: str, board: str, version: str) -> Expected | None:
    """Return the entry about a test on a board, None if it is to pass.

    Raises:
        UsageError: two entries are about it.
    """
    found = [entry for entry in entries if entry.covers(test, board, version)]
    if len(found) > 1:
        raise UsageError(f"{len(found)} entries are about {test} on {board} {version}")
    return found[0] if found else None


def problem(verdict: Verdict, entry: Expected | None) -> str:
    """Return what is wrong with how a test went, "" where it is as the list says."""
    if entry is None:
        if verdict.outcome == "pass":
            return ""
        return f"{verdict.outcome}, and expected.toml gives no reason\n{verdict.detail}"
    if verdict.outcome != entry.outcome:
        what = "it passes: remove its entry" if verdict.outcome == "pass" else verdict.detail
        return f"expected.toml has it as {entry.outcome} ({entry.reason}), but {what}"
    if entry.says not in verdict.detail:
        return f"it fails otherwise than expected.toml says ({entry.says})\n{verdict.detail}"
    return ""
