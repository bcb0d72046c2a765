# Handfast mTLS for MicroPython: the board's random source, tested, and a generator seeded from it
# MIT license; Copyright (c) 2026 the Handfast authors

import os
import time

from micropython import const

from .drbg import HmacDrbg
from .errors import EntropyError


# Health test over raw os.urandom (SP 800-90B §4.4), assessed at no more than 2 bits an octet and a
# false alarm once in 2^30: 1 + ceil(30 / 2) equal octets in a row, or 190 of 512 equal to the
# first, mean that the source is stuck. tests/firmware computes the second cutoff again.
_SAMPLE = const(1024)
_WINDOW = const(512)
_RUN_CUTOFF = const(16)
_WINDOW_CUTOFF = const(190)


def health_check(source=os.urandom):
    """1024 octets of source(n), tested; raises EntropyError when they look stuck.

    Repetition count and adaptive proportion (SP 800-90B §4.4.1, §4.4.2), and one of our own for a
    generator that has lost its noise: the RP2040 shifts its ring oscillator's bit through an 8-bit
    register, which without noise repeats itself every 255 steps at most.
    """
    sample = b"".join([source(32) for _ in range(_SAMPLE // 32)])
    if len(sample) != _SAMPLE:
        raise EntropyError("the random source gave too little")
    # A run that long covers one of every 16 octets, and a neighbour of it.
    for i in range(_RUN_CUTOFF - 1, _SAMPLE, _RUN_CUTOFF):
        octet = sample[i]
        if octet == sample[i - 1] or octet == sample[i + 1 - _SAMPLE]:
            if bytes((octet,)) * _RUN_CUTOFF in sample:
                raise EntropyError("the random source repeats one octet")
    for start in range(0, _SAMPLE, _WINDOW):
        if sample.count(sample[start : start + 1], start, start + _WINDOW) >= _WINDOW_CUTOFF:
            raise EntropyError("the random source prefers one octet")
    if sample.find(sample[:32], 1) >= 0:
        raise EntropyError("the random source repeats itself")
    return sample


def _jitter():
    """64 octets of the time that a little work takes, to the finest clock there is."""
    ticks = time.ticks_cpu
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
