# Handfast mTLS for MicroPython: what an EST server asks of a request (RFC 7030 4.5, RFC 8951)
# MIT license; Copyright (c) 2026 the Handfast authors
"""A board has P-256 keys and signs with ECDSA and SHA-256: all there is to honour is whether that
will do. What it need not or cannot send (a challenge password, further extensions) is left out, as
a client may, and the server then says so itself.
"""

from micropython import const

from . import der
from .errors import DecodeError, UnsupportedAlgorithm

_MAX_ITEMS = const(32)
_EC_PUBLIC_KEY = const(b"\x2a\x86\x48\xce\x3d\x02\x01")
_SECP256R1 = const(b"\x2a\x86\x48\xce\x3d\x03\x01\x07")
_CURVES = const(
    (b"\x2a\x86\x48\xce\x3d\x03\x01", b"\x2b\x81\x04\x00")
)  # X9.62's prime ones, SECG's
_ECDSA_WITH_SHA256 = const(b"\x2a\x86\x48\xce\x3d\x04\x03\x02")
_HASHES = const(b"\x60\x86\x48\x01\x65\x03\x04\x02")
_SHA256 = _HASHES + b"\x01"
_ECDSA = const(b"\x2a\x86\x48\xce\x3d\x04")  # and its signature algorithms below
_PKCS1 = const(b"\x2a\x86\x48\x86\xf7\x0d\x01\x01")  # rsaEncryption and the RSA signatures
_RSA_ENCRYPTION = _PKCS1 + b"\x01"
_EDWARDS = const(b"\x2b\x65")  # X25519 to Ed448: key and signature in one


def ask(session, prefix, content):
    """Raise UnsupportedAlgorithm if the EST server asks for what a board cannot do.

    `content(response, type)` gives the DER in a response. The connection stays open for the request
    that follows: this costs one round trip. Any answer below 500 but 200 means that it asks for
    nothing (RFC 7030 4.5.2: 204 and 404).
    """
    response = session.get(prefix + "csrattrs")
    if response.status_code >= 500:
        response.raise_for_status()
    if response.status_code == 200 and response.content:
        check(content(response, "application/csrattrs"))


def check(encoded):
    """Raises UnsupportedAlgorithm unless a P-256 key, signing with SHA-256, is what CsrAttrs wants.

    A server that lists several kinds of key, or of signature, leaves the choice. Some name a curve
    or a hash by itself.
    """
    keys = []
    signatures = []
    for oid, values in _items(encoded):
        if oid == _EC_PUBLIC_KEY:
            keys.extend(values or [_SECP256R1])
        elif oid == _RSA_ENCRYPTION or oid[:-1] in _CURVES:
            keys.append(oid)
        elif oid[:2] == _EDWARDS and len(oid) == 3:
            keys.append(oid)
            signatures.append(oid)
        elif oid[: len(_ECDSA)] == _ECDSA or oid[:-1] in (_PKCS1, _HASHES):
            signatures.append(oid)
    _require((_SECP256R1,), keys, "kind of key")
    _require((_ECDSA_WITH_SHA256, _SHA256), signatures, "signature")


def _items(encoded):
    """The (OID, OIDs among its values) of each AttrOrOID."""
    body = der.only(encoded)
    found = []
    while body.more():
        if len(found) >= _MAX_ITEMS:
            raise DecodeError("too many CSR attributes", _MAX_ITEMS)
        if body.peek() == der.OID:
            found.append((body.oid(), ()))
            continue
        attribute = body.enter(der.SEQUENCE)
        oid = attribute.oid()
        values = attribute.enter(der.SET)
        attribute.finish()
        oids = []
        while values.more():
            if values.peek() == der.OID:
                oids.append(values.oid())
            else:
                values.next()
        found.append((oid, oids))
    return found


def _require(ours, listed, what):
    if listed and not any(one in listed for one in ours):
        raise UnsupportedAlgorithm("the EST server wants another " + what, der.dotted(listed[0]))
