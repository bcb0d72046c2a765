"""The registry: opened once, read from memory or a reader connection, written by one thread."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import DBAPIError

from handfast.errors import EnvironmentProblem
from handfast.gateway import schema
from handfast.gateway.devices import in_state, set_device_state, store_last_seen
from handfast.gateway.problems import Problem
from handfast.gateway.reserve import Reserve
from handfast.gateway.rows import (
    anchor_report,
    certificate_record,
    device_record,
    revocation_record,
)
from handfast.gateway.server import Log
from handfast.gateway.view import DeviceRecord, DeviceState, RegistryView
from handfast.gateway.writer import Transaction, Writer

T = TypeVar("T")

# Kept in memory a while after their end, so that an old leaf is told why it is refused.
_REMEMBER_EXPIRED_S = 3600.0
_MOST_ROWS = 1000


class Registry:
    """Open with :meth:`open` on a running event loop, end with :meth:`close`.

    Attributes:
        view: what requests are authorised against.
        clock: unix seconds; everything here tells the time by it.
    """

    def __init__(
        self, engine: Engine, view: RegistryView, writer: Writer, clock: Callable[[], float]
    ) -> None:
        self.view = view
        self.clock = clock
        self._engine = engine
        self._writer = writer
        self._last_seen: dict[str, float] = {}
        # The pool has one connection more: however much is read, the writer never waits for one.
        self._reading = asyncio.Semaphore(schema.READERS)

    @classmethod
    async def open(
        cls, path: Path, *, clock: Callable[[], float], reserve: Reserve, log: Log
    ) -> Registry:
        """Open the database, making it where there is none, and load the view.

        Args:
            path: the database's file.
            clock: unix seconds.
            reserve: space on the same disk, for stopping devices when it is full.
            log: told when the registry cannot be written.

        Raises:
            EnvironmentProblem: it cannot be opened, or a newer Handfast made it.
        """
        engine = schema.open_engine(path)
        try:
            # SQLite gives its other files the mode of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            view = await asyncio.to_thread(_prepare, engine, path, clock())
        except (DBAPIError, OSError) as error:
            reason = error.orig if isinstance(error, DBAPIError) else error.strerror
            raise EnvironmentProblem(
                f"the registry {path} cannot be opened: {reason}; check the disk and the "
                "folder's permissions, or restore the file from a backup"
            ) from error
        return cls(engine, view, Writer(engine, view, reserve, clock=clock, log=log), clock)

    async def close(self) -> None:
        """Write what is queued and close the database."""
        await self.write_last_seen()
        await self._writer.close()
        self._engine.dispose()

    async def write(self, operation: Callable[[Transaction], T]) -> T:
        """Run an operation; see :meth:`handfast.gateway.writer.Writer.submit`."""
        return await self._writer.submit(operation)

    def stop_device(self, device_id: str, state: DeviceState) -> asyncio.Future[DeviceRecord]:
        """Suspend or revoke a device: in force when this returns, stored when the future is done.

        See :meth:`handfast.gateway.writer.Writer.insist`.

        Raises:
            Problem: ``not-found``, or ``device-revoked`` when it is to be suspended.
        """
        device = self.view.devices.get(device_id)
        if device is None:
            raise Problem("not-found", f"There is no device {device_id}.")
        stopped = in_state(device, state, since=self.clock())
        return self._writer.insist(
            lambda tx: set_device_state(tx, device_id=device_id, state=state), stopped
        )

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run ``query`` on a reader connection, off the event loop."""

        def run() -> T:
            with self._engine.connect() as connection:
                return query(connection)

        async with self._reading:
            return await asyncio.to_thread(run)

    def saw(self, device_id: str) -> None:
        """Remember that a device made a request now."""
        self._last_seen[device_id] = self.clock()

    def forget_expired(self) -> None:
        """Drop from memory what ended a while ago; the database keeps it."""
        self.view.forget_expired(self.clock() - _REMEMBER_EXPIRED_S)

    async def write_last_seen(self) -> None:
        """Make the times of :meth:`saw` durable; on a full disk they wait for the next time."""
        if not self._last_seen:
            return
        seen, self._last_seen = self._last_seen, {}
        try:
            await self.write(lambda tx: store_last_seen(tx, seen))
        except Problem:
            self._last_seen = seen | self._last_seen

    # Reading for administrators

    async def device(self, device_id: str) -> dict[str, Any]:
        """Return all about one device; times in unix seconds.

        Raises:
            Problem: ``not-found``.
        """
        await self.write_last_seen()
        found = await self.read(lambda connection: _device(connection, device_id))
        if found is None:
            raise Problem("not-found", f"There is no device {device_id}.")
        return found

    async def devices(self) -> list[dict[str, Any]]:
        """Return every device, sorted by name."""
        await self.write_last_seen()
        return await self.read(_devices)

    async def telemetry(self, device_id: str, *, after: int) -> list[dict[str, Any]]:
        """Return telemetry with an ``id`` above ``after``, oldest first, at most 1,000 rows."""
        table = schema.telemetry
        wanted = select(table).where(table.c.device_id == device_id, table.c.id > after)
        wanted = wanted.order_by(table.c.id).limit(_MOST_ROWS)
        rows = await self.read(lambda connection: connection.execute(wanted).all())
        return [
            {
                "id": row.id,
                "boot_id": row.boot_id,
                "seq": row.seq,
                "received": row.received,
                "values": json.loads(row.body),
            }
            for row in rows
        ]

    async def audit(self, device_id: str | None) -> list[dict[str, Any]]:
        """Return the newest 1,000 audit rows, oldest first, of one device or of all."""
        table = schema.audit
        wanted = select(table).order_by(table.c.id.desc()).limit(_MOST_ROWS)
        if device_id is not None:
            wanted = wanted.where(table.c.device_id == device_id)
        rows = await self.read(lambda connection: connection.execute(wanted).all())
        return [dict(row._mapping) for row in reversed(rows)]


