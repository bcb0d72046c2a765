# Handfast mTLS for MicroPython: whether there is heap enough for a TLS session
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
from .heap import make_room

PIECE_BYTES = const(17000)  # a record of 16 KB, its header, IV and MAC
_TLS_BYTES = const(28672)
# On top of it, for holes: below that, mbedTLS's word about a signature may not mean what it says.
DOUBT_BYTES = const(6000)
_WIDE = sys.maxsize > 1 << 32  # the simulator


def needed():
    """Return how many bytes of the collected heap a TLS session takes."""
    if sys.platform == "esp32":
        return 14336 if _WIDE else 8192
    return 44000 if _WIDE else 34000


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


def require(more=0):
    """Raise OutOfMemory unless a TLS session fits, and `more` bytes beside it."""
    free, fits = room()
    if not fits or free < needed() + more:
        raise OutOfMemory(
            "a TLS session needs %d bytes of heap, %d of them in one piece; %d are free"
            % (needed() + more, PIECE_BYTES, free)
        )
