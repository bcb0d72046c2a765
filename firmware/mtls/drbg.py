# Handfast mTLS for MicroPython: HMAC-DRBG with SHA-256 (SP 800-90A §10.1.2), seeded with care
# MIT license; Copyright (c) 2026 the Handfast authors

import os
import time

from .errors import EntropyError
from .p256 import hmac_sha256

# Health test over raw os.urandom (SP 800-90B §4.4), assessed at no more than 2 bits an octet and a
# false alarm once in 2^30: 1 + ceil(30 / 2) equal octets in a row, or 190 of 512 equal to the
# first, mean that the source is stuck. tests/firmware computes the second cutoff again.
_SAMPLE = 1024
_WINDOW = 512
_RUN_CUTOFF = 16
_WINDOW_CUTOFF = 190
# SP 800-90A table 2: at most 2^19 bits a request.
_MAX_REQUEST = 1 << 16


class HmacDrbg:
    """entropy holds the entropy input and the nonce: at least 48 octets, as SP 800-90A asks."""

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

    def reseed(self, entropy, extra=b""):
        if len(entropy) < 32:
            raise EntropyError("too little entropy input")
        self._update(entropy, extra)

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


def health_check(source=os.urandom):
    """1024 octets of source(n), tested; raises EntropyError when they look stuck.

    Repetition count and adaptive proportion (SP 800-90B §4.4.1, §4.4.2), and one of our own for a
    generator that has lost its noise: the RP2040 shifts its ring oscillator's bit through an 8-bit
    register, which without noise repeats itself every 255 steps at most.
    """
    sample = b"".join([source(32) for _ in range(_SAMPLE // 32)])
    if len(sample) != _SAMPLE:
        raise EntropyError("the random source gave too little")
    last = run = 0
    for octet in sample:
        run = run + 1 if octet == last else 1
        if run >= _RUN_CUTOFF:
            raise EntropyError("the random source repeats one octet")
        last = octet
    for start in range(0, _SAMPLE, _WINDOW):
        if sample[start : start + _WINDOW].count(sample[start : start + 1]) >= _WINDOW_CUTOFF:
            raise EntropyError("the random source prefers one octet")
    if sample.find(sample[:32], 1) >= 0:
        raise EntropyError("the random source repeats itself")
    return sample


def _jitter():
    """64 octets of the time that a little work takes, to the finest clock there is."""
    ticks = getattr(time, "ticks_cpu", None) or getattr(time, "perf_counter_ns", None)
    out = bytearray(64)
    for i in range(len(out)):
        before = ticks()
        sum(range(i))
        out[i] = (ticks() - before ^ before) & 0xFF
    return bytes(out)


def _unique_id():
    try:
        from machine import unique_id

        return unique_id()
    except ImportError:
        return b""


def gather(seed=b""):
    """A generator seeded with tested os.urandom, the stored seed, the chip's id and timing jitter.

    None of these alone decides what comes out. Raises EntropyError when os.urandom is stuck.
    """
    sample = health_check()
    return HmacDrbg(sample + _jitter() + seed, b"handfast mtls" + _unique_id())
