"""Progress of a command for people: one bar a step, or one line a board."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

# Steps that end a line's time.
DONE, FAILED = "done", "failed"
ENDS = (DONE, FAILED)

# (what is being done, how much of it is done: 0 to 1)
Tell = Callable[[str, float], None]


# (whose, what is being done, how much of it is done: 0 to 1)
TellOf = Callable[[str, str, float], None]


@contextmanager
def progress_lines(names: Sequence[str], *, quiet: bool) -> Iterator[TellOf]:
    """Show what goes on with each of ``names`` on a line of its own, on stderr."""
    console = Console(stderr=True, quiet=quiet)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[name]}", markup=False),
        BarColumn(),
        TextColumn("{task.description}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as lines:
        tasks = {name: lines.add_task("waiting", total=1, start=False, name=name) for name in names}
        begun: set[str] = set()

        def tell(name: str, step: str, done: float) -> None:
            if name not in begun:
                begun.add(name)
                lines.start_task(tasks[name])
            lines.update(tasks[name], description=step, completed=done)
            if step in ENDS:
                lines.stop_task(tasks[name])

        yield tell


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Tell]:
    """Show each step with a bar on stderr, which leaves stdout to the result."""
    console = Console(stderr=True, quiet=quiet)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        task = None
        shown = ""

        def tell(step: str, done: float) -> None:
            nonlocal task, shown
            if step != shown:
                if task is not None:
                    bars.update(task, completed=1)
                task, shown = bars.add_task(step, total=1), step
            if task is not None:
                bars.update(task, completed=done)

        yield tell
        if task is not None:
            bars.update(task, completed=1)
