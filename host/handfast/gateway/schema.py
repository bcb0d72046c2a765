"""The registry's tables, and the SQLite database they live in.

Times are unix seconds; those that a rule compares with sub-second care are floats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
)
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import QueuePool

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_MS = 5000
READERS = 4

metadata = MetaData()

devices = Table(
    "devices",
    metadata,
    Column("device_id", String(63), primary_key=True),
    Column("hardware_id", String(64)),
    Column("state", String(16), nullable=False),
    Column("state_since", Float, nullable=False),
    Column("created", Float, nullable=False),
    Column("last_seen", Float),
    Column("settings", String, nullable=False, server_default="{}"),
)

certificates = Table(
    "certificates",
    metadata,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("kind", String(8), nullable=False),
    Column("ca", String(16), nullable=False),
    # Hexadecimal: a serial number has up to 160 bits, SQLite's integers have 64.
    Column("serial", String(40), nullable=False),
    Column("spki_sha256", LargeBinary(32), nullable=False),
    Column("not_before", Integer, nullable=False),
    Column("not_after", Integer, nullable=False),
    Column("state", String(12), nullable=False),
    # SHA-256 of the credential that asked: predecessor leaf, IDevID or token.
    Column("asked_by", LargeBinary(32)),
    Column("switched_at", Float),
    Column("issued", Float, nullable=False),
    Column("der", LargeBinary, nullable=False),
    UniqueConstraint("ca", "serial"),
    Index("certificates_by_device", "device_id", "not_after"),
    Index("certificates_by_key", "spki_sha256"),
)

revocations = Table(
    "revocations",
    metadata,
    Column("ca", String(16), primary_key=True),
    Column("serial", String(40), primary_key=True),
    Column("revoked_at", Float, nullable=False),
    Column("reason", String(32), nullable=False),
    Column("not_after", Integer, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("token_sha256", LargeBinary(32), primary_key=True),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False, index=True),
    Column("created", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("spki_sha256", LargeBinary(32)),
    Column("used", Float),
)

telemetry = Table(
    "telemetry",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("device_id", ForeignKey("devices.device_id"), nullable=False),
    Column("boot_id", String(32), nullable=False),
    Column("seq", Integer, nullable=False),
    Column("received", Float, nullable=False),
    Column("body", String, nullable=False),
    UniqueConstraint("device_id", "boot_id", "seq"),
    Index("telemetry_by_device", "device_id", "id"),
    sqlite_autoincrement=True,
)

# What each device's telemetry takes, counted as it comes and goes.
telemetry_bytes = Table(
    "telemetry_bytes",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("bytes", Integer, nullable=False),
)

# What each device said last; JSON arrays of SHA-256 in hexadecimal.
anchors = Table(
    "anchors",
    metadata,
    Column("device_id", ForeignKey("devices.device_id"), primary_key=True),
    Column("tls", String, nullable=False),
    Column("roots", String, nullable=False),
    Column("reported", Float, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("event", String(32), nullable=False),
    Column("device_id", String(63), index=True),
    Column("detail", String, nullable=False),
    sqlite_autoincrement=True,
)


def open_engine(path: Path) -> Engine:
    """Return an engine whose connections are durable (WAL, FULL) and start no transaction alone."""
    engine = create_engine(
        f"sqlite+pysqlite:///{path}",
        poolclass=QueuePool,
        pool_size=1 + READERS,
        max_overflow=0,
        hide_parameters=True,  # an error's text goes to the log, values have no business there
        connect_args={"check_same_thread": False, "timeout": _BUSY_TIMEOUT_MS / 1000},
    )
    event.listen(engine, "connect", _on_connect)
    return engine


def _on_connect(connection: DBAPIConnection, _record: Any) -> None:
    # The driver's own BEGIN comes too late for savepoints; Writer says BEGIN IMMEDIATE itself.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
