"""Reading certificate requests: only the key in them counts, and the proof that it is held."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from handfast.errors import Refused

MAX_CSR_BYTES = 8192

_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


class CsrError(Refused):
    """A certificate request that cannot be granted.

    Args:
        slug: the kind of problem, as tests/vectors/errors.json lists it.
        message: what is wrong with it.
    """

    def __init__(self, slug: str, message: str) -> None:
        super().__init__(message)
        self.slug = slug


@dataclass(frozen=True, slots=True)
class ParsedCsr:
    """A request whose signature proves that the sender holds the key.

    Args:
        public_key: on P-256.
        spki_sha256: of the key's SubjectPublicKeyInfo in its one usual form, so that the same
            key has the same hash however the request spelled it.
        der: the request as it came.
    """

    public_key: ec.EllipticCurvePublicKey
    spki_sha256: bytes
    der: bytes


def parse_csr(der: bytes) -> ParsedCsr:
    """Read a PKCS#10 request (RFC 2986) and check its key and its signature.

    Subject and extensions are not looked at: what is issued is named by the registry.

    Raises:
        CsrError: ``csr-malformed``, ``csr-weak-key`` or ``csr-signature``.
    """
    if len(der) > MAX_CSR_BYTES:
        raise CsrError("csr-malformed", f"the request is longer than {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_der_x509_csr(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise CsrError("csr-malformed", "the request is not a PKCS#10 in DER") from error
    key = _p256_key(request)
    if not _is_signed_by_its_key(request):
        raise CsrError(
            "csr-signature", "the request is not signed by its own key with ECDSA and SHA-2"
        )
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ParsedCsr(key, hashlib.sha256(spki).digest(), der)


def read_csr(content: bytes) -> ParsedCsr:
    """Like :func:`parse_csr`, of a file's content: PEM (RFC 7468 §7) or DER."""
    if b"-----BEGIN " not in content:
        return parse_csr(content)
    if len(content) > 2 * MAX_CSR_BYTES:
        raise CsrError("csr-malformed", f"the request is longer than {MAX_CSR_BYTES} bytes")
    try:
        request = x509.load_pem_x509_csr(content)
    except (ValueError, x509.InvalidVersion) as error:
        raise CsrError("csr-malformed", "the request is not a PKCS#10 in PEM") from error
    return parse_csr(request.public_bytes(Encoding.DER))


def _p256_key(request: x509.CertificateSigningRequest) -> ec.EllipticCurvePublicKey:
    try:
        key = request.public_key()
    except UnsupportedAlgorithm as error:
        raise CsrError("csr-weak-key", "the request's key is of an unknown kind") from error
    except ValueError as error:
        raise CsrError("csr-malformed", "the request's key is not a valid one") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise CsrError("csr-weak-key", "only keys on the curve P-256 are accepted")
    return key


def _is_signed_by_its_key(request: x509.CertificateSigningRequest) -> bool:
    try:
        known = isinstance(request.signature_hash_algorithm, _HASHES)
        return known and request.is_signature_valid
    except (UnsupportedAlgorithm, ValueError):
        return False
