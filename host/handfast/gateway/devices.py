"""Devices and their tokens as registry operations."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import and_, delete, func, insert, or_, select, update

from handfast.gateway import schema
from handfast.gateway.authorise import device_refusal
from handfast.gateway.problems import Problem
from handfast.gateway.rows import find_certificates, find_device, set_certificate_state
from handfast.gateway.view import CertificateState, DeviceRecord, DeviceState
from handfast.gateway.writer import Transaction

_WINDOW = "renewal_window"
_MOST_TOKENS = 100
_KEEP_BOUND_TOKENS_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token's one showing; only its hash is stored. ``expires`` is in unix seconds."""

    token: str
    expires: float


def token_hash(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


def add_device(tx: Transaction, *, device_id: str, hardware_id: str | None) -> DeviceRecord:
    """Register a device.

    Raises:
        Problem: ``already-exists``.
    """
    if find_device(tx.connection, device_id) is not None:
        raise Problem("already-exists", f"There is a device {device_id} already.")
    record = DeviceRecord(device_id, hardware_id, DeviceState.ACTIVE, tx.now)
    row = {
        "device_id": device_id,
        "hardware_id": hardware_id,
        "state": str(record.state),
        "state_since": tx.now,
        "created": tx.now,
    }
    tx.connection.execute(insert(schema.devices), row)
    tx.audit("device-added", device_id)
    tx.changed(record)
    return record


def in_state(device: DeviceRecord, state: DeviceState, *, since: float) -> DeviceRecord:
    """Return ``device`` as it is in another state; itself when it is in that already.

    Raises:
        Problem: ``device-revoked``: that is final.
    """
    if device.state is state:
        return device
    if device.state is DeviceState.REVOKED:
        name = device.device_id
        raise Problem("device-revoked", f"{name} is revoked for good; add it by another name.")
    return replace(device, state=state, state_since=since)


def set_device_state(tx: Transaction, *, device_id: str, state: DeviceState) -> DeviceRecord:
    """Suspend, resume or revoke; to revoke is final and revokes every certificate.

    Raises:
        Problem: ``not-found``, or ``device-revoked`` when it was revoked before.
    """
    device = find_device(tx.connection, device_id)
    if device is None:
        raise Problem("not-found", f"There is no device {device_id}.")
    record = in_state(device, state, since=tx.now)
    if record is device:
        return device
    _update_device(tx, record)
    if state is DeviceState.REVOKED:
        certificates = schema.certificates
        theirs = find_certificates(
            tx.connection,
            certificates.c.device_id == device_id,
            certificates.c.not_after >= int(tx.now),
        )
        revoked = CertificateState.REVOKED
        set_certificate_state(tx, theirs, revoked, revoke_reason="privilege_withdrawn")
    tx.audit(f"device-{state}", device_id)
    return record


def bind_hardware(tx: Transaction, *, device_id: str, hardware_id: str) -> DeviceRecord:
    """Tie a device that was added without a hardware id to its hardware, for good.

    Raises:
        Problem: ``not-found``, or ``other-hardware`` when it is tied to another already.
    """
    device = find_device(tx.connection, device_id)
    if device is None:
        raise Problem("not-found", f"There is no device {device_id}.")
    if device.hardware_id == hardware_id:
        return device
    if device.hardware_id is not None:
        raise Problem(
            "other-hardware",
            f"{device_id} is the hardware {device.hardware_id}, not {hardware_id}; "
            "choose another name, or revoke that device.",
        )
    record = replace(device, hardware_id=hardware_id)
    _update_device(tx, record)
    tx.audit("hardware-bound", device_id, hardware_id)
    return record


def set_device_settings(
    tx: Transaction, *, device_id: str, settings: dict[str, Any]
) -> DeviceRecord:
    """Replace what the device reads as its config, but for a window to renew in.

    Raises:
        Problem: ``not-found``.
    """
    device = find_device(tx.connection, device_id)
    if device is None:
        raise Problem("not-found", f"There is no device {device_id}.")
    before = json.loads(device.settings)
    kept = {_WINDOW: before[_WINDOW]} if _WINDOW in before else {}
    record = replace(device, settings=json.dumps(kept | settings))
    _update_device(tx, record)
    tx.audit("device-configured", device_id)
    return record


def suggest_renewal(
    tx: Transaction, *, window: tuple[int, int] | None, device_ids: Sequence[str] | None
) -> int:
    """Have devices renew at a moment of their own within a window; returns how many there are.

    It goes into what they read as their config, as ``renewal_window``, and stays there; a device
    that has renewed since the window's start has done what it asks for.

    Args:
        window: start and end in unix seconds; None takes what was suggested back.
        device_ids: None for every active device.

    Raises:
        Problem: ``not-found``.
    """
    table = schema.devices
    active = select(table.c.device_id).where(table.c.state == str(DeviceState.ACTIVE))
    ids = list(tx.connection.scalars(active)) if device_ids is None else device_ids
    for device_id in ids:
        device = find_device(tx.connection, device_id)
        if device is None:
            raise Problem("not-found", f"There is no device {device_id}.")
        settings = json.loads(device.settings)
        if window is None:
            settings.pop(_WINDOW, None)
        else:
            settings[_WINDOW] = list(window)
        _update_device(tx, replace(device, settings=json.dumps(settings)))
        if device_ids is not None:
            tx.audit("renewal-suggested", device_id, json.dumps(window))
    if device_ids is None:  # one row: a fleet's would push out older ones
        tx.audit("renewal-suggested", None, f"{json.dumps(window)} to {len(ids)} devices")
    return len(ids)


def _update_device(tx: Transaction, record: DeviceRecord) -> None:
    devices = schema.devices
    values = {
        "hardware_id": record.hardware_id,
        "state": str(record.state),
        "state_since": record.state_since,
        "settings": record.settings,
    }
    changed = update(devices).where(devices.c.device_id == record.device_id).values(values)
    tx.connection.execute(changed)
    tx.changed(record)


def create_token(tx: Transaction, *, device_id: str, lifetime_s: float) -> NewToken:
    """Make a one-time token; expired ones of the device are dropped.

    Raises:
        Problem: ``not-found``, the device is not active, or it has too many tokens.
    """
    device = find_device(tx.connection, device_id)
    if device is None:
        raise Problem("not-found", f"There is no device {device_id}.")
    if slug := device_refusal(device.state):
        raise Problem(slug)
    _make_room(tx, device_id)
    token = secrets.token_urlsafe(32)
    row = {
        "token_sha256": token_hash(token),
        "device_id": device_id,
        "created": tx.now,
        "expires": tx.now + lifetime_s,
    }
    tx.connection.execute(insert(schema.tokens), row)
    tx.audit("token-created", device_id)
    return NewToken(token, tx.now + lifetime_s)


def _make_room(tx: Transaction, device_id: str) -> None:
    """Drop a device's expired tokens, and when it has many, those that were used."""
    tokens = schema.tokens
    theirs = tokens.c.device_id == device_id
    # A token that is bound to a key still tells that key from others, for a while.
    bound = tokens.c.spki_sha256.is_not(None)
    over = or_(
        and_(~bound, tokens.c.expires < tx.now), tokens.c.expires < tx.now - _KEEP_BOUND_TOKENS_S
    )
    tx.connection.execute(delete(tokens).where(theirs, over))
    number = select(func.count()).select_from(tokens).where(theirs)
    if (tx.connection.scalar(number) or 0) < _MOST_TOKENS:
        return
    spent = or_(tokens.c.used.is_not(None), tokens.c.expires < tx.now)
    dropped = tx.connection.execute(delete(tokens).where(theirs, spent))
    if not dropped.rowcount:
        raise Problem("too-busy", f"{device_id} has {_MOST_TOKENS} unused tokens; use one.")


def store_last_seen(tx: Transaction, seen: dict[str, float]) -> None:
    """Write when devices made their newest request (unix seconds)."""
    devices = schema.devices
    for device_id, at in seen.items():
        tx.connection.execute(
            update(devices).where(devices.c.device_id == device_id).values(last_seen=at)
        )
