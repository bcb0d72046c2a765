"""What an intruder makes by himself: certificates, keys and requests that are not what they say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID, ObjectIdentifier

from handfast.lab.demo.intruders.attempt import Credential
from handfast.pki.authorities import Authority
from handfast.pki.der import BIT_STRING, oid, sequence, tlv
from handfast.pki.issue import issue_device_leaf, issue_server_leaf
from handfast.pki.names import device_subject, device_uri
from handfast.pki.profiles import CLIENT_AUTH, SERVER_AUTH, leaf_key_usage

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_DAY_S = 86_400
# A CA is valid from an hour before it was made: an expired leaf of it has to fit into that.
_EXPIRED_AGO = timedelta(minutes=30)
_EXPIRED_LIFE_S = 60
_NOT_YET = timedelta(hours=1)
_RSA_BITS = 2048
_SERVER_KEYS: tuple[Literal["rsa", "p256"], ...] = ("rsa", "p256")
_ECDSA_WITH_SHA256 = "1.2.840.10045.4.3.2"


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key on P-256."""
    return ec.generate_private_key(ec.SECP256R1())


def key_der(key: Key) -> bytes:
    """Return a private key as PKCS#8."""
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def key_passed_off_as(certificate: x509.Certificate) -> bytes:
    """Return a new private key that carries the public key of ``certificate``.

    OpenSSL compares public keys only, and takes the two for a pair.
    """
    public = certificate.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ValueError("only a key on P-256 can be passed off")
    key = new_key()
    form = (Encoding.X962, PublicFormat.UncompressedPoint)
    return key_der(key).replace(key.public_key().public_bytes(*form), public.public_bytes(*form))


def impostor(genuine: Authority) -> Authority:
    """Return a CA of the intruder's own that has every name and extension of the genuine one."""
    key = new_key()
    real = genuine.certificate
    builder = (
        x509.CertificateBuilder()
        .subject_name(real.subject)
        .issuer_name(real.issuer)
        .public_key(key.public_key())
        .serial_number(real.serial_number)
        .not_valid_before(real.not_valid_before_utc)
        .not_valid_after(real.not_valid_after_utc)
    )
    for extension in real.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return Authority(genuine.name, key, builder.sign(key, hashes.SHA256()))


Forgeries = Mapping[str, Sequence[Credential]]


