"""Hands the lines that boards have run to coverage.py, in the process that tests ran in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from handfast.errors import EnvironmentProblem, UsageError
from handfast.lab.pytest_plugin.device_lines import Lines

if TYPE_CHECKING:
    from coverage import Coverage


def require_coverage() -> None:
    """See that coverage.py is there, and that it can take lines.

    Raises:
        EnvironmentProblem: it is not installed.
        UsageError: it is set to measure branches, which no board notes.
    """
    try:
        from coverage import Coverage
    except ImportError as error:
        raise EnvironmentProblem(
            "--handfast-coverage needs coverage.py: pip install coverage"
        ) from error
    measuring = Coverage.current() or Coverage()
    if measuring.get_option("run:branch"):
        raise UsageError(
            "--handfast-coverage notes lines, and coverage.py cannot combine them with branches: "
            "set `branch = false` (pytest-cov: no --cov-branch)"
        )


def hand_over(lines: Lines) -> None:
    """Add lines to what coverage.py measures in this process, else to a data file beside its own.

    The file is called as those of parallel runs are (``.coverage.<host>.<pid>.<random>``), so that
    ``coverage combine`` takes it.
    """
    from coverage import Coverage, CoverageData

    current = Coverage.current()
    measured = _named(lines, current or Coverage())
    if current is not None:
        data = CoverageData(no_disk=True)
        data.add_lines(measured)
        current.get_data().update(data)
        return
    data = CoverageData(basename=str(Coverage().get_option("run:data_file")), suffix=True)
    data.add_lines(measured)
    data.write()


def _named(lines: Lines, measuring: Coverage) -> dict[str, set[int]]:
    """Name the files as coverage.py is set to."""
    relative = measuring.get_option("run:relative_files")
    here = Path.cwd()
    return {
        str(source.relative_to(here) if relative and source.is_relative_to(here) else source): found
        for source, found in lines.items()
    }
