"""Signed time: answers of a time-stamp authority (RFC 3161, ESSCertIDv2 of RFC 5816).

A board trusts this before it trusts anything else about time, so the imprint may be the SHA-256
of any bytes; what counts is the nonce, which shows that the answer is fresh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from handfast.pki import der
from handfast.wire import TSA_POLICY_OID

MAX_QUERY_BYTES = 4096

_SHA256 = der.oid("2.16.840.1.101.3.4.2.1")
_SHA256_ALGORITHM = der.sequence(_SHA256, der.tlv(der.NULL))
_RSA_ALGORITHM = der.sequence(der.oid("1.2.840.113549.1.1.1"), der.tlv(der.NULL))
_SIGNED_DATA = der.oid("1.2.840.113549.1.7.2")
_TST_INFO = der.oid("1.2.840.113549.1.9.16.1.4")
_CONTENT_TYPE = der.oid("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = der.oid("1.2.840.113549.1.9.4")
_SIGNING_CERTIFICATE_V2 = der.oid("1.2.840.113549.1.9.16.2.47")
_POLICY = der.oid(TSA_POLICY_OID)

_EXTENSIONS = 0xA0

_GRANTED = der.sequence(der.integer(0))
_REJECTION = der.integer(2)
_ACCURACY_1_S = der.sequence(der.integer(1))


class Failure(IntEnum):
    """Why a query is rejected: bits of PKIFailureInfo (RFC 3161 §2.4.2)."""

    BAD_ALGORITHM = 0
    BAD_REQUEST = 2
    BAD_DATA_FORMAT = 5
    UNACCEPTED_POLICY = 15
    UNACCEPTED_EXTENSION = 16


class _RejectedError(Exception):
    def __init__(self, failure: Failure, reason: str) -> None:
        super().__init__(reason)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class _Query:
    """What a granted query asks for; imprint and nonce are DER, to be repeated as they came."""

    imprint: bytes
    nonce: bytes
    wants_certificates: bool


@dataclass(frozen=True, slots=True)
class _Signer:
    """The parts of every token that depend on the certificates alone, encoded once."""

    issuer_and_serial: bytes
    signing_certificate: bytes
    certificates: bytes


def respond(
    query_der: bytes,
    *,
    key: rsa.RSAPrivateKey,
    leaf: x509.Certificate,
    chain: Sequence[x509.Certificate],
    now: datetime,
    serial: int,
) -> bytes:
    """Answer a TimeStampReq with a TimeStampResp in DER; a bad query is answered by a rejection.

    Args:
        query_der: what the client sent, whatever it is.
        key: the private key of ``leaf``.
        leaf: with the extended key usage timeStamping alone.
        chain: its issuers below the root; sent after it when the query wants certificates.
        now: aware; genTime is its whole second.
        serial: never used before by this authority.
    """
    try:
        query = _read(query_der)
    except _RejectedError as rejected:
        return _rejection(rejected.failure, str(rejected))
    except der.DerError as error:
        return _rejection(Failure.BAD_DATA_FORMAT, f"not a TimeStampReq in DER: {error}")
    info = _tst_info(query, now, serial)
    token = _token(info, key, _signer(leaf, tuple(chain)), query.wants_certificates)
    return der.sequence(_GRANTED, token)


# Reading the query


def _read(query_der: bytes) -> _Query:
    if len(query_der) > MAX_QUERY_BYTES:
        raise der.DerError(f"it is longer than {MAX_QUERY_BYTES} bytes")
    outer = der.Reader(query_der)
    body = outer.enter(der.SEQUENCE)
    outer.finish()
    if (version := body.integer()) != 1:
        raise _RejectedError(Failure.BAD_REQUEST, f"version {version} is unknown")
    imprint = body.element(der.SEQUENCE)
    policy = body.element(der.OID) if body.peek() == der.OID else None
    nonce = der.integer(body.integer()) if body.peek() == der.INTEGER else b""
    # DER leaves FALSE out, being the default; some clients say it all the same.
    wants_certificates = body.peek() == der.BOOLEAN and body.boolean()
    extensions = body.content(_EXTENSIONS) if body.peek() == _EXTENSIONS else None
    body.finish()
    _check_imprint(imprint)
    if policy not in (None, _POLICY):
        raise _RejectedError(Failure.UNACCEPTED_POLICY, f"the only policy is {TSA_POLICY_OID}")
    if extensions is not None:
        raise _RejectedError(Failure.UNACCEPTED_EXTENSION, "no extension is known here")
    return _Query(imprint, nonce, wants_certificates)


def _check_imprint(imprint: bytes) -> None:
    fields = der.Reader(imprint).enter(der.SEQUENCE)
    algorithm = fields.enter(der.SEQUENCE)
    digest = fields.content(der.OCTET_STRING)
    fields.finish()
    if algorithm.element(der.OID) != _SHA256:
        raise _RejectedError(Failure.BAD_ALGORITHM, "the imprint must be a SHA-256")
    if not algorithm.at_end and algorithm.content(der.NULL):
        raise der.DerError("a NULL is not empty")
    algorithm.finish()
    if len(digest) != hashlib.sha256().digest_size:
        raise der.DerError("the imprint is not 32 bytes long")


# Writing the answer


def _rejection(failure: Failure, reason: str) -> bytes:
    text = der.sequence(der.tlv(der.UTF8_STRING, reason.encode()))
    return der.sequence(der.sequence(_REJECTION, text, der.named_bit(failure)))


def _tst_info(query: _Query, now: datetime, serial: int) -> bytes:
    generated = f"{now.astimezone(UTC):%Y%m%d%H%M%S}Z".encode()
    return der.sequence(
        der.integer(1),
        _POLICY,
        query.imprint,
        der.integer(serial),
        der.tlv(der.GENERALIZED_TIME, generated),
        _ACCURACY_1_S,
        query.nonce,
    )


def _token(info: bytes, key: rsa.RSAPrivateKey, signer: _Signer, with_certificates: bool) -> bytes:
    """Return the CMS SignedData around ``info`` (RFC 5652 §5, RFC 3161 §2.4.2)."""
    attributes = der.set_of(
        (
            _attribute(_CONTENT_TYPE, _TST_INFO),
            _attribute(_MESSAGE_DIGEST, der.octets(hashlib.sha256(info).digest())),
            signer.signing_certificate,
        )
    )
    signature = key.sign(attributes, padding.PKCS1v15(), hashes.SHA256())
    signer_info = der.sequence(
        der.integer(1),
        signer.issuer_and_serial,
        _SHA256_ALGORITHM,
        # Signed as the SET that they are, sent under the tag [0] (RFC 5652 §5.4).
        b"\xa0" + attributes[1:],
        _RSA_ALGORITHM,
        der.octets(signature),
    )
    signed_data = der.sequence(
        der.integer(3),
        der.set_of([_SHA256_ALGORITHM]),
        der.sequence(_TST_INFO, der.context(0, der.octets(info))),
        signer.certificates if with_certificates else b"",
        der.set_of([signer_info]),
    )
    return der.sequence(_SIGNED_DATA, der.context(0, signed_data))


@lru_cache(maxsize=8)
def _signer(leaf: x509.Certificate, chain: tuple[x509.Certificate, ...]) -> _Signer:
    encoded = [certificate.public_bytes(Encoding.DER) for certificate in (leaf, *chain)]
    issuer, serial = leaf.issuer.public_bytes(), der.integer(leaf.serial_number)
    # ESSCertIDv2 leaves its hash algorithm out: SHA-256 is the default (RFC 5035 §4).
    certificate_id = der.sequence(
        der.octets(hashlib.sha256(encoded[0]).digest()),
        der.sequence(der.sequence(der.context(4, issuer)), serial),
    )
    return _Signer(
        issuer_and_serial=der.sequence(issuer, serial),
        signing_certificate=_attribute(
            _SIGNING_CERTIFICATE_V2, der.sequence(der.sequence(certificate_id))
        ),
        certificates=b"\xa0" + der.set_of(encoded)[1:],
    )


def _attribute(kind: bytes, value: bytes) -> bytes:
    return der.sequence(kind, der.set_of([value]))
