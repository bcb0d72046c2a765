"""Enrols what does not run our library, by its CSR: registry, one-time token, EST.

The private key stays where it was made. Everything here may be run again: while a certificate has
not been used at the API, the same key is given the same one.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Mapping
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from handfast.admin_client import AdminClient
from handfast.boards.registration import register
from handfast.errors import Refused
from handfast.est_client import EstRefused, simpleenroll
from handfast.pki.csr import ParsedCsr

# It is used within the same command.
_TOKEN_LIFETIME_S = 300
_IN_USE = ("current", "superseded")
_HONOURED = ("pending", *_IN_USE)


def enrol(
    csr: ParsedCsr,
    *,
    gateway: AdminClient,
    device_id: str,
    hardware_id: str | None = None,
    renew: bool = False,
) -> x509.Certificate:
    """Register the device, if it is not, and have the gateway certify the request's key.

    Args:
        csr: the request.
        gateway: a client of the running gateway's admin interface.
        device_id: the device's name.
        hardware_id: the hardware's own id, if it is known.
        renew: the device has a certificate and is to get another one, for a fresh key. This is an
            enrolment like the first: EST's simplereenroll would need a TLS session with the old
            key, which cannot leave its chip.

    Raises:
        Unreachable: no gateway answers; nothing was changed.
        UsageError: ``renew``, and there is no such device; the gateway finds the request malformed.
        Refused: the device is suspended, revoked or other hardware; it has a certificate in use
            and this is no renewal; the key was certified before.
    """
    trust = gateway.trust()
    if renew:
        gateway.device(device_id)
    device = register(gateway, device_id, hardware_id)
    if not renew and _certificates(device, _IN_USE):
        raise Refused(
            f"{device_id} has a certificate in use already: give it another one with --renew, or "
            "choose another --device-id"
        )
    token = gateway.create_token(device_id, lifetime_s=_TOKEN_LIFETIME_S)["token"]
    roots = [base64.b64decode(root) for root in trust["roots"]]
    try:
        return simpleenroll(
            trust["enrol_url"], csr.der, device_id=device_id, token=token, roots=roots
        )
    except EstRefused as error:
        if error.slug != "key-reused":
            raise
        raise Refused(
            f"the key of the request was certified before: have {device_id} make a fresh key "
            "and a request for it"
        ) from error


def is_honoured(device: Mapping[str, Any], certificate: x509.Certificate) -> bool:
    """Say whether the gateway takes the certificate, going by a device's record."""
    return certificate.fingerprint(hashes.SHA256()).hex() in _certificates(device, _HONOURED)


def _certificates(device: Mapping[str, Any], states: Collection[str]) -> set[str]:
    """Return the SHA-256 (hex) of the device's unexpired certificates in one of the states.

    One that is pending was never used at the API: it is honoured, and may be asked for again.
    """
    now = time.time()
    rows = device["certificates"]
    return {row["sha256"] for row in rows if row["state"] in states and row["not_after"] > now}
