"""What came of an attempt, by what it met and by what the gateway's log says of it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from handfast.lab.demo.intruders.attempt import Answer, Attempt

Line = Mapping[str, Any]
# A connection, as the log names it: the listener and the peer's "host:port".
Connection = tuple[str, str]
Lines = Mapping[Connection, Sequence[Line]]


class Outcome(enum.Enum):
    """What an attempt proves; the values stand in the report's totals."""

    TRUE_ACCEPT = "true_accepts"
    TRUE_REJECT = "true_rejects"
    FALSE_ACCEPT = "false_accepts"
    FALSE_REJECT = "false_rejects"
    # Refused, but not by what should have: the next one may get in.
    WRONG_REASON = "wrong_reasons"
    # Nothing was met, or the log is silent about it: a failure of the check itself.
    UNKNOWN = "unknown"
    # Its leaf ended first: it must be made again, and counts for nothing.
    TOO_LATE = "too_late"


@dataclass(frozen=True, slots=True)
class Finding:
    """An attempt, what came of it, and what is wrong with that (empty: nothing)."""

    attempt: Attempt
    outcome: Outcome
    complaint: str = ""

    @property
    def counts(self) -> bool:
        """Whether the attempt need not be made again."""
        return self.outcome is not Outcome.TOO_LATE

    def __str__(self) -> str:
        attempt = self.attempt
        where = f"{attempt.method} {attempt.path} at {attempt.listener}, TLS {attempt.tls}"
        return f"{attempt.kind} (no. {attempt.number}: {where}): {self.complaint}"


def judge(
    attempts: Iterable[Attempt], answers: Mapping[int, Answer], lines: Lines
) -> list[Finding]:
    """Hold each attempt's answer and log lines against what was expected of it.

    Args:
        attempts: as they were planned.
        answers: by number.
        lines: what the gateway logged of each connection.
    """
    findings = []
    for attempt in attempts:
        answer = answers.get(attempt.number)
        if answer is None:
            findings.append(Finding(attempt, Outcome.UNKNOWN, "it was not made"))
            continue
        theirs = lines.get((attempt.listener, answer.peer), ())
        findings.append(_judge_one(attempt, answer, theirs))
    return findings


def _judge_one(attempt: Attempt, answer: Answer, lines: Sequence[Line]) -> Finding:
    if _got_in(answer, lines):
        return _judge_success(attempt, answer, lines)
    if answer.at >= attempt.use_before:
        return Finding(attempt, Outcome.TOO_LATE)
    if len(lines) != 1:
        said = f"the log has {len(lines)} lines of {answer.peer} (it met: {answer})"
        return Finding(attempt, Outcome.UNKNOWN, said)
    if attempt.expected.accept:
        said = f"it was refused: {answer}, logged as {_reason(lines[0])}"
        return Finding(attempt, Outcome.FALSE_REJECT, said)
    if wrong := _wrong_refusal(attempt, answer, lines[0]):
        return Finding(attempt, Outcome.WRONG_REASON, wrong)
    return Finding(attempt, Outcome.TRUE_REJECT)


def _got_in(answer: Answer, lines: Sequence[Line]) -> bool:
    """Tell whether either side says so: one is enough."""
    served = any(_is_success(line.get("status")) for line in lines)
    return served or _is_success(answer.status)


def _is_success(status: int | None) -> bool:
    return status is not None and status < 400


def _judge_success(attempt: Attempt, answer: Answer, lines: Sequence[Line]) -> Finding:
    expected = attempt.expected
    if not expected.accept:
        said = f"it got in ({answer}); {expected.reason} was expected"
        return Finding(attempt, Outcome.FALSE_ACCEPT, said)
    if expected.issued is not None and answer.issued != expected.issued:
        said = f"it was given {answer.issued}, not {expected.issued}"
        return Finding(attempt, Outcome.FALSE_ACCEPT, said)
    if len(lines) != 1:
        said = f"the log has {len(lines)} lines of {answer.peer} (it met: {answer})"
        return Finding(attempt, Outcome.UNKNOWN, said)
    served_as = lines[0].get("device_id", "")
    if served_as != expected.device_id:
        said = f"it was served as {served_as!r}, not as {expected.device_id!r}"
        return Finding(attempt, Outcome.FALSE_ACCEPT, said)
    if _reason(lines[0]) or not _is_success(answer.status):
        said = f"it met {answer}, the log says {lines[0].get('status')} {_reason(lines[0])}"
        return Finding(attempt, Outcome.FALSE_REJECT, said)
    return Finding(attempt, Outcome.TRUE_ACCEPT)


def _wrong_refusal(attempt: Attempt, answer: Answer, line: Line) -> str:
    """Return what is wrong with a refusal; empty if nothing is."""
    reason = attempt.expected.reason
    if _reason(line) != reason:
        return f"the log says {_reason(line) or 'nothing'}, not {reason} (it met: {answer})"
    if answer.problem not in ("", reason):
        return f"it was told {answer.problem}, the log says {reason}"
    if answer.resumed:
        return "its TLS session was resumed"
    return ""


def _reason(line: Line) -> str:
    """Return why a handshake or a request was refused, empty if it was not."""
    return str(line.get("reason") or line.get("slug") or "")
