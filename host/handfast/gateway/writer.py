"""One thread writes the registry: many queued operations, one durable commit (group commit).

SQLite with WAL and FULL syncs once a commit, so a commit each would cap the gateway at a few
hundred writes a second; sharing it multiplies that.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, delete, insert
from sqlalchemy.exc import DBAPIError, OperationalError

from handfast.gateway import schema
from handfast.gateway.problems import Problem
from handfast.gateway.view import Change, RegistryView

T = TypeVar("T")

_MOST_A_BATCH = 128
_MOST_QUEUED = 4096
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


@dataclass(slots=True)
class _Job:
    operation: Operation[Any]
    future: asyncio.Future[Any]
    result: Any = None
    error: BaseException | None = None
    changes: list[Change] = field(default_factory=list)


class Writer:
    """Runs operations one after another, each whole or not at all, and commits them in groups.

    Args:
        engine: from :func:`handfast.gateway.schema.open_engine`.
        view: updated on the event loop after each commit, before anyone waiting is told.
        clock: unix seconds.
    """

    def __init__(self, engine: Engine, view: RegistryView, *, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._view = view
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue: queue.Queue[_Job | None] = queue.Queue(maxsize=_MOST_QUEUED)
        self._thread = threading.Thread(target=self._run, name="registry-writer", daemon=True)
        self._thread.start()

    async def submit(self, operation: Operation[T]) -> T:
        """Run ``operation`` in the next commit and return its result once that is durable.

        Raises:
            Problem: the operation's own, or ``too-busy`` when the queue is full or the database
                cannot be written (a full disk); then nothing was stored.
        """
        job = _Job(operation, self._loop.create_future())
        try:
            self._queue.put_nowait(job)
        except queue.Full:
            raise Problem("too-busy") from None
        result: T = await job.future
        return result

    async def close(self) -> None:
        """Finish what is queued and end the thread."""
        await asyncio.to_thread(self._queue.put, None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        while True:
            batch, last = self._next_batch()
            if batch:
                self._commit(batch)
                self._loop.call_soon_threadsafe(self._deliver, batch)
            if last:
                return

    def _next_batch(self) -> tuple[list[_Job], bool]:
        batch: list[_Job] = []
        job = self._queue.get()
        while job is not None:
            batch.append(job)
            if len(batch) == _MOST_A_BATCH:
                return batch, False
            try:
                job = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
        return batch, True

    def _commit(self, batch: list[_Job]) -> None:
        try:
            with self._engine.connect() as connection:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                for job in batch:
                    self._run_one(connection, job)
                connection.commit()
        except Exception as error:
            # The whole group is rolled back: nobody may be told of success.
            problem: Exception = error
            if isinstance(error, DBAPIError):
                problem = Problem("too-busy", f"The registry cannot be written: {error.orig}.")
            for job in batch:
                job.error, job.changes = problem, []

    def _run_one(self, connection: Connection, job: _Job) -> None:
        savepoint = connection.begin_nested()
        transaction = Transaction(connection, self._clock())
        try:
            job.result = job.operation(transaction)
        except OperationalError:
            raise  # a full disk may have ended the whole transaction
        except Exception as error:
            savepoint.rollback()
            job.error = error
        else:
            savepoint.commit()
            job.changes = transaction.changes

    def _deliver(self, batch: list[_Job]) -> None:
        for job in batch:
            self._view.apply(job.changes)
        for job in batch:
            if job.future.done():
                continue
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)
