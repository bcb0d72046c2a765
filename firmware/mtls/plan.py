# Handfast mTLS for MicroPython: when to renew and how long to wait, as pure functions
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

_FLOOR_MS = const(500)
_CEILING_MS = const(60000)
_LEAST_INTERVAL_MS = const(3000)
_BETTER_MOMENT_MS = const(1000)


def renewal_time(not_before, not_after, jitter):
    """Return when to renew (unix seconds): at 2/3 of the life, earlier by up to 1/20 of it.

    `jitter` is 0 to 255, drawn once a leaf, so that a fleet does not renew at one moment.
    """
    life = max(0, not_after - not_before)
    return not_before + life * 2 // 3 - life * (jitter & 255) // (20 * 255)


def renewal_plan(not_before, not_after, now, jitter, suggested=None):
    """Return ("wait", seconds), ("renew", seconds of life left) or ("lost", 0).

    `suggested` is a moment in a window that the gateway suggests (window.py), in place of our own.
    """
    if now >= not_after:
        return "lost", 0
    due = suggested or renewal_time(not_before, not_after, jitter)
    if now >= due:
        return "renew", not_after - now
    return "wait", due - now


def pause_ms(since_ms, busy=False, left_s=0, life_s=0, refused=0, jitter=0):
    """Return the wait before a leaf that is due may be asked for.

    `since_ms` after the last one was issued: lives of a second, or a peer that refuses what was
    just issued, would have a board make keys and write its flash without an end. So after each of
    the leaves that were `refused` in a row it is longer, as after a failure. And while the
    application is `busy` with a response, as long as a tenth of the life is left.
    """
    if busy and left_s * 10 > life_s:
        return _BETTER_MOMENT_MS
    least = _LEAST_INTERVAL_MS
    if refused:
        least = max(least, backoff_ms(refused, left_s, jitter))
    return least - since_ms if 0 <= since_ms < least else 0


def backoff_ms(failures, left_s, jitter, asked_s=0):
    """Return the wait after the n-th failure in a row (n from 1): exponential, half of it jitter.

    Floor and ceiling follow what is left of the leaf's life, so that the attempts spread over it:
    a life of seconds is retried within a second, one of a day not every second. `left_s` is 0
    without a leaf. `asked_s` is the peer's Retry-After: a least wait, but never past half of what
    is left, or who asks for a day would have the leaf end meanwhile.
    """
    floor = _FLOOR_MS
    ceiling = _CEILING_MS
    if left_s > 0:
        floor = min(30000, max(_FLOOR_MS, left_s * 1000 // 512))
        ceiling = min(900000, max(2 * _FLOOR_MS, left_s * 1000 // 8))
        asked_s = min(asked_s, left_s // 2)
    wait = min(ceiling, floor << min(max(failures, 1) - 1, 16))
    return max(_FLOOR_MS, wait // 2 + wait * (jitter & 255) // 510, asked_s * 1000)
