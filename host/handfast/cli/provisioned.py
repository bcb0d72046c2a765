"""What `handfast provision` prints of what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from handfast.boards.many import Outcome
from handfast.boards.provision import Provisioned
from handfast.errors import CheckFailed


def print_one(done: Provisioned, *, started: bool) -> None:
    """Print what was done with one board."""
    table = Table(show_header=False, box=None)
    table.add_row("device", done.device_id)
    table.add_row("hardware", done.hardware_id)
    table.add_row("files", _files(done))
    if done.frozen:
        table.add_row("library", "in the firmware: none was copied")
    elif not done.compiled:
        table.add_row("library", "as source, for want of an mpy-cross that fits this MicroPython")
    idevid = "issued" if done.idevid_issued else "kept"
    table.add_row("IDevID", f"{idevid}, SHA-256 {done.idevid_sha256[:16]}…")
    table.add_row("enrolment", _way_in(done))
    table.add_row("application", "started" if started else "not started")
    table.add_row("took", f"{done.seconds:.1f} s")
    Console().print(table, highlight=False)


def print_many(outcomes: Sequence[Outcome]) -> None:
    """Print a line for each board, and what went wrong in full below."""
    table = Table("board", "device", "files", "enrolment", "took")
    for outcome in outcomes:
        if outcome.done is None:
            table.add_row(outcome.board, "failed", "", "", "")
        else:
            done = outcome.done
            took = f"{done.seconds:.1f} s"
            table.add_row(outcome.board, done.device_id, _files(done), _way_in(done), took)
    console = Console()
    console.print(table, highlight=False)
    for outcome in outcomes:
        if outcome.problem is not None:
            console.print(f"{outcome.board}: {outcome.problem}", markup=False, highlight=False)


def document(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what --json prints for several boards."""
    failed = sum(outcome.problem is not None for outcome in outcomes)
    return {
        "boards": [_entry(outcome) for outcome in outcomes],
        "provisioned": len(outcomes) - failed,
        "failed": failed,
    }


def _entry(outcome: Outcome) -> dict[str, Any]:
    if outcome.done is not None:
        return {"board": outcome.board, "outcome": "provisioned", **asdict(outcome.done)}
    problem = outcome.problem
    return {
        "board": outcome.board,
        "outcome": "failed",
        "problem": str(problem),
        "exit_code": exit_code([outcome]),
    }


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return 0 if all went well, what the failures have in common, and 1 if that is nothing."""
    codes = {outcome.problem.exit_code for outcome in outcomes if outcome.problem is not None}
    return (codes or {0}).pop() if len(codes) < 2 else CheckFailed.exit_code


def _files(done: Provisioned) -> str:
    resumed = f" ({done.files_resumed} had arrived before)" if done.files_resumed else ""
    removed = f", {done.files_removed} removed" if done.files_removed else ""
    return f"{done.files_copied} copied{resumed}, {done.files_unchanged} unchanged{removed}"


def _way_in(done: Provisioned) -> str:
    if done.enrolled:
        return "enrolled already"
    if done.token_given:
        return "one-time token handed over"
    return "by its IDevID, or the token it has"
