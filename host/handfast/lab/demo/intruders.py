"""Clients that must be turned away: each tries one GET, over a connection of its own."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from handfast.lab.demo.est_client import client_context
from handfast.lab.demo.keysearch import Identity
from handfast.pki.authorities import Authority
from handfast.pki.issue import issue_device_leaf

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt met: an HTTP status, or the error that ended the connection."""

    status: int | None
    error: str

    @property
    def refused(self) -> bool:
        """True when the API gave nothing: no connection, or an answer of 401 or 403."""
        return self.status is None or self.status in (401, 403)

    def __str__(self) -> str:
        return f"HTTP {self.status}" if self.status is not None else self.error


def foreign_identity(genuine: Authority, *, device_id: str, trust_domain: str) -> Identity:
    """Return a leaf from a CA of the attacker's own, with the names of the genuine one."""
    ca_key = ec.generate_private_key(ec.SECP256R1())
    real = genuine.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(real.subject)
        .issuer_name(real.issuer)
        .public_key(ca_key.public_key())
        .serial_number(real.serial_number)
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
    )
    for extension in real.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    impostor = Authority(genuine.name, ca_key, builder.sign(ca_key, hashes.SHA256()))
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = issue_device_leaf(
        impostor,
        public_key=key.public_key(),
        device_id=device_id,
        trust_domain=trust_domain,
        hardware_id=None,
        lifetime_s=86_400,
        now=datetime.now(UTC),
    )
    return Identity(key, leaf)


def attempt(url: str, *, trust: x509.Certificate, identity: Identity | None) -> Outcome:
    """GET ``url`` over a connection of its own, with or without a client certificate."""
    context = client_context(trust, identity)
    try:
        with httpx.Client(verify=context, timeout=_TIMEOUT_S, trust_env=False) as client:
            return Outcome(client.get(url).status_code, "")
    except (httpx.TransportError, ssl.SSLError, OSError) as error:
        return Outcome(None, _short(error))


def _short(error: BaseException) -> str:
    """Return what OpenSSL says of the alert, without its code names and line numbers."""
    text = str(error).split("(_ssl")[0].partition("]")[2] or str(error)
    return text.strip() or type(error).__name__
