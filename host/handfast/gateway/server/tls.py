"""TLS contexts of the gateway's listeners, and why a client certificate was turned down."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto

ClientCertificate = Literal["required", "optional", "none"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

# TLS 1.2: ephemeral key exchange with AEAD only. TLS 1.3 has nothing else.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL:!PSK:!SRP"
_OPTIONS = (
    SSL.OP_NO_TICKET  # a resumed session would skip the checks of a full handshake
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_NO_COMPRESSION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
)
_ANY_SESSION_CONTEXT = b"handfast"

# X509_V_ERR_* of OpenSSL's x509_vfy.h, as the slugs of the log.
_VERIFY_ERRORS = {
    2: "untrusted-issuer",  # UNABLE_TO_GET_ISSUER_CERT
    7: "bad-signature",  # CERT_SIGNATURE_FAILURE
    9: "certificate-not-yet-valid",
    10: "certificate-expired",
    18: "untrusted-issuer",  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: "untrusted-issuer",  # SELF_SIGNED_CERT_IN_CHAIN
    20: "untrusted-issuer",  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: "untrusted-issuer",  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    24: "untrusted-issuer",  # INVALID_CA
    26: "wrong-purpose",  # INVALID_PURPOSE
    79: "untrusted-issuer",  # INVALID_CA (OpenSSL 3)
}


@dataclass(slots=True)
class Verification:
    """What the verify callback saw of one handshake: the first reason to refuse, and the leaf."""

    reason: str | None = None
    leaf: x509.Certificate | None = None


def build_context(
    *,
    chains: Sequence[tuple[Sequence[x509.Certificate], PrivateKey]],
    client_anchors: Sequence[x509.Certificate],
    client_certificate: ClientCertificate,
) -> SSL.Context:
    """Return a server context: TLS 1.2 or newer, forward secrecy, no resumption of any kind.

    Args:
        chains: for each own leaf its chain, leaf first, and its key; one leaf a key type. The
            suites that a client offers choose which is used.
        client_anchors: CAs that client certificates must lead to; they need not be self-signed.
        client_certificate: whether a client must, may or cannot present one.
    """
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_cipher_list(_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_session_id(_ANY_SESSION_CONTEXT)
    for chain, key in chains:
        _use(context, chain, key)
    if client_certificate != "none":
        store = context.get_cert_store()
        if store is None:
            raise RuntimeError("a TLS context without a certificate store")
        # A device sends its leaf alone, and its issuing CA is the anchor: not self-signed.
        store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        for anchor in client_anchors:
            store.add_cert(crypto.X509.from_cryptography(anchor))
            context.add_client_ca(crypto.X509.from_cryptography(anchor))
        mode = SSL.VERIFY_PEER
        if client_certificate == "required":
            mode |= SSL.VERIFY_FAIL_IF_NO_PEER_CERT
        context.set_verify(mode, _verify)
    return context


def _use(context: SSL.Context, chain: Sequence[x509.Certificate], key: PrivateKey) -> None:
    # From a file, because only that way the chain belongs to this leaf and not to the context.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.pem"
        path.write_bytes(b"".join(cert.public_bytes(Encoding.PEM) for cert in chain))
        context.use_certificate_chain_file(str(path))
    context.use_privatekey(crypto.PKey.from_cryptography_key(key))
    context.check_privatekey()


def _verify(
    connection: SSL.Connection, certificate: crypto.X509, error: int, depth: int, ok: int
) -> bool:
    """Keep the first reason and the leaf for the log; OpenSSL's verdict stands."""
    seen = connection.get_app_data()
    if isinstance(seen, Verification):
        if depth == 0:
            seen.leaf = certificate.to_cryptography()
        if not ok and seen.reason is None:
            seen.reason = _VERIFY_ERRORS.get(error, f"verification-{error}")
    return bool(ok)


# Words of OpenSSL's error queue, as the slugs of the log; the first that fits counts.
_HANDSHAKE_ERRORS = (
    ("peer did not return a certificate", "no-certificate"),
    ("no shared cipher", "no-shared-cipher"),
    ("unsupported protocol", "unsupported-protocol"),
    ("http request", "plain-http"),
    ("bad signature", "key-does-not-match"),
    ("unexpected eof", "disconnected"),
    ("alert", "peer-alert"),
)


def refusal_reason(error: SSL.Error, seen: Verification) -> str:
    """Return the log's slug for a handshake that failed."""
    if seen.reason is not None:
        return seen.reason
    if isinstance(error, SSL.SysCallError):
        return "disconnected"
    said = " ".join(str(part) for parts in error.args for part in _flat(parts)).lower()
    for words, slug in _HANDSHAKE_ERRORS:
        if words in said:
            return slug
    return "protocol-error"


def _flat(parts: object) -> Sequence[object]:
    if isinstance(parts, (list, tuple)):
        return [leaf for part in parts for leaf in _flat(part)]
    return [parts]
