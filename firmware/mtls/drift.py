# Handfast mTLS for MicroPython: how fast a board's clock is, and for how long it can be left alone
# MIT license; Copyright (c) 2026 the Handfast authors
"""Loaded when signed time has set the clock, and unloaded again. Pure, but for the ticks' wrap."""

import time

# Signed time is in whole seconds, and ms ticks wrap after 12 days: from an hour to five days.
_LEAST_S = 3600
_MOST_S = 432000
_TOLERATED_MS = 30000


def drift_ppm(signed_s, ticks_ms):
    """Parts per million that a board is fast (or, below 0, slow); None where that cannot be said.

    signed_s seconds went by between two signed times, and ticks_ms on the board. An hour tells it
    to 300 ppm or so, the 16 hours between two renewals to 20.
    """
    if not _LEAST_S <= signed_s <= _MOST_S:
        return None
    return (ticks_ms - signed_s * 1000) * 1000 // signed_s


def trusted_ms(drift):
    """For how long a clock just set is off by less than half a minute.

    Without a measured drift: for an hour, after which there will be one.
    """
    if drift is None:
        return _LEAST_S * 1000
    return min(_MOST_S * 1000, _TOLERATED_MS * 1000000 // max(1, abs(drift)))


def measure(signed, ticks, drift, measured_from):
    """Return (drift in ppm or None, (signed time, ticks) to measure from, ms until doubtful).

    Given the signed time that sets the clock, the ticks then, and the first two of what the last
    call returned.
    """
    if measured_from is not None:
        signed_s = signed - measured_from[0]
        now = drift_ppm(signed_s, time.ticks_diff(ticks, measured_from[1]))
        if now is None and 0 <= signed_s < _LEAST_S:
            return drift, measured_from, trusted_ms(drift)  # too soon: it goes on
        drift = drift if now is None else now
    return drift, (signed, ticks), trusted_ms(drift)
