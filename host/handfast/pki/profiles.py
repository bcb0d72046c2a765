"""What each kind of certificate carries: key usage, extended key usage, lifetime bounds.

Nothing here is critical but basicConstraints, keyUsage and extKeyUsage, since mbedTLS refuses
a certificate with any other critical extension that it does not know (DESIGN §5).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
OCSP_SIGNING = ExtendedKeyUsageOID.OCSP_SIGNING

ROOT_LIFETIME = timedelta(days=3652)
ISSUING_LIFETIME = timedelta(days=5 * 365)
GATEWAY_LEAF_LIFETIME = timedelta(days=7)
# Nothing revokes an administrator's certificate: it is over within the day.
ADMIN_LEAF_LIFETIME = timedelta(days=1)

# A CA is made once and used on machines whose clocks may lag behind.
CA_BACKDATE = timedelta(hours=1)
_LEAF_BACKDATE_S = 60


@dataclass(frozen=True, slots=True)
class AuthorityProfile:
    """A CA below the root, or the root itself.

    Args:
        name: its folder, and its place in URLs.
        common_name: of its subject.
        key: ``rsa4096``, ``rsa2048`` (or 3072, by a setting) or ``p256``.
        may_issue: the extended key usages it may pass on; empty for the root.
        lifetime: from its backdated notBefore.
    """

    name: str
    common_name: str
    key: str
    may_issue: tuple[ObjectIdentifier, ...]
    lifetime: timedelta

    @property
    def is_root(self) -> bool:
        """True for the one that signs itself and the others."""
        return not self.may_issue


_CLIENTS = (CLIENT_AUTH, OCSP_SIGNING)
_SERVERS = (SERVER_AUTH, TIME_STAMPING, OCSP_SIGNING)

ROOT = AuthorityProfile("root", "Handfast root CA", "rsa4096", (), ROOT_LIFETIME)
ISSUING = (
    AuthorityProfile("device", "Handfast device CA", "p256", _CLIENTS, ISSUING_LIFETIME),
    AuthorityProfile("factory", "Handfast factory CA", "p256", _CLIENTS, ISSUING_LIFETIME),
    AuthorityProfile("server", "Handfast server CA", "rsa2048", _SERVERS, ISSUING_LIFETIME),
    AuthorityProfile("admin", "Handfast admin CA", "p256", _CLIENTS, ISSUING_LIFETIME),
)
AUTHORITY_NAMES = tuple(profile.name for profile in (ROOT, *ISSUING))


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate holds, in whole seconds of UTC."""

    not_before: datetime
    not_after: datetime


def leaf_validity(now: datetime, lifetime_s: int) -> Validity:
    """Return a leaf's validity: ``lifetime_s`` in all, begun a little before now for slow clocks.

    Args:
        now: aware; its fraction of a second is dropped.
        lifetime_s: from notBefore to notAfter; at most 60 s and a tenth of it are over already.
    """
    backdate = timedelta(seconds=min(_LEAF_BACKDATE_S, lifetime_s // 10))
    start = now.astimezone(UTC).replace(microsecond=0) - backdate
    return Validity(start, start + timedelta(seconds=lifetime_s))


def ca_key_usage() -> x509.KeyUsage:
    """Return what a CA's key is for: certificates and CRLs."""
    return _key_usage(ca=True)


def leaf_key_usage() -> x509.KeyUsage:
    """Return what a leaf's key is for: signatures. Never keyEncipherment, so never kRSA."""
    return _key_usage(ca=False)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
