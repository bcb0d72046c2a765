"""What the tests of the PKI share: asserting extensions exactly, keys, and foreign requests."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, ObjectIdentifier

NOW = datetime(2026, 11, 24, 12, 0, 0, 123456, tzinfo=UTC)

_CRITICAL = {
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
}
_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)


def assert_extensions(
    certificate: x509.Certificate,
    *,
    issuer: x509.Certificate,
    ca: bool,
    path_length: int | None = None,
    usages: tuple[ObjectIdentifier, ...] = (),
    names: tuple[x509.GeneralName, ...] = (),
) -> None:
    """Assert every extension of ``certificate``, its criticality, and that there is no other."""
    found = {e.oid: e for e in certificate.extensions}
    key_usage = found[ExtensionOID.KEY_USAGE].value
    set_usages = {name for name in _KEY_USAGES if getattr(key_usage, name)}
    assert set_usages == ({"key_cert_sign", "crl_sign"} if ca else {"digital_signature"})
    issuer_ski = x509.SubjectKeyIdentifier.from_public_key(issuer.public_key())
    expected: dict[ObjectIdentifier, x509.ExtensionType] = {
        ExtensionOID.BASIC_CONSTRAINTS: x509.BasicConstraints(ca=ca, path_length=path_length),
        ExtensionOID.KEY_USAGE: key_usage,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: x509.SubjectKeyIdentifier.from_public_key(
            certificate.public_key()
        ),
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: (
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_ski)
        ),
    }
    if usages:
        expected[ExtensionOID.EXTENDED_KEY_USAGE] = x509.ExtendedKeyUsage(usages)
    if names:
        expected[ExtensionOID.SUBJECT_ALTERNATIVE_NAME] = x509.SubjectAlternativeName(names)
    assert {oid: e.value for oid, e in found.items()} == expected
    assert {oid for oid, e in found.items() if e.critical} == _CRITICAL & expected.keys()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())
