"""TLS contexts: which versions and suites, whose certificates, and why one was refused."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509StoreFlags

from handfast.gateway.server.refusals import Refusal, verification_refusal
from handfast.gateway.server.session import prefer_signatures

ClientCertificate = Literal["required", "optional", "none"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Chain = tuple[Sequence[x509.Certificate], PrivateKey]

# Suite name in OpenSSL -> its number (IANA TLS Cipher Suites), in the server's order of preference.
# 1.2: forward secrecy and AEAD only. ECDSA before RSA: whoever can do both gets the P-256 leaf,
# which costs the gateway less; boards offer ECDHE-RSA alone, which costs them less (DESIGN 5).
# AES-128 with SHA-256 first: every board chip and server CPU is fastest there.
TLS12_SUITES = {
    "ECDHE-ECDSA-AES128-GCM-SHA256": 0xC02B,
    "ECDHE-RSA-AES128-GCM-SHA256": 0xC02F,
    "ECDHE-ECDSA-CHACHA20-POLY1305": 0xCCA9,
    "ECDHE-RSA-CHACHA20-POLY1305": 0xCCA8,
    "ECDHE-ECDSA-AES256-GCM-SHA384": 0xC02C,
    "ECDHE-RSA-AES256-GCM-SHA384": 0xC030,
}
TLS13_SUITES = {
    "TLS_AES_128_GCM_SHA256": 0x1301,
    "TLS_CHACHA20_POLY1305_SHA256": 0x1303,
    "TLS_AES_256_GCM_SHA384": 0x1302,
}
SUITES = TLS12_SUITES | TLS13_SUITES

# A resumed session skips verification, and so would outlive a revocation (FACTS 5): there is
# nothing to resume, by ticket or by session id, in either version, but where a context is built to.
# (OpenSSL still sends TLS 1.3 clients two tickets, and pyOpenSSL has no way to say none; they name
# sessions that nobody keeps.)
_OPTIONS = (
    SSL.OP_NO_TICKET
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_NO_COMPRESSION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
)
# Without it OpenSSL completes a leaf sent alone with issuers from the client anchors' store.
# (openssl/ssl.h; pyOpenSSL has no name for it.)
_MODE_NO_AUTO_CHAIN = 0x00000008
_MAX_CHAIN_DEPTH = 4
# How long a client may come back to a session without showing its certificate again.
MAX_RESUMABLE_S = 3600
# PKCS#1 first: a board's mbedTLS 3.6 that speaks TLS 1.3 offers PSS, and then cannot read it in
# TLS 1.2 unless it is mended (boards/custom, rsa-pss-in-tls12.patch). Clients' signatures are
# chosen from the same list.
_SIGNATURES_IN_TLS12 = ":".join(
    (
        "ecdsa_secp256r1_sha256",
        "ecdsa_secp384r1_sha384",
        "ecdsa_secp521r1_sha512",
        "rsa_pkcs1_sha256",
        "rsa_pkcs1_sha384",
        "rsa_pkcs1_sha512",
        "rsa_pss_rsae_sha256",
        "rsa_pss_rsae_sha384",
        "rsa_pss_rsae_sha512",
    )
)

_VERIFY_MODES = {
    "required": SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT,
    "optional": SSL.VERIFY_PEER,
    "none": SSL.VERIFY_NONE,
}


class Verdict:
    """What verification said of one connection's peer; the connection's app data."""

    __slots__ = ("refusal",)

    def __init__(self) -> None:
        self.refusal: Refusal | None = None


def build_context(
    *,
    chains: Sequence[Chain],
    client_anchors: Sequence[x509.Certificate],
    client_certificate: ClientCertificate,
    resumable_s: int = 0,
) -> SSL.Context:
    """Make a server context that verifies clients against exactly ``client_anchors``.

    An anchor need not be self-signed. A presented certificate that does not verify ends the
    handshake even where a certificate is optional. The purpose must be client authentication
    (RFC 5280 4.2.1.12), in the leaf and in every CA that limits its purposes.

    Args:
        chains: ``([leaf, *issuers], key)``, one for each kind of key; issuers are sent with their
            own leaf only.
        client_anchors: trusted as they are, issuers of client certificates.
        client_certificate: whether a client must present one.
        resumable_s: how long a session may be resumed, by its id and in TLS 1.2 alone; 0 is never.
            Whoever serves such connections must authorise every request by itself.

    Raises:
        ValueError: no chain, an empty one, one whose key does not match, a client certificate
            wanted without an anchor, or sessions that live too long or prove nobody.
    """
    if not 0 <= resumable_s <= MAX_RESUMABLE_S:
        raise ValueError(f"a session is resumable for at most {MAX_RESUMABLE_S} s")
    if resumable_s and client_certificate != "required":
        raise ValueError("only a session with a client's certificate is worth resuming")
    if not chains or not all(chain for chain, _ in chains):
        raise ValueError("a TLS server needs a certificate and its key")
    if client_certificate != "none" and not client_anchors:
        raise ValueError("client certificates cannot be verified without an anchor")
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    _set_policy(context)
    if resumable_s:
        _let_resume(context, resumable_s)
    for chain, key in chains:
        _use_chain(context, chain, key)
    store = context.get_cert_store()
    if store is None:
        raise ValueError("OpenSSL gave the context no certificate store")
    for anchor in client_anchors:
        store.add_cert(X509.from_cryptography(anchor))
    # An issuing CA is an anchor by itself: the root, which also vouches for servers, is not here.
    store.set_flags(X509StoreFlags.PARTIAL_CHAIN)
    context.set_verify_depth(_MAX_CHAIN_DEPTH)
    context.set_verify(_VERIFY_MODES[client_certificate], _record_verdict)
    return context


def _set_policy(context: SSL.Context) -> None:
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(_OPTIONS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    # Were a session ever found, it would belong to no context but this one.
    context.set_session_id(secrets.token_bytes(32))
    # Idle connections give their 34 KB of record buffers back.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
    # Level 2 refuses RSA below 2048 bits, curves below 224 and SHA-1 in chains.
    context.set_cipher_list(":".join([*TLS12_SUITES, "@SECLEVEL=2"]).encode())
    context.set_tls13_ciphersuites(":".join(TLS13_SUITES).encode())


def _let_resume(context: SSL.Context, resumable_s: int) -> None:
    """Keep sessions in this context's own memory: another context, or process, knows none of them.

    OpenSSL bounds the cache to 20480 sessions and drops the oldest.
    """
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.set_session_cache_mode(SSL.SESS_CACHE_SERVER)
    context.set_timeout(resumable_s)
    # A board closes without close_notify, which OpenSSL would take for an attack and forget the
    # session. Where a request or answer ends is said by HTTP, so a cut one is seen all the same.
    context.set_options(SSL.OP_IGNORE_UNEXPECTED_EOF)
    prefer_signatures(context, _SIGNATURES_IN_TLS12)
    context.set_app_data(_RESUMABLE)


_RESUMABLE = object()


def is_resumable(context: SSL.Context) -> bool:
    """Tell whether a context of :func:`build_context` lets sessions be resumed."""
    return context.get_app_data() is _RESUMABLE


def _use_chain(context: SSL.Context, chain: Sequence[x509.Certificate], key: PrivateKey) -> None:
    # Only the file loader ties issuers to their leaf; add_extra_chain_cert sends them with all.
    with tempfile.NamedTemporaryFile(prefix="handfast-chain-", suffix=".pem") as file:
        file.write(b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain))
        file.flush()
        context.use_certificate_chain_file(file.name)
    try:
        context.use_privatekey(key)
        context.check_privatekey()
    except SSL.Error as error:
        raise ValueError("the private key does not belong to the leaf of its chain") from error


def _record_verdict(
    connection: SSL.Connection, certificate: X509, code: int, depth: int, ok: int
) -> bool:
    """Note the first failure and leave OpenSSL's decision as it is. Must not raise."""
    if not ok:
        verdict = connection.get_app_data()
        if isinstance(verdict, Verdict) and verdict.refusal is None:
            verdict.refusal = verification_refusal(code, depth, _readable(certificate))
    return bool(ok)


def _readable(certificate: X509) -> x509.Certificate | None:
    try:
        return certificate.to_cryptography()
    except Exception:
        # A peer may send what OpenSSL reads and a stricter parser does not; it is refused anyway.
        return None
