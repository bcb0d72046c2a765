# Handfast mTLS for MicroPython: room in the heap for a TLS session, and whether there is enough
# MIT license; Copyright (c) 2026 the Handfast authors
"""mbedTLS takes its record buffer in one piece, and says what it likes of heap that it cannot have:
of a signature that it had no room to check, that it is wrong. So the agent looks before.

What a full handshake with a client certificate takes, in bytes (docs/reference/heap.md):

- boards that give mbedTLS the collected heap (Pico W): 40 KB measured on sim-pico-w, where objects
  are of 64 bits and 34 KB end in "not correctly signed"; 27 KB of mbedTLS's own on a Cortex-M3;
- ESP32, which gives it the C heap: 9 KB of the collected heap measured on sim-esp32, and those
  27 KB of the C heap.
"""

import gc
import sys

from micropython import const

from .errors import OutOfMemory

PIECE_BYTES = const(17000)  # a record of 16 KB, its header, IV and MAC
_TLS_BYTES = const(28672)
_WIDE = sys.maxsize > 1 << 32  # the simulator

RESIDENTS = "errors plan heap http url store tls call client drbg clock agent".split()
# Needed once a boot or once in a leaf's life, and for no call; and what few boards ever need.
VISITORS = (
    "config entropy timesync tsp x509 der pkcs7 est cacerts rollover keys p256 _p256_table".split()
)
STRANGERS = "anchors csrattrs ntp problem provision retry witness".split()


def make_room():
    """Let go of the modules that are needed only now and then: TLS takes half of a board's heap.

    They hold no state. The next import reads them again.
    """
    package = sys.modules["mtls"]
    for name in VISITORS + STRANGERS:
        if sys.modules.pop("mtls." + name, None):
            delattr(package, name)
    gc.collect()


def needed():
    """Return how many bytes of the collected heap a TLS session takes."""
    if sys.platform == "esp32":
        return 14336 if _WIDE else 8192
    return 43008 if _WIDE else 34816


def room():
    """Return (free bytes of the collected heap, whether a TLS session fits)."""
    make_room()
    free = gc.mem_free()
    if free < needed():
        return free, False
    if sys.platform == "esp32":
        return free, _room_of_c()
    try:
        bytearray(PIECE_BYTES)
    except MemoryError:
        return free, False
    return free, True


def _room_of_c():
    try:
        from esp32 import HEAP_DATA, idf_heap_info
    except ImportError:
        return True  # the simulator's C heap is the host's
    # (size, free, largest free piece, least free so far) of each region
    regions = idf_heap_info(HEAP_DATA)
    enough = sum([region[1] for region in regions]) >= _TLS_BYTES
    return enough and max([region[2] for region in regions]) >= PIECE_BYTES


def require():
    """Raise OutOfMemory unless a TLS session fits."""
    free, fits = room()
    if not fits:
        raise OutOfMemory(
            "a TLS session needs %d bytes of heap, %d of them in one piece; %d are free"
            % (needed(), PIECE_BYTES, free)
        )
