# Handfast mTLS for MicroPython: when to renew and how long to wait, as pure functions
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

_FLOOR_MS = const(500)
_CEILING_MS = const(60000)


def renewal_time(not_before, not_after, jitter):
    """Return when to renew (unix seconds): at 2/3 of the life, earlier by up to 1/20 of it.

    `jitter` is 0 to 255, drawn once a leaf, so that a fleet does not renew at one moment.
    """
    life = max(0, not_after - not_before)
    return not_before + life * 2 // 3 - life * (jitter & 255) // (20 * 255)


def renewal_plan(not_before, not_after, now, jitter):
    """Return ("wait", seconds), ("renew", seconds of life left) or ("lost", 0)."""
    if now >= not_after:
        return "lost", 0
    due = renewal_time(not_before, not_after, jitter)
    if now >= due:
        return "renew", not_after - now
    return "wait", due - now


def backoff_ms(failures, left_s, jitter):
    """Return the wait after the n-th failure in a row (n from 1): exponential, half of it jitter.

    Floor and ceiling follow what is left of the leaf's life, so that the attempts spread over it:
    a life of seconds is retried within a second, one of a day not every second. `left_s` is 0
    without a leaf.
    """
    floor = _FLOOR_MS
    ceiling = _CEILING_MS
    if left_s > 0:
        floor = min(30000, max(_FLOOR_MS, left_s * 1000 // 512))
        ceiling = min(900000, max(2 * _FLOOR_MS, left_s * 1000 // 8))
    wait = min(ceiling, floor << min(max(failures, 1) - 1, 16))
    return max(_FLOOR_MS, wait // 2 + wait * (jitter & 255) // 510)
