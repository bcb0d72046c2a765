"""A skip is not a pass: each must stand on allowed_skips.txt with its reason, or the run fails."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

# By the name that its entry point has, so that an installed one is not registered a second time.
pytest_plugins = ["handfast.lab.pytest_plugin"]

_ALLOWED = Path(__file__).parent / "allowed_skips.txt"

# No time in a test: on a busy machine an example may take as long as it likes. Everything else is
# as Hypothesis has it: random here, the same examples in each run of CI.
settings.register_profile("handfast", parent=settings(), deadline=None)
settings.load_profile("handfast")


# A shell that runs the suite in the background has it ignore Ctrl-C, and what the tests start would
# inherit that; whether commands clean up after one is what some of them are about.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _allowed() -> list[tuple[str, str]]:
    """Lines of ``<start of a node id> | <part of the reason>``; ``#`` begins a comment."""
    lines = (line.split("#")[0].strip() for line in _ALLOWED.read_text().splitlines())
    pairs = (line.partition("|") for line in lines if line)
    return [(node.strip(), reason.strip()) for node, _, reason in pairs]


def _reason(report: pytest.TestReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


def _is_allowed(report: pytest.TestReport) -> bool:
    return any(
        report.nodeid.startswith(node) and reason and reason in _reason(report)
        for node, reason in _allowed()
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(session.config, "workerinput"):
        return
    unexpected = [r for r in reporter.stats.get("skipped", []) if not _is_allowed(r)]
    if unexpected:
        reporter.section("skips that tests/allowed_skips.txt does not name", red=True)
        for report in unexpected:
            reporter.line(f"{report.nodeid}: {_reason(report)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or hasattr(config, "workerinput"):
        return
    count = {
        name: len(reporter.stats.get(name, [])) for name in ("passed", "failed", "error", "skipped")
    }
    failed = count["failed"] + count["error"]
    reporter.line(f"{count['passed']} passed, {failed} failed, {count['skipped']} skipped")
