"""A report passes only when something was checked and all of it held."""

from __future__ import annotations

from handfast.errors import BoardProblem, CheckFailed
from handfast.lab.demo.report import Report


def test_an_empty_report_has_not_passed() -> None:
    assert not Report().passed


def test_a_check_that_saw_something_passes() -> None:
    report = Report()
    with report.check("one") as seen:
        seen.append("it is so")
    assert report.passed
    assert report.as_json()["checks"][0]["detail"] == "it is so"  # type: ignore[index]


def test_a_check_that_saw_nothing_fails() -> None:
    report = Report()
    with report.check("one"):
        pass
    assert not report.passed


def test_one_failed_check_fails_the_report_and_keeps_its_reason() -> None:
    report = Report()
    with report.check("good") as seen:
        seen.append("yes")
    with report.check("bad"):
        raise CheckFailed("board-2 was not refused")
    assert not report.passed
    assert report.checks[1].detail == "board-2 was not refused"


def test_a_board_that_falls_silent_fails_the_check_and_not_the_demo() -> None:
    report = Report()
    with report.check("quiet"):
        raise BoardProblem("no answer from board-1")
    assert [(check.passed, check.detail) for check in report.checks] == [
        (False, "no answer from board-1")
    ]
