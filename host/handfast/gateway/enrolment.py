"""Enrolment as registry operations: what a credential may get, decided and stored in one step.

The rules are DESIGN 4.5's. They run inside the writer's transaction, so two requests for the
same token or leaf are decided one after the other.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from sqlalchemy import Row, func, select, update

from handfast.gateway import schema
from handfast.gateway.authorise import device_refusal
from handfast.gateway.problems import Problem
from handfast.gateway.rows import (
    find_certificates,
    find_device,
    insert_certificate,
    set_certificate_state,
)
from handfast.gateway.view import CertificateKind, CertificateState, DeviceRecord
from handfast.gateway.writer import Transaction
from handfast.pki.csr import ParsedCsr

# A device that enrols in a loop is stopped here; 24 h leaves renewed at 2/3 need two.
_MOST_LIVE_CERTIFICATES = 1000
_UNCONFIRMED = (CertificateState.PENDING, CertificateState.REPLACED)

Issue = Callable[[DeviceRecord, ParsedCsr], x509.Certificate]


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that is in the registry; ``repeated``: it was issued to this key before."""

    der: bytes
    serial: str
    device_id: str
    repeated: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """An enrolment refused for ``slug``; it was audited where that matters."""

    slug: str


@dataclass(frozen=True, slots=True)
class _Credential:
    """What a leaf was asked for with: its SHA-256, and what the audit calls it."""

    sha256: bytes
    name: str


def enrol_by_token(
    tx: Transaction, *, device_id: str, token_sha256: bytes, csr: ParsedCsr, issue: Issue
) -> Issued | Refusal:
    """Enrol with a one-time token, binding it to the request's key."""
    token = _find_token(tx, device_id, token_sha256)
    device = find_device(tx.connection, device_id)
    if token is None or device is None:
        return Refusal("token-unknown")
    if slug := device_refusal(device.state):
        return Refusal(slug)
    bound = token.spki_sha256 is not None
    if token.used is not None or (bound and token.spki_sha256 != csr.spki_sha256):
        tx.audit("token-refused", device_id, "used already, or bound to another key")
        return Refusal("token-used")
    # The key that bound it in time may still fetch its certificate: an answer can get lost.
    if not bound and tx.now > token.expires:
        return Refusal("token-expired")
    expired = tx.now > token.expires
    asked = _Credential(token_sha256, "a token")
    given = _give(tx, device, csr, issue, asked=asked, only_repeat=expired)
    if isinstance(given, Issued) and not bound:
        tokens = schema.tokens
        bind = update(tokens).where(tokens.c.token_sha256 == token_sha256)
        tx.connection.execute(bind.values(spki_sha256=csr.spki_sha256))
    return given


def enrol_by_certificate(
    tx: Transaction, *, certificate_sha256: bytes, csr: ParsedCsr, issue: Issue
) -> Issued | Refusal:
    """Enrol with an IDevID or re-enrol with an LDevID that was authorised a moment ago.

    A superseded leaf is good at the API for the overlap, but not here: the board has the leaf
    that took its place, and whoever stole the old one would take the board's place with it.
    """
    certificates = schema.certificates
    found = find_certificates(tx.connection, certificates.c.sha256 == certificate_sha256)
    device = find_device(tx.connection, found[0].device_id) if found else None
    if device is None:
        return Refusal("unknown-certificate")
    if slug := device_refusal(device.state):
        return Refusal(slug)
    leaf = found[0]
    if leaf.state == CertificateState.REVOKED:
        return Refusal("certificate-revoked")
    if leaf.state == CertificateState.SUPERSEDED:
        detail = f"by the superseded {leaf.kind} {leaf.serial}"
        tx.audit("re-enrol-refused", device.device_id, detail)
    if leaf.state in (CertificateState.REPLACED, CertificateState.SUPERSEDED):
        return Refusal("certificate-superseded")
    asked = _Credential(certificate_sha256, f"{leaf.kind} {leaf.serial}")
    return _give(tx, device, csr, issue, asked=asked)


def issue_idevid(tx: Transaction, *, device_id: str, csr: ParsedCsr, issue: Issue) -> Issued:
    """Give a device its factory identity; a new key takes the place of an earlier identity.

    Raises:
        Problem: no such device, it is not active, or the key was certified for something else.
    """
    device = find_device(tx.connection, device_id)
    if device is None:
        raise Problem("not-found", f"There is no device {device_id}.")
    if slug := device_refusal(device.state):
        raise Problem(slug)
    certificates = schema.certificates
    live = find_certificates(
        tx.connection,
        certificates.c.device_id == device_id,
        certificates.c.kind == str(CertificateKind.IDEVID),
        certificates.c.state == str(CertificateState.CURRENT),
    )
    for row in live:
        if row.spki_sha256 == csr.spki_sha256:
            return _issued(row, repeated=True)
    if find_certificates(tx.connection, certificates.c.spki_sha256 == csr.spki_sha256):
        raise Problem("key-reused")
    if live:
        revoked = CertificateState.REVOKED
        set_certificate_state(tx, live, revoked, revoke_reason="superseded")
        tx.audit("idevid-superseded", device_id, live[0].serial)
    certificate = issue(device, csr)
    record = insert_certificate(
        tx,
        certificate,
        device_id=device_id,
        kind=CertificateKind.IDEVID,
        ca="factory",
        state=CertificateState.CURRENT,
        asked_by=None,
    )
    tx.audit("idevid-issued", device_id, record.serial)
    row = find_certificates(tx.connection, certificates.c.sha256 == record.sha256)[0]
    return _issued(row, repeated=False)


