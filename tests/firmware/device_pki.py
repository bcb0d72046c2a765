"""Certificates and time-stamps for the tests of the device library, right ones and wrong ones.

Certificates come from `cryptography`. Time-stamp replies are put together here field by field, so
that a test can break one rule and keep the rest; `openssl ts -verify` confirms the unbroken one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from mtls import der

NOW = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
TIME_STAMPING = ExtendedKeyUsageOID.TIME_STAMPING
SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def rsa_key(name: str, bits: int = 2048, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """One RSA key a name, made once a test process."""
    del name
    return rsa.generate_private_key(exponent, bits)  # type: ignore[arg-type]


def name_of(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True, slots=True)
class Plan:
    """A certificate to be made; ``issuer_key`` signs it."""

    subject: str
    key: PrivateKey
    issuer: str
    issuer_key: PrivateKey
    ca: bool = False
    path_length: int | None = None
    eku: Sequence[x509.ObjectIdentifier] = ()
    eku_critical: bool = True
    not_before: datetime = NOW - timedelta(hours=1)
    not_after: datetime = NOW + timedelta(days=5)
    key_cert_sign: bool | None = None
    digital_signature: bool = True
    extra: Sequence[tuple[x509.ExtensionType, bool]] = ()
    digest: hashes.HashAlgorithm = field(default_factory=hashes.SHA256)

    def make(self) -> x509.Certificate:
        cert_sign = self.ca if self.key_cert_sign is None else self.key_cert_sign
        builder = (
            x509.CertificateBuilder()
            .subject_name(name_of(self.subject))
            .issuer_name(name_of(self.issuer))
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.not_before)
            .not_valid_after(self.not_after)
            .add_extension(x509.BasicConstraints(self.ca, self.path_length), critical=True)
            .add_extension(key_usage(self.digital_signature, cert_sign), critical=True)
        )
        if self.eku:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.eku), self.eku_critical)
        for extension, critical in self.extra:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.issuer_key, self.digest)


def key_usage(digital_signature: bool, cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=not digital_signature,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def encoded(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def root_plan() -> Plan:
    key = rsa_key("root")
    return Plan("root", key, "root", key, ca=True, path_length=1)


def server_plan() -> Plan:
    """The `server` CA, the anchor of boards."""
    return Plan(
        "server",
        rsa_key("server"),
        "root",
        rsa_key("root"),
        ca=True,
        path_length=0,
        eku=[SERVER_AUTH, TIME_STAMPING],
    )


def tsa_plan() -> Plan:
    return Plan("tsa", rsa_key("tsa"), "server", rsa_key("server"), eku=[TIME_STAMPING])


SHA256 = der.sequence(der.oid("2.16.840.1.101.3.4.2.1"))
SHA1 = der.sequence(der.oid("1.3.14.3.2.26"))
RSA = der.sequence(der.oid("1.2.840.113549.1.1.1"), b"\x05\x00")
SHA256_WITH_RSA = der.sequence(der.oid("1.2.840.113549.1.1.11"), b"\x05\x00")
TST_INFO = "1.2.840.113549.1.9.16.1.4"
IMPRINT = hashlib.sha256(b"anything").digest()
NONCE = 0x8123456789ABCDEF
POLICY = "1.3.6.1.4.1.32473.7.1"
GRANTED = der.sequence(der.integer(0))


def attribute(dotted: str, *values: bytes) -> bytes:
    return der.sequence(der.oid(dotted), der.tlv(der.SET, *values))


def generalized(moment: datetime, fraction: str = "") -> bytes:
    return der.tlv(der.GENERALIZED_TIME, f"{moment:%Y%m%d%H%M%S}{fraction}Z".encode())


@dataclass(frozen=True, slots=True)
class Reply:
    """A TimeStampResp; every field is a rule that a test may break with ``but``."""

    leaf: bytes
    certificates: Sequence[bytes]
    signer_name: bytes  # issuer Name of the leaf
    signer_serial: int
    key: rsa.RSAPrivateKey
    status: bytes = GRANTED
    content_info: str = "1.2.840.113549.1.7.2"
    version: int = 3
    content_type: str = TST_INFO
    info_version: int = 1
    policy: str = POLICY
    imprint_algorithm: bytes = SHA256
    imprint: bytes = IMPRINT
    time: bytes = generalized(NOW)
    before_nonce: bytes = der.sequence(der.integer(1))  # accuracy of a second
    nonce: bytes = der.integer(NONCE)
    after_nonce: bytes = b""
    digest_algorithm: bytes = SHA256
    signature_algorithm: bytes = RSA
    attribute_type: str = TST_INFO
    message_digest: bytes | None = None
    ess_algorithm: bytes = b""
    ess_hash: bytes | None = None
    ess_tail: bytes = b""
    drop_attribute: int | None = None
    extra_attributes: Sequence[bytes] = ()
    sign_as: int = 0x31
    signature: bytes | None = None
    signers: int = 1
    sid: bytes | None = None

    def but(self, **changes: object) -> Reply:
        return replace(self, **changes)  # type: ignore[arg-type]

    def info(self) -> bytes:
        return der.sequence(
            der.integer(self.info_version),
            der.oid(self.policy),
            der.sequence(self.imprint_algorithm, der.octets(self.imprint)),
            der.integer(77),
            self.time,
            self.before_nonce,
            self.nonce,
            self.after_nonce,
        )

    def attributes(self, info: bytes) -> bytes:
        digest = self.message_digest or hashlib.sha256(info).digest()
        ess_hash = self.ess_hash or hashlib.sha256(self.leaf).digest()
        ess = der.sequence(self.ess_algorithm, der.octets(ess_hash), self.ess_tail)
        found = [
            attribute("1.2.840.113549.1.9.3", der.oid(self.attribute_type)),
            attribute("1.2.840.113549.1.9.4", der.octets(digest)),
            attribute("1.2.840.113549.1.9.16.2.47", der.sequence(der.sequence(ess))),
        ]
        if self.drop_attribute is not None:
            del found[self.drop_attribute]
        return b"".join(sorted([*found, *self.extra_attributes]))

    def token(self) -> bytes:
        info = self.info()
        attributes = self.attributes(info)
        signature = self.signature or self.key.sign(
            der.tlv(self.sign_as, attributes), padding.PKCS1v15(), hashes.SHA256()
        )
        sid = self.sid or der.sequence(self.signer_name, der.integer(self.signer_serial))
        signer = der.sequence(
            der.integer(3 if sid[0] == 0x80 else 1),
            sid,
            self.digest_algorithm,
            der.tlv(0xA0, attributes),
            self.signature_algorithm,
            der.octets(signature),
        )
        signed_data = der.sequence(
            der.integer(self.version),
            der.tlv(der.SET, SHA256),
            der.sequence(der.oid(self.content_type), der.tlv(0xA0, der.octets(info))),
            der.tlv(0xA0, *self.certificates) if self.certificates else b"",
            der.tlv(der.SET, *[signer] * self.signers),
        )
        return der.sequence(der.oid(self.content_info), der.tlv(0xA0, signed_data))

    def make(self) -> bytes:
        return der.sequence(self.status, self.token())


def reply_by(leaf: x509.Certificate, *issuers: x509.Certificate) -> Reply:
    """A right reply, signed by the key of the `tsa` plan with the given certificate."""
    return Reply(
        leaf=encoded(leaf),
        certificates=[encoded(leaf), *map(encoded, issuers)],
        signer_name=leaf.issuer.public_bytes(),
        signer_serial=leaf.serial_number,
        key=rsa_key("tsa"),
    )
