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

    After an exception no further item is begun, and it is raised when those that were underway
    have ended: what they use is still theirs until then. Ctrl-C is raised at once: the threads are
    daemons and end with what they wait for (every wait on a board or a gateway has a deadline).
    """
    todo: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
    for pair in enumerate(items):
        todo.put(pair)
    done: queue.SimpleQueue[tuple[int, Result] | BaseException | None] = queue.SimpleQueue()
    over = threading.Event()

    def worker() -> None:
        try:
            while not over.is_set():
                index, item = todo.get_nowait()
                done.put((index, work(item)))
        except queue.Empty:
            pass
        except BaseException as error:  # handed to the caller, whatever it is
            over.set()
            done.put(error)
        finally:
            done.put(None)

    workers = min(at_once, len(items))
    for _ in range(workers):
        threading.Thread(target=worker, daemon=True).start()
    results: dict[int, Result] = {}
    failures: list[BaseException] = []
    try:
        while workers:
            outcome = done.get()
            if outcome is None:
                workers -= 1
            elif isinstance(outcome, BaseException):
                failures.append(outcome)
            else:
                results[outcome[0]] = outcome[1]
    finally:
        over.set()
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(items))]
