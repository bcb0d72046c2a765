# Handfast mTLS for MicroPython: hold a peer to public keys that are known beforehand
# MIT license; Copyright (c) 2026 the Handfast authors
"""A pin is the SHA-256 of a SubjectPublicKeyInfo (RFC 7469 2.4). It comes on top of verification:
some certificate of the verified path, anchor included, must have one. Normally that is the
`server` CA, since the gateway's leaf has a new key with each renewal.
"""

import hashlib
from binascii import unhexlify

from micropython import const

from .der import SEQUENCE, only
from .errors import ConfigError, MTLSError

_DIGEST_BYTES = const(32)


def spki_sha256(cert_der):
    """Return the pin of a certificate, as bytes."""
    tbs = only(cert_der).enter(SEQUENCE)
    if tbs.peek() == 0xA0:
        tbs.next()  # version
    for _ in range(5):  # serial number, signature algorithm, issuer, validity, subject
        tbs.next()
    return hashlib.sha256(tbs.element(SEQUENCE)).digest()


def _digest(pin):
    try:
        pin = unhexlify(pin) if isinstance(pin, str) else bytes(pin)
    except ValueError:
        pin = b""
    if len(pin) != _DIGEST_BYTES:
        raise ConfigError("a pin must be a SHA-256, as 32 bytes or 64 hex digits")
    return pin


class Pins:
    """`verify` is a context's verify_callback, for one handshake at a time."""

    def __init__(self, pins):
        self._pins = [_digest(pin) for pin in pins]
        self._matched = False
        self.refused = False  # whether the last path had none of them

    def verify(self, cert, depth):
        """Called from the anchor down to the leaf, depth 0; 0 accepts. Never raises: that would
        end in the middle of mbedTLS, whose memory `cert` is."""
        try:
            self._matched = self._matched or spki_sha256(bytes(cert)) in self._pins
        except (MTLSError, MemoryError):
            pass  # matches nothing
        if depth:
            return 0
        self.refused = not self._matched
        self._matched = False
        return -1 if self.refused else 0
