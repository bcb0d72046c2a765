"""Between the registry's rows and the records of the view."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from handfast.gateway import schema
from handfast.gateway.view import (
    AnchorReport,
    CertificateKind,
    CertificateRecord,
    CertificateState,
    DeviceRecord,
    DeviceState,
    Revocation,
)
from handfast.gateway.writer import Transaction


def device_record(row: Row[Any]) -> DeviceRecord:
    """Read a row of ``devices``."""
    return DeviceRecord(
        row.device_id, row.hardware_id, DeviceState(row.state), row.state_since, row.settings
    )


def certificate_record(row: Row[Any]) -> CertificateRecord:
    """Read a row of ``certificates``."""
    return CertificateRecord(
        sha256=row.sha256,
        device_id=row.device_id,
        kind=CertificateKind(row.kind),
        ca=row.ca,
        serial=row.serial,
        not_before=row.not_before,
        not_after=row.not_after,
        state=CertificateState(row.state),
        switched_at=row.switched_at,
    )


def revocation_record(row: Row[Any]) -> Revocation:
    """Read a row of ``revocations``."""
    return Revocation(row.ca, row.serial, row.revoked_at, row.reason, row.not_after)


def anchor_report(row: Row[Any]) -> AnchorReport:
    """Read a row of ``anchors``."""
    tls, roots = (tuple(json.loads(column)) for column in (row.tls, row.roots))
    return AnchorReport(row.device_id, tls, roots, row.reported)


def find_device(connection: Connection, device_id: str) -> DeviceRecord | None:
    """Return the device of that name."""
    devices = schema.devices
    row = connection.execute(select(devices).where(devices.c.device_id == device_id)).first()
    return None if row is None else device_record(row)


def find_certificates(connection: Connection, *where: ColumnElement[bool]) -> list[Row[Any]]:
    """Return rows of ``certificates``, newest first."""
    certificates = schema.certificates
    newest_first = (certificates.c.issued.desc(), certificates.c.not_after.desc())
    return list(connection.execute(select(certificates).where(*where).order_by(*newest_first)))


def insert_certificate(
    tx: Transaction,
    certificate: x509.Certificate,
    *,
    device_id: str,
    kind: CertificateKind,
    ca: str,
    state: CertificateState,
    asked_by: bytes | None,
) -> CertificateRecord:
    """Register a freshly signed certificate."""
    record = CertificateRecord(
        sha256=certificate.fingerprint(hashes.SHA256()),
        device_id=device_id,
        kind=kind,
        ca=ca,
        serial=f"{certificate.serial_number:x}",
        not_before=int(certificate.not_valid_before_utc.timestamp()),
        not_after=int(certificate.not_valid_after_utc.timestamp()),
        state=state,
    )
    row = {
        "sha256": record.sha256,
        "device_id": device_id,
        "kind": str(kind),
        "ca": ca,
        "serial": record.serial,
        "spki_sha256": spki_sha256(certificate),
        "not_before": record.not_before,
        "not_after": record.not_after,
        "state": str(state),
        "asked_by": asked_by,
        "issued": tx.now,
        "der": certificate.public_bytes(serialization.Encoding.DER),
    }
    tx.connection.execute(insert(schema.certificates), row)
    tx.changed(record)
    return record


def spki_sha256(certificate: x509.Certificate) -> bytes:
    """Return the SHA-256 of a certificate's subjectPublicKeyInfo."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(
        certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )
    return digest.finalize()


def set_certificate_state(
    tx: Transaction,
    rows: Iterable[Row[Any]],
    state: CertificateState,
    *,
    switched_at: float | None = None,
    revoke_reason: str | None = None,
) -> None:
    """Move certificates to a state; with ``revoke_reason`` their serials go on the CRL."""
    certificates = schema.certificates
    for row in rows:
        values: dict[str, Any] = {"state": str(state)}
        if switched_at is not None:
            values["switched_at"] = switched_at
        changed = update(certificates).where(certificates.c.sha256 == row.sha256).values(values)
        row = tx.connection.execute(changed.returning(certificates)).one()
        tx.changed(certificate_record(row))
        if revoke_reason is not None:
            _insert_revocation(
                tx, Revocation(row.ca, row.serial, tx.now, revoke_reason, row.not_after)
            )


def _insert_revocation(tx: Transaction, revocation: Revocation) -> None:
    revocations = schema.revocations
    same = (revocations.c.ca == revocation.ca, revocations.c.serial == revocation.serial)
    if tx.connection.execute(select(revocations.c.ca).where(*same)).first() is None:
        row = {
            "ca": revocation.ca,
            "serial": revocation.serial,
            "revoked_at": revocation.revoked_at,
            "reason": revocation.reason,
            "not_after": revocation.not_after,
        }
        tx.connection.execute(insert(revocations), row)
        tx.changed(revocation)
