# Handfast mTLS for MicroPython: reads the library into a heap that is still in one piece
# MIT license; Copyright (c) 2026 the Handfast authors

from gc import collect
from sys import modules

from micropython import opt_level

RESIDENTS = (
    "errors",
    "plan",
    "heap",
    "http",
    "url",
    "identity",
    "store",
    "tls",
    "call",
    "client",
    "drbg",
    "utc",
    "drift",
    "clock",
    "timekeeping",
    "proof",
    "issuance",
    "agent",
)
# MicroPython looks through the filesystem for each of these whenever one is imported.
_BUILT_IN = ("binascii", "hashlib", "json", "machine", "os", "time")


def preload(*more):
    """Import what stays, and `more`, one module at a time into a swept heap.

    mbedTLS wants 17 KB in one piece, and modules compiled in between would stand in its way.
    """
    for name in _BUILT_IN:
        modules[name] = __import__(name)
    level = opt_level()
    opt_level(3)  # as manifest.py freezes it: no line numbers, 4 KB more of free heap
    try:
        for name in RESIDENTS + more:
            collect()
            __import__("mtls." + name)
    finally:
        opt_level(level)
    collect()
