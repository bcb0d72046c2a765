"""Who may do what, now: one pure function that every request with a certificate goes through."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from handfast.gateway.view import (
    CertificateKind,
    CertificateRecord,
    CertificateState,
    DeviceRecord,
    DeviceState,
    RegistryView,
)


class Purpose(enum.Enum):
    """What a certificate is presented for."""

    API = "api"
    ENROL = "enrol"
    RE_ENROL = "re-enrol"


# DESIGN 4.4: the factory identity is good for enrolment only, the operational one for the rest.
_KIND = {
    Purpose.API: CertificateKind.LDEVID,
    Purpose.ENROL: CertificateKind.IDEVID,
    Purpose.RE_ENROL: CertificateKind.LDEVID,
}


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What of a request decides: its purpose, and whose path it is (``None``: nobody's)."""

    purpose: Purpose
    path_device_id: str | None = None


@dataclass(frozen=True, slots=True)
class Allow:
    """The request is this device's; ``switch``: it is its certificate's first at the API."""

    device: DeviceRecord
    certificate: CertificateRecord
    switch: bool


@dataclass(frozen=True, slots=True)
class Refuse:
    """The request ends with the problem ``slug``."""

    slug: str
    device_id: str | None = None


Decision = Allow | Refuse


def authorise(
    request: RequestFacts,
    certificate_sha256: bytes | None,
    *,
    now: float,
    view: RegistryView,
    overlap_s: float,
) -> Decision:
    """Decide on one request; the chain was verified at the handshake, all else is checked here.

    Args:
        request: what is asked.
        certificate_sha256: of the leaf that the peer proved to hold, ``None`` without one.
        now: unix seconds.
        view: the registry in memory.
        overlap_s: how long a superseded leaf stays good after the switch.
    """
    if certificate_sha256 is None:
        return Refuse("no-certificate")
    certificate = view.certificates.get(certificate_sha256)
    device = view.devices.get(certificate.device_id) if certificate else None
    if certificate is None or device is None:
        return Refuse("unknown-certificate")
    slug = (
        device_refusal(device.state)
        or _certificate_refusal(certificate, now=now, view=view, overlap_s=overlap_s)
        or _request_refusal(request, certificate)
    )
    if slug:
        return Refuse(slug, device.device_id)
    pending = certificate.state is CertificateState.PENDING
    return Allow(device, certificate, switch=pending and request.purpose is Purpose.API)


def device_refusal(state: DeviceState) -> str | None:
    """Return why a device in this state is refused with any credential, or ``None``."""
    if state is DeviceState.REVOKED:
        return "device-revoked"
    if state is DeviceState.SUSPENDED:
        return "device-suspended"
    return None


def _certificate_refusal(
    certificate: CertificateRecord, *, now: float, view: RegistryView, overlap_s: float
) -> str | None:
    if now < certificate.not_before:
        return "certificate-not-yet-valid"
    if now > certificate.not_after:
        return "certificate-expired"
    if certificate.state is CertificateState.REPLACED:
        return "certificate-superseded"
    if certificate.state is CertificateState.REVOKED:
        return "certificate-revoked"
    if (certificate.ca, certificate.serial) in view.revocations:
        return "certificate-revoked"
    if certificate.state is CertificateState.SUPERSEDED:
        switched_at = certificate.switched_at
        if switched_at is None or now >= switched_at + overlap_s:
            return "certificate-superseded"
    return None


def _request_refusal(request: RequestFacts, certificate: CertificateRecord) -> str | None:
    if certificate.kind is not _KIND[request.purpose]:
        return "wrong-certificate-kind"
    if request.path_device_id not in (None, certificate.device_id):
        return "not-your-path"
    return None
