"""Issuing leaves: devices, the gateway's own, the time-stamp authority's, administrators'.

Pure functions of their arguments, but for serial numbers (159 random bits) and new keys. A leaf
never outlives its CA: its notAfter is brought forward where it would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from handfast.errors import Refused, UsageError
from handfast.pki.authorities import Authority
from handfast.pki.names import device_subject, device_uri, server_name
from handfast.pki.profiles import (
    ADMIN_LEAF_LIFETIME,
    CLIENT_AUTH,
    GATEWAY_LEAF_LIFETIME,
    ISSUING_LIFETIME,
    OCSP_SIGNING,
    SERVER_AUTH,
    TIME_STAMPING,
    Validity,
    leaf_key_usage,
    leaf_validity,
)

LeafKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_LONGEST_ADMIN_NAME = 64
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class IssuedKeyPair:
    """A new private key and the certificate issued for it."""

    private_key: LeafKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        return f"IssuedKeyPair({self.certificate!r})"


def issue_device_leaf(
    authority: Authority,
    *,
    public_key: ec.EllipticCurvePublicKey,
    device_id: str,
    trust_domain: str,
    hardware_id: str | None,
    lifetime_s: int,
    now: datetime,
) -> x509.Certificate:
    """Issue an LDevID, a device's operational certificate, good as a TLS client only.

    Args:
        authority: the ``device`` CA.
        public_key: on P-256.
        device_id: becomes the CN and the end of the URI.
        trust_domain: stands in the URI.
        hardware_id: becomes the subject's serialNumber (IEEE 802.1AR), if there is one.
        lifetime_s: in all, backdating included; at most what a CA lives.
        now: aware.

    Raises:
        UsageError: a name, the key's curve or the lifetime is not allowed.
        Refused: the CA is not valid now or may not issue this.
    """
    validity = leaf_validity(now, _at_most(ISSUING_LIFETIME, lifetime_s))
    return _issue_to_device(
        authority, "device", public_key, device_id, trust_domain, hardware_id, validity, now
    )


def issue_idevid(
    authority: Authority,
    *,
    public_key: ec.EllipticCurvePublicKey,
    device_id: str,
    trust_domain: str,
    hardware_id: str | None,
    now: datetime,
) -> x509.Certificate:
    """Issue an IDevID, a device's factory certificate, which lives as long as its CA.

    Arguments and errors are those of :func:`issue_device_leaf`; ``authority`` is ``factory``.
    """
    # Backdated like any leaf that lives for a day or more.
    start = leaf_validity(now, _DAY_S).not_before
    validity = Validity(start, authority.certificate.not_valid_after_utc)
    return _issue_to_device(
        authority, "factory", public_key, device_id, trust_domain, hardware_id, validity, now
    )


def issue_server_leaf(
    authority: Authority,
    *,
    key_kind: Literal["rsa", "p256"],
    names: Sequence[str],
    lifetime_s: int,
    now: datetime,
) -> IssuedKeyPair:
    """Issue one of the gateway's own leaves with a new key (an RSA key takes about 0.1 s).

    Args:
        authority: the ``server`` CA.
        key_kind: ``rsa`` (2048 bits, cheap for boards to verify) or ``p256``.
        names: DNS names and IP addresses, at least one, all into the SAN.
        lifetime_s: in all, backdating included; at most 7 days.
        now: aware.

    Raises:
        UsageError: a name or the lifetime is not allowed.
        Refused: the CA is not valid now or may not issue this.
    """
    if not names:
        raise UsageError("a gateway needs at least one name: give --name")
    key = _rsa_key() if key_kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    certificate = _issue(
        authority,
        issuer_name="server",
        public_key=key.public_key(),
        subject=_common_name("Handfast gateway"),
        usage=SERVER_AUTH,
        names=[server_name(name) for name in dict.fromkeys(names)],
        validity=leaf_validity(now, _at_most(GATEWAY_LEAF_LIFETIME, lifetime_s)),
        now=now,
    )
    return IssuedKeyPair(key, certificate)


def issue_tsa_leaf(authority: Authority, *, lifetime_s: int, now: datetime) -> IssuedKeyPair:
    """Issue the time-stamp authority's leaf: RSA-2048, timeStamping alone (RFC 3161 §2.3).

    Args:
        authority: the ``server`` CA.
        lifetime_s: in all, backdating included; at most 7 days.
        now: aware.

    Raises:
        UsageError: the lifetime is not allowed.
        Refused: the CA is not valid now or may not issue this.
    """
    key = _rsa_key()
    certificate = _issue(
        authority,
        issuer_name="server",
        public_key=key.public_key(),
        subject=_common_name("Handfast time-stamp authority"),
        usage=TIME_STAMPING,
        names=[],
        validity=leaf_validity(now, _at_most(GATEWAY_LEAF_LIFETIME, lifetime_s)),
        now=now,
    )
    return IssuedKeyPair(key, certificate)


def issue_ocsp_leaf(authority: Authority, *, lifetime_s: int, now: datetime) -> IssuedKeyPair:
    """Issue an OCSP responder's leaf: P-256, OCSPSigning alone, not to be checked for revocation.

    Clients take its word about certificates of the CA that is directly above it, and of no other
    (RFC 6960 §4.2.2.2).

    Args:
        authority: any issuing CA.
        lifetime_s: in all, backdating included; at most 7 days.
        now: aware.

    Raises:
        UsageError: the lifetime is not allowed.
        Refused: the CA is not valid now or may not issue this.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issue(
        authority,
        issuer_name=authority.name,
        public_key=key.public_key(),
        subject=_common_name("Handfast OCSP responder"),
        usage=OCSP_SIGNING,
        names=[],
        validity=leaf_validity(now, _at_most(GATEWAY_LEAF_LIFETIME, lifetime_s)),
        now=now,
        more=[x509.OCSPNoCheck()],
    )
    return IssuedKeyPair(key, certificate)


