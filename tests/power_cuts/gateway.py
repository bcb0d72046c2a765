"""The gateway as it is, with two more requests for its owner: keep a device, and put it back.

`python -m tests.power_cuts.gateway` takes the arguments of `handfast`. A device is put back as if
nothing had happened to it since: what the registry holds of it and what is shown of that. Nothing
else in a gateway remembers a device (when it was last seen decides nothing), and nobody may talk
to it in the device's name meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, and_, delete, insert, select
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Route

from handfast import __main__ as handfast
from handfast.gateway import admin, schema
from handfast.gateway.context import Gateway
from handfast.gateway.rows import (
    anchor_report,
    certificate_record,
    device_record,
    revocation_record,
)
from handfast.gateway.view import RegistryView
from handfast.gateway.writer import Transaction

Rows = dict[str, list[dict[str, Any]]]

# Whatever refers to another comes after it.
_TABLES: tuple[Table, ...] = (
    schema.devices,
    schema.certificates,
    schema.revocations,
    schema.tokens,
    schema.telemetry,
    schema.telemetry_bytes,
    schema.anchors,
    schema.audit,
)
_RECORDS = (
    (schema.devices, device_record),
    (schema.certificates, certificate_record),
    (schema.revocations, revocation_record),
    (schema.anchors, anchor_report),
)


def _of_device(table: Table, device_id: str) -> Select[Any]:
    """Return the query for a table's rows of a device, always in one order."""
    query = select(table).order_by(*table.primary_key)
    if table is not schema.revocations:
        return query.where(table.c.device_id == device_id)
    certificates = schema.certificates
    same = and_(table.c.ca == certificates.c.ca, table.c.serial == certificates.c.serial)
    return query.join(certificates, same).where(certificates.c.device_id == device_id)


def _read(connection: Connection, device_id: str) -> Rows:
    return {
        table.name: [
            dict(row) for row in connection.execute(_of_device(table, device_id)).mappings()
        ]
        for table in _TABLES
    }


def _digest(rows: Rows) -> str:
    """Return the SHA-256 (hex) of all that decides; equal rows have equal ones."""
    deciding = {
        name: [[(key, row[key]) for key in sorted(row) if key != "last_seen"] for row in found]
        for name, found in rows.items()
    }
    return hashlib.sha256(repr(deciding).encode()).hexdigest()


def _replace(tx: Transaction, device_id: str, rows: Rows) -> None:
    for revoked in tx.connection.execute(_of_device(schema.revocations, device_id)).all():
        table = schema.revocations
        is_it = and_(table.c.ca == revoked.ca, table.c.serial == revoked.serial)
        tx.connection.execute(delete(table).where(is_it))
    for table in reversed(_TABLES):
        if table is not schema.revocations:
            tx.connection.execute(delete(table).where(table.c.device_id == device_id))
    for table in _TABLES:
        if rows[table.name]:
            tx.connection.execute(insert(table), rows[table.name])
    for table, record in _RECORDS:
        found = tx.connection.execute(_of_device(table, device_id))
        tx.changed(*(record(row) for row in found))


def _hide(view: RegistryView, device_id: str) -> None:
    """Show nothing of a device any more."""
    theirs = [one for one in view.certificates.values() if one.device_id == device_id]
    for certificate in theirs:
        key = certificate.ca, certificate.serial
        del view.certificates[certificate.sha256], view.by_serial[key]
        view.revocations.pop(key, None)
    view.devices.pop(device_id, None)
    view.anchors.pop(device_id, None)


class _Keeper:
    """Answers the two requests; what is kept is in memory, once for equal rows."""

    def __init__(self, gateway: Gateway) -> None:
        self._registry = gateway.registry
        self._kept: dict[tuple[str, str], Rows] = {}

    async def keep(self, request: Request) -> JSONResponse:
        device_id = request.path_params["device_id"]
        rows = await self._registry.read(lambda connection: _read(connection, device_id))
        sha256 = _digest(rows)
        self._kept[device_id, sha256] = rows
        return JSONResponse({"sha256": sha256})

    async def put_back(self, request: Request) -> JSONResponse:
        device_id, sha256 = request.path_params["device_id"], request.path_params["sha256"]
        rows = self._kept[device_id, sha256]
        _hide(self._registry.view, device_id)
        await self._registry.write(lambda tx: _replace(tx, device_id, rows))
        return JSONResponse({"sha256": sha256})


def _admin_routes(gateway: Gateway) -> Sequence[BaseRoute]:
    keeper, path = _Keeper(gateway), "/admin/v1/kept/{device_id}"
    return [
        *_ROUTES(gateway),
        Route(path, keeper.keep, methods=["POST"]),
        Route(path + "/{sha256}", keeper.put_back, methods=["PUT"]),
    ]


_ROUTES = admin.routes

if __name__ == "__main__":
    admin.routes = _admin_routes
    handfast.main()