def switch(tx: Transaction, *, certificate_sha256: bytes) -> None:
    """Make a pending leaf the current one: it has made its first API request.

    The leaf it follows is superseded from now on; other unconfirmed leaves, but for those that
    this one asked for, are replaced; tokens bound to its key are used up.
    """
    certificates = schema.certificates
    found = find_certificates(tx.connection, certificates.c.sha256 == certificate_sha256)
    if not found or found[0].state != CertificateState.PENDING:
        return
    leaf = found[0]
    others = find_certificates(
        tx.connection,
        certificates.c.device_id == leaf.device_id,
        certificates.c.kind == str(CertificateKind.LDEVID),
        certificates.c.sha256 != leaf.sha256,
    )
    current = [row for row in others if row.state == CertificateState.CURRENT]
    set_certificate_state(tx, current, CertificateState.SUPERSEDED, switched_at=tx.now)
    pending = [row for row in others if row.state == CertificateState.PENDING]
    _replace(tx, [row for row in pending if not _descends(row, leaf.sha256, pending)])
    set_certificate_state(tx, [leaf], CertificateState.CURRENT)
    tokens = schema.tokens
    bound = (tokens.c.device_id == leaf.device_id, tokens.c.spki_sha256 == leaf.spki_sha256)
    tx.connection.execute(update(tokens).where(*bound, tokens.c.used.is_(None)).values(used=tx.now))
    tx.audit("switched", leaf.device_id, leaf.serial)


def _find_token(tx: Transaction, device_id: str, token_sha256: bytes) -> Row[Any] | None:
    """Look a token up among the device's own, comparing in constant time."""
    tokens = schema.tokens
    found = None
    for row in tx.connection.execute(select(tokens).where(tokens.c.device_id == device_id)):
        if hmac.compare_digest(row.token_sha256, token_sha256):
            found = row
    return found


def _give(
    tx: Transaction,
    device: DeviceRecord,
    csr: ParsedCsr,
    issue: Issue,
    *,
    asked: _Credential,
    only_repeat: bool = False,
) -> Issued | Refusal:
    """Return the key's unconfirmed certificate, or sign and register a new one."""
    certificates = schema.certificates
    same_key = find_certificates(tx.connection, certificates.c.spki_sha256 == csr.spki_sha256)
    if any(not _may_repeat(row, device) for row in same_key):
        tx.audit("key-reused", device.device_id)
        return Refusal("key-reused")
    for row in same_key:
        if row.state == CertificateState.PENDING and tx.now < row.not_after:
            return _issued(row, repeated=True)
    if only_repeat:
        return Refusal("token-expired")
    live = (
        certificates.c.device_id == device.device_id,
        certificates.c.not_after > int(tx.now),
    )
    count = tx.connection.scalar(select(func.count()).select_from(certificates).where(*live))
    if (count or 0) >= _MOST_LIVE_CERTIFICATES:
        return Refusal("too-busy")
    earlier = find_certificates(
        tx.connection,
        certificates.c.asked_by == asked.sha256,
        certificates.c.device_id == device.device_id,
        certificates.c.state == str(CertificateState.PENDING),
    )
    _replace(tx, earlier)
    record = insert_certificate(
        tx,
        issue(device, csr),
        device_id=device.device_id,
        kind=CertificateKind.LDEVID,
        ca="device",
        state=CertificateState.PENDING,
        asked_by=asked.sha256,
    )
    tx.audit("issued", device.device_id, f"{record.serial} by {asked.name}")
    return _issued(
        find_certificates(tx.connection, certificates.c.sha256 == record.sha256)[0], repeated=False
    )


def _may_repeat(row: Row[Any], device: DeviceRecord) -> bool:
    """A key may be certified again only while no certificate of it has been used."""
    return (
        row.device_id == device.device_id
        and row.kind == CertificateKind.LDEVID
        and row.state in _UNCONFIRMED
    )


def _replace(tx: Transaction, rows: list[Row[Any]]) -> None:
    set_certificate_state(tx, rows, CertificateState.REPLACED, revoke_reason="superseded")


def _descends(row: Row[Any], ancestor: bytes, among: list[Row[Any]]) -> bool:
    by_sha256 = {other.sha256: other for other in among}
    for _ in range(len(among)):
        if row.asked_by == ancestor:
            return True
        if row.asked_by not in by_sha256:
            return False
        row = by_sha256[row.asked_by]
    return False


def _issued(row: Row[Any], *, repeated: bool) -> Issued:
    return Issued(row.der, row.serial, row.device_id, repeated)
