"""Certificates for tests of the mTLS server, made once a process."""

from __future__ import annotations

import functools
import ipaddress
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from OpenSSL import SSL

from handfast.gateway.server import build_context

T = TypeVar("T")
DAY = timedelta(days=1)
CLIENT_AUTH = (ExtendedKeyUsageOID.CLIENT_AUTH,)
SERVER_AUTH = (ExtendedKeyUsageOID.SERVER_AUTH,)


@dataclass(frozen=True)
class Identity:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    @property
    def sha256(self) -> bytes:
        return self.certificate.fingerprint(hashes.SHA256())

    @functools.cached_property
    def file(self) -> str:
        """A PEM file with key and chain; it lives as long as the test process."""
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        pem += b"".join(c.public_bytes(Encoding.PEM) for c in (self.certificate, *self.chain))
        path = Path(_folder(), f"{self.certificate.serial_number:x}.pem")
        path.write_bytes(pem)
        return str(path)


@functools.cache
def _folder() -> str:
    return _keep(tempfile.TemporaryDirectory(prefix="handfast-server-")).name


_kept: list[Any] = []


def _keep(thing: T) -> T:
    _kept.append(thing)
    return thing


def issue(
    name: str,
    issuer: Identity | None,
    *,
    ca: bool = False,
    purposes: Sequence[x509.ObjectIdentifier] = (),
    begin: datetime | None = None,
    life: timedelta = DAY,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    signer: ec.EllipticCurvePrivateKey | None = None,
) -> Identity:
    """Issue a certificate; ``signer`` signs in the issuer's name with a key that is not its own."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    begin = begin or datetime.now(UTC) - timedelta(minutes=5)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + life)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    if not ca:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    signing = signer or (issuer.key if issuer else key)
    return Identity(builder.sign(signing, hashes.SHA256()), key)


@dataclass(frozen=True)
class Pki:
    """A root over an RSA ``server`` CA and a P-256 ``device`` CA, and a foreign device CA."""

    root: Identity
    server_ca: Identity
    device_ca: Identity
    foreign_ca: Identity
    rsa_leaf: Identity
    p256_leaf: Identity
    device: Identity

    def chains(self) -> list[Any]:
        return [
            ([self.rsa_leaf.certificate], self.rsa_leaf.key),
            ([self.p256_leaf.certificate, self.server_ca.certificate], self.p256_leaf.key),
        ]

    def context(self, client_certificate: Any = "required", **changes: Any) -> SSL.Context:
        options = {
            "chains": self.chains(),
            "client_anchors": [self.device_ca.certificate],
            "client_certificate": client_certificate,
        }
        return build_context(**(options | changes))


@functools.cache
def pki() -> Pki:
    def rsa_key() -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)

    root = issue("root", None, ca=True)
    server_ca = issue("server", root, ca=True, purposes=SERVER_AUTH, key=rsa_key())
    device_ca = issue("device", root, ca=True, purposes=CLIENT_AUTH)
    return Pki(
        root=root,
        server_ca=server_ca,
        device_ca=device_ca,
        foreign_ca=issue("device", issue("root", None, ca=True), ca=True, purposes=CLIENT_AUTH),
        rsa_leaf=issue("rsa", server_ca, purposes=SERVER_AUTH, key=rsa_key()),
        p256_leaf=issue("p256", server_ca, purposes=SERVER_AUTH),
        device=issue("board-1", device_ca, purposes=CLIENT_AUTH),
    )


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
