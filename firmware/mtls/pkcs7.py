# Handfast mTLS for MicroPython: certificates out of a certs-only PKCS#7 (RFC 7030, RFC 5652)
# MIT license; Copyright (c) 2026 the Handfast authors

from . import der
from .errors import DecodeError

SIGNED_DATA = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"  # 1.2.840.113549.1.7.2


def signed_data(reader):
    """A Reader of the SignedData in the next ContentInfo, which holds nothing else."""
    info = reader.enter(der.SEQUENCE)
    if info.oid() != SIGNED_DATA:
        raise DecodeError("not CMS signed data")
    explicit = info.enter(0xA0)
    info.finish()
    body = explicit.enter(der.SEQUENCE)
    explicit.finish()
    return body


def certificate_set(body, limit):
    """The DER certificates of the optional [0] field that comes next in a SignedData."""
    found = []
    if body.peek() == 0xA0:
        field = body.enter(0xA0)
        while field.more():
            if len(found) >= limit:
                raise DecodeError("too many certificates", limit)
            found.append(field.element(der.SEQUENCE))
    if body.peek() == 0xA1:
        body.next()  # revocation lists are not ours to judge
    return found


def certificates(encoded, limit=8):
    """The certificates of a certs-only message, DER each, in the order sent."""
    outer = der.Reader(encoded)
    body = signed_data(outer)
    outer.finish()
    body.integer()
    body.next(der.SET)
    body.next(der.SEQUENCE)
    found = certificate_set(body, limit)
    body.next(der.SET)
    body.finish()
    return found
