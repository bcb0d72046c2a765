"""Progress of a command for people: one bar a step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

# (what is being done, how much of it is done: 0 to 1)
Tell = Callable[[str, float], None]


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