class Forger:
    """Makes credentials of every kind that an intruder could.

    Args:
        authorities: ``device`` and ``server``, as a thief of their keys has them.
        trust_domain: stands in what is made.
    """

    def __init__(self, authorities: Mapping[str, Authority], trust_domain: str) -> None:
        self._device_ca = authorities["device"]
        self._impostor = impostor(self._device_ca)
        self._trust_domain = trust_domain
        self._rsa = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS)
        self._gateways = [
            issue_server_leaf(
                authorities["server"],
                key_kind=kind,
                names=["localhost"],
                lifetime_s=_DAY_S,
                now=datetime.now(UTC),
            )
            for kind in _SERVER_KEYS
        ]

    def forge(self, device_id: str, copied: Credential) -> Forgeries:
        """Return forgeries in the name of a device, by what they are; RSA ones take turns.

        Args:
            device_id: whom they name.
            copied: a leaf of it; the intruder has the certificate and not the key.
        """
        genuine, now = self._device_ca, datetime.now(UTC)
        certificate = x509.load_der_x509_certificate(copied.certificate)
        keys: tuple[Key, ...] = (new_key(), self._rsa)
        made: dict[str, list[tuple[x509.Certificate, Key | bytes]]] = {
            "self-signed leaf": [self._handmade(device_id, key) for key in keys],
            "impostor's leaf": [self._leaf(device_id, self._impostor, now)],
            "expired leaf": [
                self._leaf(device_id, genuine, now - _EXPIRED_AGO, _EXPIRED_LIFE_S),
            ],
            "early leaf": [self._leaf(device_id, genuine, now + _NOT_YET)],
            "unissued leaf": [self._leaf(device_id, genuine, now)],
            "gateway's leaf": [(made.certificate, made.private_key) for made in self._gateways],
            "leaf for servers": [
                self._handmade(device_id, key, issuer=genuine, usage=SERVER_AUTH) for key in keys
            ],
            "copied leaf": [(certificate, key_passed_off_as(certificate))],
            # mbedTLS does not compare at all, not even whether they are of a kind.
            "for a board": [(certificate, key) for key in keys],
        }
        ends = {"copied leaf": copied.ends, "for a board": copied.ends}
        return {
            what: [
                pair(f"{device_id} {what} {n}", *two, ends=ends.get(what, math.inf))
                for n, two in enumerate(pairs)
            ]
            for what, pairs in made.items()
        }

    def _leaf(
        self, device_id: str, authority: Authority, now: datetime, lives_s: int = _DAY_S
    ) -> tuple[x509.Certificate, Key]:
        """Return a leaf as the product issues them."""
        key = new_key()
        certificate = issue_device_leaf(
            authority,
            public_key=key.public_key(),
            device_id=device_id,
            trust_domain=self._trust_domain,
            hardware_id=None,
            lifetime_s=lives_s,
            now=now,
        )
        return certificate, key

    def _handmade(
        self,
        device_id: str,
        key: Key,
        *,
        issuer: Authority | None = None,
        usage: ObjectIdentifier = CLIENT_AUTH,
    ) -> tuple[x509.Certificate, Key]:
        """Return a leaf that no CA would issue: signed by itself, or good for something else."""
        subject = device_subject(device_id, None)
        uri = x509.UniformResourceIdentifier(device_uri(self._trust_domain, device_id))
        start = datetime.now(UTC) - timedelta(minutes=1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(seconds=_DAY_S))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(leaf_key_usage(), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        )
        return builder.sign(issuer.key if issuer else key, hashes.SHA256()), key


def pair(
    name: str, certificate: x509.Certificate, key: Key | bytes, *, ends: float = math.inf
) -> Credential:
    """Return a certificate and a key (an object, or PKCS#8) as a :class:`Credential`."""
    der = key if isinstance(key, bytes) else key_der(key)
    return Credential(name, certificate.public_bytes(Encoding.DER), der, ends)


def csr(
    common_name: str, *, key: CertificateIssuerPrivateKeyTypes | None = None, uri: str = ""
) -> bytes:
    """Return a certificate request (DER), signed by its own key, a new one by default.

    Args:
        common_name: the subject's CN.
        key: of any kind.
        uri: a subject alternative name to ask for.
    """
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if uri:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(key or new_key(), hashes.SHA256()).public_bytes(Encoding.DER)


def tampered(request: bytes, how: int) -> bytes:
    """Return a request whose signature is not its key's: three ways, taken in turn."""
    if how % 3 == 0:
        return request[:-1] + bytes([request[-1] ^ 1])
    parsed = x509.load_der_x509_csr(request)
    if how % 3 == 1:  # the names were changed after it was signed
        name = parsed.subject.rfc4514_string().removeprefix("CN=").encode()
        return request.replace(name, name[::-1])
    # The signature of a request for another key.
    other = x509.load_der_x509_csr(csr("other"))
    return _with_signature(parsed, other.signature)


def _with_signature(request: x509.CertificateSigningRequest, signature: bytes) -> bytes:
    algorithm = sequence(oid(_ECDSA_WITH_SHA256))
    bits = tlv(BIT_STRING, b"\0" + signature)
    return sequence(request.tbs_certrequest_bytes, algorithm, bits)


def weak_key(how: int) -> CertificateIssuerPrivateKeyTypes:
    """Return a key that is too weak: an RSA key of 1024 bits or one on a curve of 224, in turn."""
    if how % 2:
        return ec.generate_private_key(ec.SECP224R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
