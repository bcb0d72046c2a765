"""What the demo shows while it runs: one line a step, and a live table of the boards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from handfast.lab.demo.report import Report

_REFRESH_PER_S = 4
_PLAIN_LINE_EVERY_S = 5.0


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
    def boards(self, title: str) -> Iterator[Callable[[Sequence[BoardRow]], None]]:
        """Show a table of boards that the block keeps up to date."""
        if not self._console.is_terminal:
            yield self._plain(title)
            return
        live = Live(console=self._console, refresh_per_second=_REFRESH_PER_S)
        with live:
            yield lambda rows: live.update(_table(title, rows))

    def _plain(self, title: str) -> Callable[[Sequence[BoardRow]], None]:
        last = float("-inf")

        def show(rows: Sequence[BoardRow]) -> None:
            nonlocal last
            if time.monotonic() - last >= _PLAIN_LINE_EVERY_S:
                last = time.monotonic()
                told = ", ".join(
                    f"{r.name} {r.state}, {r.renewals} renewals, {r.calls} calls" for r in rows
                )
                self._console.print(f"{title}: {told}", highlight=False)

        return show

    def summary(self, report: Report) -> None:
        """Print every check and the figures."""
        self._console.print(Group(_checks(report), _figures(report)))


def _table(title: str, rows: Sequence[BoardRow]) -> RenderableType:
    table = Table(title=title, title_justify="left")
    for heading in ("board", "serial port", "state", "clock", "leaf"):
        table.add_column(heading, no_wrap=True)
    for heading in ("renewals", "calls"):
        table.add_column(heading, justify="right")
    for r in rows:
        cells = (r.name, r.serial, r.state, r.clock, r.leaf, str(r.renewals), str(r.calls))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _checks(report: Report) -> RenderableType:
    table = Table(title="What was checked", title_justify="left")
    table.add_column("")
    table.add_column("check")
    table.add_column("seen")
    for check in report.checks:
        mark = Text("✓", "green") if check.passed else Text("✗", "bold red")
        table.add_row(mark, Text(check.name), Text(check.detail))
    return table


def _figures(report: Report) -> RenderableType:
    table = Table(title="Figures", title_justify="left", show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in report.totals.items():
        shown = f"{value:.1f}" if isinstance(value, float) else str("-" if value is None else value)
        table.add_row(name, shown)
    return table
