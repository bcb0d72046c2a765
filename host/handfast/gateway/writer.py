"""One thread writes the registry: many queued operations, one durable commit (group commit).

SQLite with WAL and FULL syncs once a commit, so a commit each would cap the gateway at a few
hundred writes a second; sharing it multiplies that.

To stop a device is different from every other operation: it holds from the moment that it is
decided, whatever the disk does (:meth:`Writer.insist`).
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, delete, insert
from sqlalchemy.exc import DBAPIError, OperationalError

from handfast.gateway import schema
from handfast.gateway.problems import Problem
from handfast.gateway.reserve import Reserve
from handfast.gateway.server import Log
from handfast.gateway.view import Change, DeviceRecord, RegistryView

T = TypeVar("T")

_MOST_A_BATCH = 128
_MOST_QUEUED = 4096
RETRY_S = 2.0
# A device that is refused over and over must not fill the disk.
_MOST_AUDIT_ROWS = 1_000_000
_PRUNE_AUDIT_EVERY = 1000


@dataclass(slots=True)
class Transaction:
    """What an operation works on: the connection, and the changes to show once committed."""

    connection: Connection
    now: float
    changes: list[Change] = field(default_factory=list)

    def changed(self, *changes: Change) -> None:
        """Note rows for the view; they are applied after the commit, in commit order."""
        self.changes.extend(changes)

    def audit(self, event: str, device_id: str | None, detail: str = "") -> None:
        """Record something an administrator will ask about later; never a secret."""
        audit = schema.audit
        row = {"at": self.now, "event": event, "device_id": device_id, "detail": detail}
        added = self.connection.execute(
            insert(audit).values(row).returning(audit.c.id)
        ).scalar_one()
        if added % _PRUNE_AUDIT_EVERY == 0:
            self.connection.execute(delete(audit).where(audit.c.id <= added - _MOST_AUDIT_ROWS))


Operation = Callable[[Transaction], T]


class NotStored(Problem):
    """The registry cannot be written, so what was asked for is not in it."""

    def __init__(self, reason: str) -> None:
        super().__init__("too-busy", f"The registry cannot be written: {reason}.")
        self.reason = reason


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """An operation; one that is insisted on has what the view shows until it is stored."""

    operation: Operation[Any]
    future: asyncio.Future[Any]
    meanwhile: DeviceRecord | None = None


@dataclass(slots=True)
class _Outcome:
    """What came of one attempt; ``settled``: its error, if any, is the operation's own."""

    job: _Job
    result: Any = None
    error: Exception | None = None
    changes: Sequence[Change] = ()
    settled: bool = True


