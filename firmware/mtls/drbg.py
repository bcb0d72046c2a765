# Handfast mTLS for MicroPython: HMAC-DRBG with SHA-256 (SP 800-90A §10.1.2); entropy.py seeds it
# MIT license; Copyright (c) 2026 the Handfast authors

import hashlib

from micropython import const

from .errors import EntropyError


# SP 800-90A table 2: at most 2^19 bits a request.
_MAX_REQUEST = const(1 << 16)


def hmac_sha256(key, *parts):
    """HMAC with SHA-256 of the parts one after the other; the key has at most 64 octets."""
    key = key + bytes(64 - len(key))
    inner = hashlib.sha256(bytes([b ^ 0x36 for b in key]))
    for part in parts:
        inner.update(part)
    outer = hashlib.sha256(bytes([b ^ 0x5C for b in key]))
    outer.update(inner.digest())
    return outer.digest()


class HmacDrbg:
    """entropy holds the entropy input and the nonce: at least 48 octets, as SP 800-90A asks.

    Without a reseed: a board boots anew long before its 2^48 requests (table 2) are used up."""

    def __init__(self, entropy, personal=b""):
        if len(entropy) < 48:
            raise EntropyError("too little entropy input")
        self._k = bytes(32)
        self._v = b"\x01" * 32
        self._update(entropy, personal)

    def __repr__(self):
        return "<HmacDrbg>"

    def _update(self, *data):
        for mark in (b"\0", b"\1"):
            self._k = hmac_sha256(self._k, self._v, mark, *data)
            self._v = hmac_sha256(self._k, self._v)
            if not any(data):
                break

    def generate(self, n, extra=b""):
        """n random octets, n up to 65536."""
        if not 0 <= n <= _MAX_REQUEST:
            raise ValueError("too much asked of the DRBG")
        if extra:
            self._update(extra)
        out = b""
        while len(out) < n:
            self._v = hmac_sha256(self._k, self._v)
            out += self._v
        self._update(extra)
        return out[:n]
