"""Answers about one certificate at a time (OCSP, RFC 6960), signed by delegated responders.

Each issuing CA whose key is at hand has a responder certificate directly below it; a request
finds it by the CA's name hash and key hash, SHA-1 or SHA-256. Whoever asks about a certificate of
another CA gets ``unauthorized``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp
from cryptography.x509.ocsp import OCSPCertStatus, OCSPResponderEncoding, OCSPResponseStatus

from handfast.pki import der
from handfast.pki.issue import IssuedKeyPair

# A request for one certificate takes 70 to 250 bytes, a signed one some 2,000.
MAX_REQUEST_BYTES = 4096
MAX_NONCE_BYTES = 128
RESPONSE_LIFETIME = timedelta(seconds=60)

_HASHES = (hashes.SHA1.name, hashes.SHA256.name)


@dataclass(frozen=True, slots=True)
class Good:
    """Issued and not revoked; says nothing of whether the certificate has ended."""


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not known as issued by this CA."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """Revoked since ``when`` (aware); a suspended one is on ``certificate_hold``."""

    when: datetime
    reason: x509.ReasonFlags | None


Status = Good | Unknown | Revoked


@dataclass(frozen=True, slots=True)
class Responder:
    """Who answers for one CA.

    Attributes:
        ca: the CA's name, which ``status_of`` is asked with.
        issuer: the CA's certificate.
        pair: a key with a certificate from :func:`handfast.pki.issue.issue_ocsp_leaf`.
    """

    ca: str
    issuer: x509.Certificate
    pair: IssuedKeyPair


@dataclass(frozen=True, slots=True)
class _Question:
    responder: Responder
    request: ocsp.OCSPRequest
    nonce: x509.OCSPNonce | None


class _RefusedError(Exception):
    def __init__(self, status: OCSPResponseStatus) -> None:
        super().__init__(status)
        self.status = status


def respond(
    request_der: bytes,
    *,
    responders: Sequence[Responder],
    status_of: Callable[[str, int], Status],
    now: datetime,
    lifetime: timedelta = RESPONSE_LIFETIME,
) -> bytes:
    """Answer an OCSPRequest with an OCSPResponse in DER, whatever the request is.

    A request that is none, is longer than 4,096 bytes, asks about several certificates, has a
    nonce of no or of more than 128 bytes (RFC 9654 §2.1) or a critical extension unknown here
    gets ``malformedRequest``; one about another CA's certificate ``unauthorized``; ``tryLater``
    is for a responder whose own certificate has ended. A request's signature is not looked at.

    Args:
        request_der: what the client sent.
        responders: one for each CA that is answered for.
        status_of: told a CA's name and a serial number, zero or more.
        now: aware; its whole second is thisUpdate. producedAt is the system's own time.
        lifetime: from thisUpdate to nextUpdate, cut to the responder certificate's.
    """
    try:
        question = _read(request_der, responders)
        return _answer(question, status_of, now.astimezone(UTC).replace(microsecond=0), lifetime)
    except _RefusedError as refused:
        answer = ocsp.OCSPResponseBuilder.build_unsuccessful(refused.status)
        return answer.public_bytes(Encoding.DER)


# Reading the request


def _read(request_der: bytes, responders: Sequence[Responder]) -> _Question:
    if len(request_der) > MAX_REQUEST_BYTES:
        raise _RefusedError(OCSPResponseStatus.MALFORMED_REQUEST)
    try:
        request = ocsp.load_der_ocsp_request(request_der)
        extensions = request.extensions
    except (ValueError, UnsupportedAlgorithm, NotImplementedError, x509.DuplicateExtension):
        # NotImplementedError: there are several certIDs, or none.
        raise _RefusedError(OCSPResponseStatus.MALFORMED_REQUEST) from None
    if request.serial_number < 0:
        raise _RefusedError(OCSPResponseStatus.MALFORMED_REQUEST)
    return _Question(_responder_for(request, responders), request, _nonce(extensions))


def _nonce(extensions: x509.Extensions) -> x509.OCSPNonce | None:
    found = None
    for extension in extensions:
        if isinstance(extension.value, x509.OCSPNonce):
            found = extension.value
        elif extension.critical:
            raise _RefusedError(OCSPResponseStatus.MALFORMED_REQUEST)
    if found is not None and not 0 < len(found.nonce) <= MAX_NONCE_BYTES:
        raise _RefusedError(OCSPResponseStatus.MALFORMED_REQUEST)
    return found


def _responder_for(request: ocsp.OCSPRequest, responders: Sequence[Responder]) -> Responder:
    try:
        algorithm = request.hash_algorithm.name
    except UnsupportedAlgorithm:
        raise _RefusedError(OCSPResponseStatus.UNAUTHORIZED) from None
    asked = (algorithm, request.issuer_name_hash, request.issuer_key_hash)
    for responder in responders:
        if asked in _issuer_ids(responder.issuer):
            return responder
    raise _RefusedError(OCSPResponseStatus.UNAUTHORIZED)


@lru_cache(maxsize=32)
def _issuer_ids(issuer: x509.Certificate) -> frozenset[tuple[str, bytes, bytes]]:
    """Return how requests may name a CA: hash, its name hashed, its key hashed (§4.1.1)."""
    name = issuer.subject.public_bytes()
    spki = issuer.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    fields = der.Reader(spki).enter(der.SEQUENCE)
    fields.element(der.SEQUENCE)
    key = fields.content(der.BIT_STRING)[1:]  # without the number of unused bits
    return frozenset(
        (algorithm, _digest(algorithm, name), _digest(algorithm, key)) for algorithm in _HASHES
    )


def _digest(algorithm: str, content: bytes) -> bytes:
    return hashlib.new(algorithm, content, usedforsecurity=False).digest()


# Writing the answer


def _answer(
    question: _Question,
    status_of: Callable[[str, int], Status],
    this_update: datetime,
    lifetime: timedelta,
) -> bytes:
    responder, request = question.responder, question.request
    leaf = responder.pair.certificate
    if this_update >= leaf.not_valid_after_utc:
        raise _RefusedError(OCSPResponseStatus.TRY_LATER)
    status = status_of(responder.ca, request.serial_number)
    revoked = status if isinstance(status, Revoked) else None
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response_by_hash(
            request.issuer_name_hash,
            request.issuer_key_hash,
            request.serial_number,
            request.hash_algorithm,
            _cert_status(status),
            this_update,
            min(this_update + lifetime, leaf.not_valid_after_utc),
            revoked.when.astimezone(UTC).replace(microsecond=0) if revoked else None,
            revoked.reason if revoked else None,
        )
        .responder_id(OCSPResponderEncoding.HASH, leaf)
        .certificates([leaf])
    )
    if question.nonce is not None:
        builder = builder.add_extension(question.nonce, critical=False)
    answer = builder.sign(responder.pair.private_key, hashes.SHA256())
    return answer.public_bytes(Encoding.DER)


def _cert_status(status: Status) -> OCSPCertStatus:
    if isinstance(status, Revoked):
        return OCSPCertStatus.REVOKED
    return OCSPCertStatus.GOOD if isinstance(status, Good) else OCSPCertStatus.UNKNOWN
