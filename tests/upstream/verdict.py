"""Whether what a test printed is what it is to print, as MicroPython's run-tests.py decides."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "skip"]

_SUMMARY = re.compile(r"(?P<ok>OK)(?: \(skipped=\d+\))?|FAILED \(failures=\d+, errors=\d+\)")
_RULE = "-" * 70


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a test went; ``detail`` says what is wrong where it failed."""

    outcome: Outcome
    detail: str = ""


def unittest_outcome(printed: str) -> Verdict | None:
    """Return the verdict of a test that has a unittest summary; None if it has none."""
    lines = printed.splitlines()
    if len(lines) < 4 or lines[-4] != _RULE or not re.fullmatch(r"Ran \d+ tests", lines[-3]):
        return None
    if (summary := _SUMMARY.fullmatch(lines[-1])) is None:
        return None
    return Verdict("pass") if summary["ok"] else Verdict("fail", printed)


def compared(printed: str, expected: str) -> Verdict:
    """Return the verdict of a test that is to print something in particular."""
    if printed == "SKIP\n":
        return Verdict("skip", "it found something missing and said SKIP")
    if printed == expected:
        return Verdict("pass")
    lines = difflib.unified_diff(
        expected.splitlines(), printed.splitlines(), "expected", "printed", lineterm=""
    )
    return Verdict("fail", "\n".join(lines) or f"{printed!r} is not {expected!r}")