def issue_admin_leaf(
    authority: Authority,
    *,
    name: str,
    public_key: ec.EllipticCurvePublicKey,
    lifetime_s: int,
    now: datetime,
) -> x509.Certificate:
    """Issue a certificate for a person or program that administers gateways.

    Args:
        authority: the ``admin`` CA.
        name: becomes the CN; 1 to 64 printable characters.
        public_key: on P-256.
        lifetime_s: in all, backdating included; at most a day.
        now: aware.

    Raises:
        UsageError: the name, the key's curve or the lifetime is not allowed.
        Refused: the CA is not valid now or may not issue this.
    """
    if not name.isprintable() or not 0 < len(name.strip()) <= len(name) <= _LONGEST_ADMIN_NAME:
        raise UsageError(f"{name!r} is not a name of 1 to {_LONGEST_ADMIN_NAME} characters")
    return _issue(
        authority,
        issuer_name="admin",
        public_key=_on_p256(public_key),
        subject=_common_name(name),
        usage=CLIENT_AUTH,
        names=[],
        validity=leaf_validity(now, _at_most(ADMIN_LEAF_LIFETIME, lifetime_s)),
        now=now,
    )


def _issue_to_device(
    authority: Authority,
    issuer_name: str,
    public_key: ec.EllipticCurvePublicKey,
    device_id: str,
    trust_domain: str,
    hardware_id: str | None,
    validity: Validity,
    now: datetime,
) -> x509.Certificate:
    return _issue(
        authority,
        issuer_name=issuer_name,
        public_key=_on_p256(public_key),
        subject=device_subject(device_id, hardware_id),
        usage=CLIENT_AUTH,
        names=[x509.UniformResourceIdentifier(device_uri(trust_domain, device_id))],
        validity=validity,
        now=now,
    )


def _issue(
    authority: Authority,
    *,
    issuer_name: str,
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    subject: x509.Name,
    usage: ObjectIdentifier,
    names: Sequence[x509.GeneralName],
    validity: Validity,
    now: datetime,
    more: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    issuer = authority.certificate
    _check_may_issue(authority, issuer_name, usage, now)
    issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(validity.not_before, issuer.not_valid_before_utc))
        .not_valid_after(min(validity.not_after, issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(leaf_key_usage(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id),
            critical=False,
        )
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(authority.key, hashes.SHA256())


def _check_may_issue(
    authority: Authority, issuer_name: str, usage: ObjectIdentifier, now: datetime
) -> None:
    issuer = authority.certificate
    try:
        allowed = issuer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        allowed = x509.ExtendedKeyUsage([])
    # The usage alone does not tell the CAs apart: a device's leaf from the admin CA would open
    # the gateway's administration.
    if authority.name != issuer_name or usage not in allowed:
        raise Refused(
            f"the {authority.name} CA may not issue certificates for {usage._name} "
            f"in place of the {issuer_name} CA"
        )
    start, end = issuer.not_valid_before_utc, issuer.not_valid_after_utc
    if now.astimezone(UTC) < start:
        raise Refused(
            f"the {authority.name} CA is valid from {start:%Y-%m-%d %H:%M} UTC only: "
            "check this machine's clock"
        )
    if now.astimezone(UTC) >= end:
        raise Refused(f"the {authority.name} CA expired on {end:%Y-%m-%d}: make a new one")


def _on_p256(key: ec.EllipticCurvePublicKey) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UsageError("only keys on the curve P-256 are certified")
    return key


def _rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _at_most(longest: timedelta, lifetime_s: int) -> int:
    longest_s = int(longest.total_seconds())
    if not 0 < lifetime_s <= longest_s:
        raise UsageError(
            f"this certificate lives at least 1 s and at most {longest_s} s "
            f"({longest.days} days), not {lifetime_s} s"
        )
    return lifetime_s
