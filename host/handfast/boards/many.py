"""Several boards at once: each by itself, so that one that fails stops no other."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handfast.boards.device_library import DeviceLibrary, device_library
from handfast.boards.provision import Progress, Provisioned
from handfast.errors import EnvironmentProblem, HandfastError

_STOP_WITHIN_S = 30.0  # of a board that is in the middle of a command when everything is to stop
_LOOK_S = 0.2


class Stopped(HandfastError):
    """The run was ended before this board was done; the next one goes on with it."""

    exit_code = 130


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a board: what was ``done``, or the ``problem`` that ended it."""

    board: str
    done: Provisioned | None = None
    problem: HandfastError | None = None


class LibraryOnce:
    """Makes the device library once for each MicroPython, however many boards run it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, int], DeviceLibrary] = {}

    def __call__(self, micropython: str, mpy: int) -> DeviceLibrary:
        """Return what :func:`device_library` does; the first who asks waits for it to be made."""
        with self._lock:
            if (micropython, mpy) not in self._made:
                self._made[micropython, mpy] = device_library(micropython, mpy)
            return self._made[micropython, mpy]


def provision_many(
    boards: Sequence[str],
    provision_one: Callable[[str, Progress], Provisioned],
    *,
    at_once: int,
    tell: Callable[[str, str, float], None],
    finished: Callable[[Outcome], None],
) -> list[Outcome]:
    """Provision every board, ``at_once`` of them at a time; returns outcomes in their order.

    Args:
        boards: what they are called.
        provision_one: provisions one of them, telling of its progress.
        at_once: how many at a time; at least 1.
        tell: (board, step, how much of it is done), from several threads.
        finished: called for each board as its run ends, one call at a time.

    Raises:
        KeyboardInterrupt: after every board that was being worked on has been let go of, which
            takes 30 s at most.
        Exception: what ``finished`` raised, or a mistake in ``provision_one``, once the boards that
            were being worked on are done; no other is begun then.
    """
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for board in boards:
        waiting.put(board)
    run = _Run(provision_one, tell, finished)
    workers = [
        threading.Thread(target=run.work, args=(waiting,), name=f"provision {n}", daemon=True)
        for n in range(min(at_once, len(boards)))
    ]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            while worker.is_alive():  # a join without an end would not see Ctrl-C
                worker.join(_LOOK_S)
    except KeyboardInterrupt:
        run.stop.set()
        give_up = time.monotonic() + _STOP_WITHIN_S
        for worker in workers:
            worker.join(max(0.0, give_up - time.monotonic()))
        raise
    if run.mistakes:
        raise run.mistakes[0]
    return [run.outcomes[board] for board in boards]


class _Run:
    """What the workers share."""

    def __init__(
        self,
        provision_one: Callable[[str, Progress], Provisioned],
        tell: Callable[[str, str, float], None],
        finished: Callable[[Outcome], None],
    ) -> None:
        self.stop = threading.Event()
        self.outcomes: dict[str, Outcome] = {}
        self.mistakes: list[Exception] = []
        self._provision_one = provision_one
        self._tell = tell
        self._finished = finished
        self._lock = threading.Lock()

    def work(self, waiting: queue.SimpleQueue[str]) -> None:
        """Take boards until none waits; what cannot be recorded keeps the next from being begun."""
        while not self.stop.is_set() and not self.mistakes:
            try:
                board = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                outcome = self._one(board)
                with self._lock:
                    self.outcomes[board] = outcome
                    self._finished(outcome)
            except Exception as mistake:
                with self._lock:
                    self.mistakes.append(mistake)

    def _one(self, board: str) -> Outcome:
        def progress(step: str, done: float) -> None:
            if self.stop.is_set():
                raise Stopped(f"{board}: stopped; provision it again to go on")
            self._tell(board, step, done)

        try:
            return Outcome(board, done=self._provision_one(board, progress))
        except HandfastError as problem:
            return Outcome(board, problem=problem)
        except OSError as error:
            return Outcome(board, problem=EnvironmentProblem(f"{error.strerror or error}"))
