"""Why a handshake failed: OpenSSL's codes and texts, as slugs that a log reader can count."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

# Verification results (openssl/x509_vfy.h, X509_V_ERR_*).
_VERIFY_SLUGS = {
    2: "untrusted-issuer",  # UNABLE_TO_GET_ISSUER_CERT
    7: "bad-signature",  # CERT_SIGNATURE_FAILURE
    9: "certificate-not-yet-valid",  # CERT_NOT_YET_VALID
    10: "certificate-expired",  # CERT_HAS_EXPIRED
    18: "untrusted-issuer",  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: "untrusted-issuer",  # SELF_SIGNED_CERT_IN_CHAIN
    20: "untrusted-issuer",  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: "untrusted-issuer",  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    26: "wrong-purpose",  # INVALID_PURPOSE
    27: "untrusted-issuer",  # CERT_UNTRUSTED
    66: "weak-key",  # EE_KEY_TOO_SMALL
    67: "weak-key",  # CA_KEY_TOO_SMALL
    68: "weak-digest",  # CA_MD_TOO_WEAK
    79: "wrong-issuer",  # INVALID_CA: what signed the leaf is not a CA
}

# Reasons in OpenSSL's error queue (openssl/sslerr.h), by the start of their text.
_HANDSHAKE_SLUGS = (
    ("peer did not return a certificate", "no-certificate"),
    # CertificateVerify (RFC 8446 4.4.3): the certificate is not matched by the peer's key.
    ("bad signature", "bad-proof-of-possession"),
    ("wrong signature type", "bad-proof-of-possession"),
    ("no shared cipher", "no-shared-cipher"),
    ("no shared signature algorithms", "no-shared-signature-algorithm"),
    ("no suitable signature algorithm", "no-shared-signature-algorithm"),
    ("no suitable key share", "no-shared-group"),
    ("no shared groups", "no-shared-group"),
    ("unsupported protocol", "unsupported-protocol"),
    ("version too low", "unsupported-protocol"),
    ("http request", "not-tls"),
    ("https proxy request", "not-tls"),
    ("wrong version number", "not-tls"),
    ("packet length too long", "not-tls"),
    ("record layer failure", "not-tls"),
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused handshake, as it is logged.

    Attributes:
        reason: slug.
        detail: OpenSSL's own words.
        certificate: what was refused, when a certificate was the reason.
        depth: 0 is the peer's own certificate, 1 its issuer.
    """

    reason: str
    detail: str = ""
    certificate: x509.Certificate | None = None
    depth: int = 0

    def fields(self) -> dict[str, object]:
        """Return the log's fields: reason, detail, and subject and SHA-256 of the certificate."""
        fields: dict[str, object] = {"reason": self.reason}
        if self.detail:
            fields["detail"] = self.detail
        if self.certificate is not None:
            fields["subject"] = common_name(self.certificate)
            fields["sha256"] = self.certificate.fingerprint(hashes.SHA256()).hex()
            fields["depth"] = self.depth
        return fields


def verification_refusal(code: int, depth: int, certificate: x509.Certificate | None) -> Refusal:
    """Name a certificate verification result (X509_V_ERR_*)."""
    slug = _VERIFY_SLUGS.get(code, "certificate-rejected")
    return Refusal(slug, f"X509_V_ERR {code}", certificate, depth)


def handshake_refusal(error: SSL.Error) -> Refusal:
    """Name what ended a handshake other than a certificate that we refused."""
    if isinstance(error, SSL.SysCallError | SSL.ZeroReturnError):
        return Refusal("peer-closed")
    texts = [str(entry[2]) for entry in (error.args[0] if error.args else ()) if len(entry) > 2]
    for text in texts:
        for start, slug in _HANDSHAKE_SLUGS:
            if text.startswith(start):
                return Refusal(slug, text)
        # "tlsv1 alert unknown ca", "ssl/tls alert bad certificate": the peer's words about us.
        if " alert " in text:
            return Refusal("refused-by-peer", text)
    return Refusal("protocol-error", "; ".join(texts))


def common_name(certificate: x509.Certificate) -> str:
    """Return the subject's CN, or the whole subject, bounded and printable, for the log."""
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        text = str(names[0].value) if names else certificate.subject.rfc4514_string()
    except ValueError:
        return "unreadable"
    return "".join(c if c.isprintable() else "?" for c in text[:128])
