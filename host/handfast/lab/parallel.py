"""Do the same to several boards at once, and stay interruptible."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], *, at_once: int = 16
) -> list[Result]:
    """Call ``work`` for every item, at most ``at_once`` at a time; return the results in order.

    The first exception is raised as soon as it happens. Ctrl-C is too: the threads are daemons
    and end with what they wait for (every wait on a board or a gateway has a deadline).
    """
    todo: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
    for pair in enumerate(items):
        todo.put(pair)
    done: queue.SimpleQueue[tuple[int, Result] | BaseException] = queue.SimpleQueue()

    def worker() -> None:
        while True:
            try:
                index, item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((index, work(item)))
            except BaseException as error:  # handed to the caller, whatever it is
                done.put(error)
                return

    for _ in range(min(at_once, len(items))):
        threading.Thread(target=worker, daemon=True).start()
    results: dict[int, Result] = {}
    while len(results) < len(items):
        outcome = done.get()
        if isinstance(outcome, BaseException):
            raise outcome
        results[outcome[0]] = outcome[1]
    return [results[index] for index in range(len(items))]
