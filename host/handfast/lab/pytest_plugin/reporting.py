"""Takes what the boards said into pytest's reports, and the reports into one page."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handfast.lab.pytest_plugin import settings

if TYPE_CHECKING:
    from handfast.lab.pytest_plugin.board import Board
    from handfast.lab.pytest_plugin.recording import Record
    from handfast.lab.pytest_plugin.results import Result
    from handfast.lab.pytest_plugin.secret import Secrets

BOARDS = pytest.StashKey["list[Board]"]()
_RECORD = "handfast"  # the attribute of a report, which pytest-xdist hands on
_PREFIX = "handfast_"
_LAST_LINES = 8  # of the console of a board in quarantine; all of it is in the reports


class Recorder:
    """Runs where tests run: in each worker of pytest-xdist, too.

    Args:
        secrets: what no report may show.
        files: the project's own files for the board, for tracebacks.
    """

    def __init__(self, secrets: Secrets, files: Path) -> None:
        self._secrets = secrets
        self._files = files

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add what the boards have said; hide what is secret."""
        boards = item.stash.get(BOARDS, [])
        made = self._record(boards) if boards else None
        if made is not None:
            from handfast.lab.pytest_plugin.recording import properties

            others = [pair for pair in item.user_properties if not pair[0].startswith(_PREFIX)]
            item.user_properties[:] = [*others, *properties(made)]
        report = yield
        if made is not None:
            self._attach(report, made)
        if "_handfast_lab" in getattr(item, "fixturenames", ()):
            self._redact(report)
        return report

    def _record(self, boards: Sequence[Board]) -> Record:
        from handfast.lab.pytest_plugin.recording import record
        from handfast.lab.pytest_plugin.sources import source_roots

        return record(boards, source_roots(self._files), self._secrets)

    def _attach(self, report: pytest.TestReport, made: Record) -> None:
        from handfast.lab.pytest_plugin.recording import console_text

        setattr(report, _RECORD, made)
        for board in made["boards"]:
            text = "\n".join([console_text(made, board), *made["notes"][board]]).strip()
            report.sections.append((f"Console of {board}", text or "it printed nothing"))

    def _redact(self, report: pytest.TestReport) -> None:
        hide = self._secrets.redact
        report.sections = [(name, hide(text)) for name, text in report.sections]
        if report.longrepr is not None and not isinstance(report.longrepr, tuple):
            shown = report.longreprtext
            if (hidden := hide(shown)) != shown:
                report.longrepr = hidden


class Collector:
    """Runs once in a run: gathers all reports, and writes the page at the end.

    Args:
        page: the file to write; None for none.
    """

    def __init__(self, page: Path | None) -> None:
        self._page = page
        self._results: dict[str, Result] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a report of one phase of a test."""
        from handfast.lab.pytest_plugin.results import Result

        result = self._results.setdefault(report.nodeid, Result(report.nodeid))
        result.seconds += report.duration
        result.record = getattr(report, _RECORD, None) or result.record
        if report.failed or (report.skipped and result.outcome == "passed"):
            result.outcome = report.outcome
            result.detail = _why(report)

    def pytest_terminal_summary(self, terminalreporter: Any, config: pytest.Config) -> None:
        """Say which tests flake and which boards did not answer; write the page."""
        from handfast.lab.pytest_plugin.results import flakes

        results = list(self._results.values())
        if config.getoption(settings.REPEAT) > 1:
            found = flakes(results)
            terminalreporter.section("flaky tests")
            for flake in found:
                terminalreporter.line(flake.line())
            if not found:
                terminalreporter.line("none: each test came to the same end every time")
        if troubled := list(_troubled(results)):
            terminalreporter.section("boards that did not answer", red=True)
            for line in troubled:
                terminalreporter.line(line)
        if self._page is not None:
            from handfast.files import write_atomically
            from handfast.lab.pytest_plugin.page import page

            self._page.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._page, page(results).encode())
            terminalreporter.line(f"report of the boards: {self._page}")


def _troubled(results: Sequence[Result]) -> Iterator[str]:
    """Say of each board that could not be used at once when that was, and what was done."""
    from handfast.lab.pytest_plugin.recording import console_text
    from handfast.lab.pytest_plugin.recovery import (
        NO_ANSWER,
        NOT_FLASHED,
        NOT_READY,
        QUARANTINED,
    )

    for result in results:
        for board, notes in (result.record["notes"] if result.record else {}).items():
            if {NO_ANSWER, NOT_FLASHED, NOT_READY} & set(notes):
                yield f"{board} ({result.nodeid}): {'; '.join(notes)}"
            if QUARANTINED in notes and result.record is not None:
                last = console_text(result.record, board).splitlines()[-_LAST_LINES:]
                yield from (f"    {line}" for line in last)


def _why(report: pytest.TestReport) -> str:
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])
    return report.longreprtext
