# Handfast mTLS for MicroPython: a key with its leaf, and the one file that holds both
# MIT license; Copyright (c) 2026 the Handfast authors

import hashlib

from micropython import const

from .errors import StoreDamaged

_IN_CHIP = const(0x82)  # keys.IN_CHIP: to ask for it a handshake need not load what makes keys
_POINT_BYTES = const(65)
MAGIC = const(b"HFS1")
_OVERHEAD = const(40)  # magic, two lengths, SHA-256
# Names of files: what is half written, and what stands beside the folder from the first moment of a
# decommissioning to its last.
TEMPORARY = const(".new")
TOMBSTONE = const(".erase")


def unpack_identity(blob):
    """Return (key DER, leaf DER), or None when the file is damaged in any way."""
    if blob is None or len(blob) < _OVERHEAD or blob[:4] != MAGIC:
        return None
    if hashlib.sha256(blob[:-32]).digest() != blob[-32:]:
        return None
    key_end = 6 + int.from_bytes(blob[4:6], "big")
    if key_end + 2 + 32 > len(blob):
        return None
    cert_end = key_end + 2 + int.from_bytes(blob[key_end : key_end + 2], "big")
    if key_end == 6 or cert_end + 32 != len(blob):
        return None
    return blob[6:key_end], blob[key_end + 2 : cert_end]


class Identity:
    """A private key, or the reference to one in a chip, and, once issued, its leaf.

    ``chip`` is a function that returns the SecureElement; asked only for a key that is in it.
    """

    def __init__(self, name, key_der, cert_der=b"", chip=None):
        self.name = name
        self.key_der = key_der
        self.cert_der = cert_der
        self._chip = chip

    def __repr__(self):
        return "<Identity %s%s>" % (self.name, "" if self.cert_der else ", no certificate yet")

    def in_chip(self):
        return self.key_der[0] == _IN_CHIP

    def key(self, drbg=None):
        if self.in_chip():
            from .atecc import SecureElementKey

            return SecureElementKey.from_der(self.key_der, self._chip())
        from .keys import SoftwareKey

        return SoftwareKey.from_der(self.key_der, drbg)

    def certificate(self):
        from .x509 import Certificate

        return Certificate(self.cert_der)

    def life(self):
        """Return the leaf's (not_before, not_after); raises StoreDamaged if it is not the key's."""
        if not self.matches():
            raise StoreDamaged("slot %s holds a certificate for another key" % self.name)
        certificate = self.certificate()
        return certificate.not_before, certificate.not_after

    def matches(self):
        """Whether the leaf is for this key: mbedTLS loads a mismatched pair without a word."""
        return self.key().matches(self.certificate().spki)

    def paired(self):
        """As `matches`, for a pair that this board wrote itself: by the public point alone, which
        ends an ECPrivateKey (RFC 5915), so that a handshake needs no parsers. A chip is asked."""
        return self.matches() if self.in_chip() else self.key_der[-_POINT_BYTES:] in self.cert_der
