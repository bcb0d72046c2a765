# Handfast mTLS for MicroPython: which modules stay in the heap, and which are let go of
# MIT license; Copyright (c) 2026 the Handfast authors

from gc import collect
from sys import modules, platform

from micropython import const

_BUFFER_BYTES = const(16384)
_TLS_BYTES = const(49152)

# Needed once a boot or once in a leaf's life, and for no call; and what few boards ever need.
VISITORS = (
    "anchors",
    "cacerts",
    "config",
    "csrattrs",
    "custody",
    "der",
    "ds3231",
    "enrolment",
    "entropy",
    "est",
    "failure",
    "keys",
    "loading",
    "ntp",
    "p256",
    "_p256_table",
    "pkcs7",
    "problem",
    "provision",
    "retry",
    "rollover",
    "room",
    "secrets",
    "status",
    "timesync",
    "tsp",
    "window",
    "witness",
    "x509",
)


def make_room():
    """Let go of the modules that are needed only now and then: TLS takes half of a board's heap.

    They hold no state. The next import reads them again.
    """
    package = modules["mtls"]
    loaded = package.__dict__  # asking `modules` costs a new string each
    for name in VISITORS:
        if name in loaded:
            delattr(package, name)
            del modules["mtls." + name]
    collect()


def fill_holes(free):
    """Return a generator: each `next` fills the heap's holes below mbedTLS's buffers, and it holds
    what they are filled with. `free`: bytes of heap, of which it takes some that TLS can spare.

    mbedTLS asks for some 2,000 pieces a handshake, and MicroPython looks for each from the first
    hole on, across all that lives, the 17 KB of the record buffer among it. With the holes filled
    that are below, and those that have come up meanwhile, a handshake takes a quarter fewer
    instructions.

    Nothing is filled on an ESP32, whose mbedTLS has a heap of its own.
    """
    most = 0 if platform == "esp32" else free - _TLS_BYTES >> 7
    chain = [most]  # what is allocated first is where the first hole is
    at = id(chain)
    top = 0  # where to stop, once mbedTLS's buffers are seen
    while True:
        while most < 1:
            yield
        if top and at >= top:
            yield
        before = at
        chain = (chain,)
        at = id(chain)
        most -= 1
        if at - before > _BUFFER_BYTES:
            top = at
