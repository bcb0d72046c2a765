"""Certificates in the envelope that EST answers with."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7


def certs_only(certificates: Sequence[x509.Certificate]) -> bytes:
    """Return a certs-only PKCS#7 in DER, without a signer (RFC 7030 §4.1.3, RFC 5652 §5).

    Args:
        certificates: at least one; DER puts a set in an order of its own.
    """
    return pkcs7.serialize_certificates(list(certificates), Encoding.DER)
