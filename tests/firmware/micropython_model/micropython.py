"""What the device library's pure modules need of `micropython` when they run on CPython.

Each imports it, so that `time` has what it has on a board.
"""

import time

time.ticks_ms = lambda: time.monotonic_ns() // 1_000_000
time.ticks_diff = lambda later, earlier: later - earlier
time.ticks_add = lambda ticks, ms: ticks + ms
time.ticks_cpu = time.perf_counter_ns


def const(value):
    """On a board the compiler puts the value where the name stands."""
    return value
