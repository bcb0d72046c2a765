"""What every request is authorised against: devices, certificates and revocations in memory."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal


class DeviceState(enum.StrEnum):
    """What an administrator decided about a device."""

    ACTIVE = "active"
    SUSPENDED = "suspended"
    REVOKED = "revoked"


class CertificateKind(enum.StrEnum):
    """IEEE 802.1AR: the factory's identity, and the operational one."""

    IDEVID = "idevid"
    LDEVID = "ldevid"


class CertificateState(enum.StrEnum):
    """Where a certificate is in its life.

    ``pending`` has made no API request yet, ``superseded`` was current until its successor did,
    ``replaced`` was pending when a newer one took its place, ``revoked`` is over.
    """

    PENDING = "pending"
    CURRENT = "current"
    SUPERSEDED = "superseded"
    REPLACED = "replaced"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """One device as the registry knows it; ``settings`` is what it may read as its config."""

    device_id: str
    hardware_id: str | None
    state: DeviceState
    state_since: float
    settings: str = "{}"


@dataclass(frozen=True, slots=True)
class CertificateRecord:
    """One issued certificate.

    Attributes:
        sha256: of the certificate's DER; how a caller is found.
        ca: name of the issuing CA; with ``serial`` it keys revocation.
        serial: lower-case hexadecimal, no leading zeros.
        not_before, not_after: unix seconds.
        switched_at: unix seconds when its successor made its first API request.
    """

    sha256: bytes
    device_id: str
    kind: CertificateKind
    ca: str
    serial: str
    not_before: int
    not_after: int
    state: CertificateState
    switched_at: float | None = None


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revoked serial number; ``reason`` is a CRLReason by its RFC 5280 name."""

    ca: str
    serial: str
    revoked_at: float
    reason: str
    not_after: int


@dataclass(frozen=True, slots=True)
class AnchorReport:
    """The trust anchors that a device said it holds, as SHA-256 in hexadecimal."""

    device_id: str
    tls: tuple[str, ...]
    roots: tuple[str, ...]
    reported: float

    def of(self, kind: Literal["tls", "root"]) -> tuple[str, ...]:
        """Return its TLS anchors, or its roots."""
        return self.tls if kind == "tls" else self.roots


Change = DeviceRecord | CertificateRecord | Revocation | AnchorReport


@dataclass(slots=True)
class RegistryView:
    """Changed on the event loop only, right after the commit that made the change durable."""

    devices: dict[str, DeviceRecord] = field(default_factory=dict)
    certificates: dict[bytes, CertificateRecord] = field(default_factory=dict)
    revocations: dict[tuple[str, str], Revocation] = field(default_factory=dict)
    by_serial: dict[tuple[str, str], CertificateRecord] = field(default_factory=dict)
    anchors: dict[str, AnchorReport] = field(default_factory=dict)
    # Rises with every change that a CRL would show.
    revocation_version: int = 0

    def apply(self, changes: Iterable[Change]) -> None:
        """Take over committed rows."""
        for change in changes:
            if isinstance(change, DeviceRecord):
                self.devices[change.device_id] = change
                self.revocation_version += 1
            elif isinstance(change, CertificateRecord):
                self.certificates[change.sha256] = change
                self.by_serial[change.ca, change.serial] = change
            elif isinstance(change, AnchorReport):
                self.anchors[change.device_id] = change
            else:
                self.revocations[change.ca, change.serial] = change
                self.revocation_version += 1

    def forget_expired(self, before: float) -> None:
        """Drop what ended before ``before`` (unix seconds), so that memory stays bounded."""
        for ended in [c for c in self.certificates.values() if c.not_after < before]:
            del self.certificates[ended.sha256]
            del self.by_serial[ended.ca, ended.serial]
        for key in [key for key, r in self.revocations.items() if r.not_after < before]:
            del self.revocations[key]

    def revocation(self, ca: str, serial: str) -> Revocation | None:
        """Return since when and why a certificate is revoked, by itself or with its device."""
        if revocation := self.revocations.get((ca, serial)):
            return revocation
        certificate = self.by_serial.get((ca, serial))
        return None if certificate is None else self._with_its_device(certificate)

    def revoked_by(self, ca: str) -> Iterator[Revocation]:
        """Yield what the CRL of ``ca`` lists: all that :meth:`revocation` tells of it."""
        for revocation in self.revocations.values():
            if revocation.ca == ca:
                yield revocation
        for certificate in self.certificates.values():
            if (
                certificate.ca == ca
                and (ca, certificate.serial) not in self.revocations
                and (shared := self._with_its_device(certificate))
            ):
                yield shared

    def _with_its_device(self, certificate: CertificateRecord) -> Revocation | None:
        device = self.devices.get(certificate.device_id)
        if device is None or device.state is DeviceState.ACTIVE:
            return None
        # What had ended when its device was revoked has no revocation of its own.
        revoked = device.state is DeviceState.REVOKED
        reason = "privilege_withdrawn" if revoked else "certificate_hold"
        ca, serial, not_after = certificate.ca, certificate.serial, certificate.not_after
        return Revocation(ca, serial, device.state_since, reason, not_after)