def _prepare(engine: Engine, path: Path, now: float) -> RegistryView:
    with engine.connect() as connection:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if version > schema.SCHEMA_VERSION:
            raise EnvironmentProblem(
                f"the registry {path} was made by a newer Handfast (schema {version}); "
                "upgrade this one"
            )
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        schema.metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version = {schema.SCHEMA_VERSION}")
        connection.commit()
        return _load_view(connection, now - _REMEMBER_EXPIRED_S)


def _load_view(connection: Connection, since: float) -> RegistryView:
    view = RegistryView()
    certificates, revocations = schema.certificates, schema.revocations
    live = select(certificates).where(certificates.c.not_after >= int(since))
    revoked = select(revocations).where(revocations.c.not_after >= int(since))
    view.apply(device_record(row) for row in connection.execute(select(schema.devices)))
    view.apply(certificate_record(row) for row in connection.execute(live))
    view.apply(revocation_record(row) for row in connection.execute(revoked))
    view.apply(anchor_report(row) for row in connection.execute(select(schema.anchors)))
    return view


def _devices(connection: Connection) -> list[dict[str, Any]]:
    table = schema.devices
    rows = connection.execute(select(table).order_by(table.c.device_id))
    return [_device_facts(row) for row in rows]


def _device_facts(row: Any) -> dict[str, Any]:
    return {
        "device_id": row.device_id,
        "hardware_id": row.hardware_id,
        "state": row.state,
        "created": row.created,
        "last_seen": row.last_seen,
    }


def _device(connection: Connection, device_id: str) -> dict[str, Any] | None:
    table, certificates, tokens = schema.devices, schema.certificates, schema.tokens
    device = connection.execute(select(table).where(table.c.device_id == device_id)).first()
    if device is None:
        return None
    theirs = select(certificates).where(certificates.c.device_id == device_id)
    theirs = theirs.order_by(certificates.c.issued.desc()).limit(_MOST_ROWS)
    tokens_of = select(tokens).where(tokens.c.device_id == device_id).order_by(tokens.c.created)
    said = connection.execute(
        select(schema.anchors).where(schema.anchors.c.device_id == device_id)
    ).first()
    reported = None if said is None else anchor_report(said)
    return _device_facts(device) | {
        "settings": json.loads(device.settings),
        "certificates": [
            {
                "sha256": row.sha256.hex(),
                "spki_sha256": row.spki_sha256.hex(),
                "serial": row.serial,
                "kind": row.kind,
                "state": row.state,
                "not_before": row.not_before,
                "not_after": row.not_after,
                "switched_at": row.switched_at,
            }
            for row in connection.execute(theirs)
        ],
        "anchors": reported and {"tls": reported.tls, "root": reported.roots},
        "tokens": [
            {
                "sha256": row.token_sha256.hex(),
                "created": row.created,
                "expires": row.expires,
                "bound": row.spki_sha256 is not None,
                "used": row.used,
            }
            for row in connection.execute(tokens_of)
        ],
    }
