"""What the demo shows while it runs: one line a step, and a live table of the boards."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from handfast.lab.demo.report import Figure, Report

_REFRESH_PER_S = 4
_PLAIN_LINE_EVERY_S = 5.0
_MOST_SHOWN = 12  # boards, so that the table fits a terminal


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One board at one moment, as shown: plain words, no logic."""

    name: str
    serial: str
    state: str
    clock: str
    leaf: str
    renewals: int
    calls: int


@dataclass(frozen=True, slots=True)
class ActRow:
    """One act at one moment: how far it is, and what it took and came to once it has ended."""

    name: str
    told: str
    seconds: float | None = None
    passed: bool | None = None


Show = Callable[[Sequence[BoardRow], Sequence[ActRow]], None]


class Screen:
    """Prints to people: a terminal gets a live table, a log file gets a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, text: str) -> Iterator[Callable[[str], None]]:
        """Show a step that takes a while; the block may report what it is doing."""
        started = time.monotonic()
        with self._console.status(text) as status:
            yield lambda detail: status.update(f"{text}: {detail}")
        self._console.print(f"[green]✓[/] {text} [dim]({time.monotonic() - started:.1f} s)[/]")

    @contextmanager
    def boards(self, title: str) -> Iterator[Show]:
        """Show a table of boards, and one of acts, that the block keeps up to date."""
        if not self._console.is_terminal:
            yield self._plain(title)
            return
        live = Live(console=self._console, refresh_per_second=_REFRESH_PER_S)
        with live:
            yield lambda boards, acts: live.update(Group(_boards(title, boards), _acts(acts)))

    def _plain(self, title: str) -> Show:
        last = float("-inf")

        def show(boards: Sequence[BoardRow], acts: Sequence[ActRow]) -> None:
            nonlocal last
            if time.monotonic() - last >= _PLAIN_LINE_EVERY_S:
                last = time.monotonic()
                states = Counter(board.state for board in boards)
                told = [f"{number} {state}" for state, number in states.items()]
                told.append(f"{sum(board.renewals for board in boards)} renewals")
                told.append(f"{sum(board.calls for board in boards)} calls")
                told += [f"{act.name}: {act.told}" for act in acts if act.seconds is None]
                self._console.print(f"{title}: {', '.join(told)}", highlight=False)

        return show

    def summary(self, report: Report) -> None:
        """Print every check and the figures."""
        self._console.print(Group(_checks(report), _figures(report)))


def _boards(title: str, rows: Sequence[BoardRow]) -> RenderableType:
    table = Table(title=title, title_justify="left")
    for heading in ("board", "serial port", "state", "clock", "leaf"):
        table.add_column(heading, no_wrap=True)
    for heading in ("renewals", "calls"):
        table.add_column(heading, justify="right")
    for r in rows[:_MOST_SHOWN]:
        cells = (r.name, r.serial, r.state, r.clock, r.leaf, str(r.renewals), str(r.calls))
        table.add_row(*(Text(cell) for cell in cells))
    if more := rows[_MOST_SHOWN:]:
        totals = (str(sum(r.renewals for r in more)), str(sum(r.calls for r in more)))
        table.add_row(f"and {len(more)} more", "", "", "", "", *totals)
    return table


def _acts(rows: Sequence[ActRow]) -> RenderableType:
    table = Table(title="Meanwhile", title_justify="left", show_header=False)
    for row in rows:
        took = "" if row.seconds is None else f"{row.seconds:.1f} s"
        mark = Text("…", "dim") if row.passed is None else _mark(row.passed)
        table.add_row(mark, Text(row.name), Text(row.told), Text(took, "dim"))
    return table


def _mark(passed: bool) -> Text:
    return Text("✓", "green") if passed else Text("✗", "bold red")


def _checks(report: Report) -> RenderableType:
    table = Table(title="What was checked", title_justify="left")
    table.add_column("")
    table.add_column("check")
    table.add_column("seen")
    for check in report.checks:
        table.add_row(_mark(check.passed), Text(check.name), Text(check.detail))
    return table


def _figures(report: Report) -> RenderableType:
    table = Table(title="Figures", title_justify="left", show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in report.totals.items():
        table.add_row(name, _shown(value))
    return table


def _shown(value: Figure) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if value is None:
        return "-"
    return f"{value:.1f}" if isinstance(value, float) else str(value)
