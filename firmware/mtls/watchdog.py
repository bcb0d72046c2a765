# Handfast mTLS for MicroPython: a watchdog that is fed only while progress is made
# MIT license; Copyright (c) 2026 the Handfast authors
"""Imported only where config.json has a `watchdog_s`. The chip's watchdog wants food every few
seconds, and a handshake takes longer: a timer feeds it, for as long as the application has got
something done lately. A program that hangs, in Python or in C, is reset within seconds; one that
runs and gets nowhere, after `patience_s`.

MicroPython 1.25.0, library/machine.WDT: rp2's timeout is 8388 ms at most, and nothing stops it.
"""

import time

from machine import WDT, Timer
from micropython import const

_TIMEOUT_MS = const(8000)
_FEED_MS = const(1000)


def may_feed(since_ms, patience_s):
    """Whether progress that was made `since_ms` ago is recent enough."""
    return 0 <= since_ms < patience_s * 1000


class Watchdog:
    """From its making on, `progress()` must be called at least every `patience_s`."""

    def __init__(self, patience_s):
        self._patience_s = patience_s
        self.progress()
        self._wdt = WDT(timeout=_TIMEOUT_MS)
        try:
            self._timer = Timer(-1)
        except ValueError:  # the ESP32 port's are numbered
            self._timer = Timer(0)
        self._timer.init(period=_FEED_MS, mode=Timer.PERIODIC, callback=self._tick)

    def progress(self):
        """Say that something was achieved: a report was taken, a certificate renewed."""
        self._at = time.ticks_ms()

    def _tick(self, _timer):
        if may_feed(time.ticks_diff(time.ticks_ms(), self._at), self._patience_s):
            self._wdt.feed()