class Writer:
    """Runs operations one after another, each whole or not at all, and commits them in groups.

    Args:
        engine: from :func:`handfast.gateway.schema.open_engine`.
        view: updated on the event loop after each commit, before anyone waiting is told.
        reserve: given up when a device cannot be stopped otherwise; while it is out, nothing
            but stops is written, so that nothing else takes its space.
        clock: unix seconds.
        log: told when the registry cannot be written, and when it can be again.
    """

    def __init__(
        self,
        engine: Engine,
        view: RegistryView,
        reserve: Reserve,
        *,
        clock: Callable[[], float],
        log: Log,
    ) -> None:
        self._engine = engine
        self._view = view
        self._reserve = reserve
        self._clock = clock
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Stops that are not stored: as the event loop sees them, and as the thread does.
        self._stops: list[_Job] = []
        self._overdue: list[_Job] = []
        self._trouble: str | None = None
        self._thread = threading.Thread(target=self._run, name="registry-writer", daemon=True)
        self._thread.start()

    async def submit(self, operation: Operation[T]) -> T:
        """Run ``operation`` in the next commit and return its result once that is durable.

        Raises:
            Problem: the operation's own, or ``too-busy`` when the queue is full or the database
                cannot be written (a full disk); then nothing was stored.
        """
        if self._queue.qsize() >= _MOST_QUEUED:
            raise Problem("too-busy")
        job = _Job(operation, self._loop.create_future())
        self._queue.put(job)
        result: T = await job.future
        return result

    def insist(self, operation: Operation[T], meanwhile: DeviceRecord) -> asyncio.Future[T]:
        """Have the view show ``meanwhile`` from now on, and store that by ``operation``.

        Until it is stored it is tried again, ahead of all else; only the end of this process
        ends that.

        Returns:
            Done when it is stored, or fails with :class:`NotStored` when it was not at once.
        """
        job = _Job(operation, self._loop.create_future(), meanwhile)
        self._stops.append(job)
        self._view.apply([meanwhile])
        self._queue.put(job)
        return job.future

    async def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)
        lost = [job.meanwhile.device_id for job in self._overdue if job.meanwhile]
        if lost:
            self._log.error("stops_lost", device_ids=lost, reason=self._trouble)

    # In the thread

    def _run(self) -> None:
        self._reserve.hold()
        while True:
            batch, last = self._next_batch()
            outcomes = self._write(batch)
            self._loop.call_soon_threadsafe(self._deliver, outcomes)
            if last:
                return

    def _next_batch(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        try:
            job = self._queue.get(timeout=RETRY_S if self._overdue else None)
            while job is not None:
                batch.append(job)
                if len(batch) == _MOST_A_BATCH:
                    return batch, False
                job = self._queue.get_nowait()
        except queue.Empty:
            return batch, False
        return batch, True

    def _write(self, batch: list[_Job]) -> list[_Outcome]:
        """Store stops before all else, and nothing else while one of them is not stored.

        Another change of the device would be made from a row that does not know of its stop.
        """
        stops = self._store_stops([*self._overdue, *(job for job in batch if job.meanwhile)])
        self._overdue = [stop.job for stop in stops if not stop.settled]
        rest = [job for job in batch if not job.meanwhile]
        if not self._overdue and self._reserve.hold():
            others = self._commit(rest)
        else:
            no_room = NotStored("no room is left on the disk but for stopping devices")
            others = [_Outcome(job, error=no_room, settled=False) for job in rest]
        outcomes = [*stops, *others]
        self._note_trouble(outcomes)
        return outcomes

    def _store_stops(self, stops: list[_Job]) -> list[_Outcome]:
        outcomes = self._commit(stops)
        if all(outcome.settled for outcome in outcomes) or not self._reserve.release():
            return outcomes
        # One by one: there may be room for some of them only.
        return [outcome for stop in stops for outcome in self._commit([stop])]

    def _commit(self, batch: list[_Job]) -> list[_Outcome]:
        if not batch:
            return []
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                outcomes = [self._run_one(connection, job) for job in batch]
                connection.commit()
                return outcomes
        except Exception as error:
            # The whole group is rolled back: nobody may be told of success.
            problem: Exception = error
            if isinstance(error, DBAPIError):
                problem = NotStored(str(error.orig))
            return [_Outcome(job, error=problem, settled=False) for job in batch]

    def _run_one(self, connection: Connection, job: _Job) -> _Outcome:
        savepoint = connection.begin_nested()
        transaction = Transaction(connection, self._clock())
        try:
            result = job.operation(transaction)
        except OperationalError:
            raise  # a full disk may have ended the whole transaction
        except Exception as error:
            savepoint.rollback()
            return _Outcome(job, error=error)
        savepoint.commit()
        return _Outcome(job, result, changes=transaction.changes)

    def _note_trouble(self, outcomes: list[_Outcome]) -> None:
        """Log when the registry begins to be unwritable, and when that is over."""
        errors = [outcome.error for outcome in outcomes if not outcome.settled]
        trouble = getattr(errors[0], "reason", type(errors[0]).__name__) if errors else None
        if trouble and not self._trouble:
            self._log.error("registry_not_written", reason=trouble)
        if self._trouble and outcomes and not trouble:
            self._log.info("registry_written_again")
        if outcomes:
            self._trouble = trouble

    # On the event loop

    def _deliver(self, outcomes: list[_Outcome]) -> None:
        for outcome in outcomes:
            self._view.apply(outcome.changes)
            if outcome.settled and outcome.job in self._stops:
                self._stops.remove(outcome.job)
        # What was queued before a stop was made from a row that did not know of it yet.
        self._view.apply(job.meanwhile for job in self._stops if job.meanwhile)
        for outcome in outcomes:
            future = outcome.job.future
            if future.done():
                continue
            if outcome.error is not None:
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome.result)
