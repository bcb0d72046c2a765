"""What devices report: each row stored once, the newest of each device kept, within a budget."""

from __future__ import annotations

import json
import re
from typing import Any

from sqlalchemy import LargeBinary, cast, delete, func, select
from sqlalchemy.dialects.sqlite import insert

from handfast.gateway import schema
from handfast.gateway.authorise import device_refusal
from handfast.gateway.problems import Problem
from handfast.gateway.rows import find_device
from handfast.gateway.view import AnchorReport
from handfast.gateway.writer import Transaction

# A device that reports as fast as it can must not fill the disk: in some days of one short row
# every five seconds the oldest go. A row that went may be stored again.
MOST_BYTES = 16 * 1024 * 1024
# What a row takes besides its body: its other columns, and its places in two indexes.
_ROW_BYTES = 256
# Room made at once, so that not every row pays for it.
_ROOM_BYTES = MOST_BYTES // 16

# A board holds two of each during a rollover.
_MOST_ANCHORS = 8
_SHA256 = re.compile(r"[0-9a-f]{64}")

Anchors = tuple[tuple[str, ...], tuple[str, ...]]

_rows = schema.telemetry
_budgets = schema.telemetry_bytes
_row_bytes = func.length(cast(_rows.c.body, LargeBinary)) + _ROW_BYTES


def store_telemetry(
    tx: Transaction, *, device_id: str, boot_id: str, seq: int, values: str
) -> bool:
    """Store a row once; returns whether it is new.

    Raises:
        Problem: the device was suspended or revoked since the request was authorised.
    """
    device = find_device(tx.connection, device_id)
    slug = "unknown-certificate" if device is None else device_refusal(device.state)
    if slug:
        raise Problem(slug)
    row = {
        "device_id": device_id,
        "boot_id": boot_id,
        "seq": seq,
        "received": tx.now,
        "body": values,
    }
    size = tx.connection.scalar(
        insert(_rows).values(row).on_conflict_do_nothing().returning(_row_bytes)
    )
    if size is None:
        return False
    over = _add(tx, device_id, size) - MOST_BYTES
    if over > 0:
        _drop_oldest(tx, device_id, over + _ROOM_BYTES)
    return True


def parse_anchors(value: object) -> Anchors:
    """Return (TLS anchors, roots) of a report's ``anchors``.

    Raises:
        Problem: ``bad-request``: it is not what a board says of its anchors.
    """
    lists = [value.get(name) for name in ("tls", "root")] if isinstance(value, dict) else []
    found = [tuple(one) for one in lists if isinstance(one, list) and len(one) <= _MOST_ANCHORS]
    whole = len(found) == 2 and len(value) == 2  # type: ignore[arg-type]
    if not whole or not all(_is_sha256(one) for one in (*found[0], *found[1])):
        raise Problem(
            "bad-request",
            f"anchors must be tls and root, each a list of at most {_MOST_ANCHORS} SHA-256 in "
            "lower-case hexadecimal.",
        )
    return found[0], found[1]


def _is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def store_anchors(tx: Transaction, *, device_id: str, anchors: Anchors) -> None:
    """Keep what a device said of its trust anchors, in place of what it said before."""
    table = schema.anchors
    values: dict[str, Any] = {
        "tls": json.dumps(anchors[0]),
        "roots": json.dumps(anchors[1]),
        "reported": tx.now,
    }
    row = {"device_id": device_id, **values}
    change = (
        insert(table).values(row).on_conflict_do_update(index_elements=["device_id"], set_=values)
    )
    tx.connection.execute(change)
    tx.changed(AnchorReport(device_id, *anchors, tx.now))


def _add(tx: Transaction, device_id: str, size: int) -> int:
    """Count a device's new row, or fewer rows where negative; returns what all of its take."""
    more = {"bytes": _budgets.c.bytes + size}
    count = (
        insert(_budgets)
        .values(device_id=device_id, bytes=size)
        .on_conflict_do_update(index_elements=["device_id"], set_=more)
        .returning(_budgets.c.bytes)
    )
    total: int = tx.connection.execute(count).scalar_one()
    return total


def _drop_oldest(tx: Transaction, device_id: str, wanted: int) -> None:
    theirs = _rows.c.device_id == device_id
    freed, last = 0, 0
    oldest = select(_rows.c.id, _row_bytes.label("bytes")).where(theirs).order_by(_rows.c.id)
    with tx.connection.execute(oldest) as rows:
        for row in rows:
            freed, last = freed + row.bytes, row.id
            if freed >= wanted:
                break
    tx.connection.execute(delete(_rows).where(theirs, _rows.c.id <= last))
    _add(tx, device_id, -freed)
