# Handfast mTLS for MicroPython: how fast a board's clock is, and for how long it can be left alone
# MIT license; Copyright (c) 2026 the Handfast authors
"""Loaded when signed time has set the clock, and let go of before the next TLS session. Pure."""

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


def measure(signed_s, ticks_ms, drift):
    """Return (drift in ppm or None, whether to measure anew from here, ms until doubtful).

    Given the seconds and ticks since the measurement began, and the drift known so far.
    """
    now = drift_ppm(signed_s, ticks_ms)
    too_soon = now is None and 0 <= signed_s < _LEAST_S
    drift = drift if now is None else now
    return drift, not too_soon, trusted_ms(drift)
