# Handfast mTLS for MicroPython: how long to wait before a request is sent again
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

from .utc import to_unix

_BASE_MS = const(500)
_CEILING_MS = const(30000)
_PENDING_S = const(60)  # of a server that does not say when
_FURTHEST_S = const(86400)  # nobody waits longer within one request
_MONTHS = const("JanFebMarAprMayJunJulAugSepOctNovDec")


def backoff_ms(failures, octets):
    """Return the wait after the n-th failure (n from 1): exponential, all of it chance.

    Full jitter, since what refused one board refused its fleet at the same moment. `octets` are
    two random bytes.
    """
    ceiling = min(_CEILING_MS, _BASE_MS << min(failures - 1, 6))
    return ceiling * (octets[0] << 8 | octets[1]) // 0xFFFF


def wait_ms(failures, octets, retry_after, now):
    """Return the wait after the n-th failure, to which Retry-After adds what it asks for."""
    asked = 0 if retry_after is None else retry_after_ms(retry_after, now)
    return asked + backoff_ms(failures, octets)


def retry_after_ms(text, now):
    """Return what a Retry-After header asks for (RFC 9110 10.2.3), 0 if it makes no sense.

    `now` is in Unix seconds, for the header's other form, a date.
    """
    text = text.strip()
    if text.isdigit():
        seconds = int(text[:10])
    else:
        seconds = _http_date(text) - now
    return 1000 * max(0, min(seconds, _FURTHEST_S))


def pending(detail, headers, now):
    """Return the Pending that a 202 stands for, with the wait that its Retry-After asks for."""
    from .errors import Pending

    error = Pending(detail)
    asked_ms = retry_after_ms(headers.get("retry-after", ""), now)
    error.retry_after_s = asked_ms // 1000 or _PENDING_S
    return error


def _http_date(text):
    """Return Unix seconds of "Sun, 06 Nov 1994 08:49:37 GMT", 0 for anything else."""
    words = text.split()
    try:
        _, day, month, year, clock, zone = words
        hour, minute, second = [int(part) for part in clock.split(":")]
        index = _MONTHS.find(month)
        if zone != "GMT" or len(month) != 3 or index < 0 or index % 3:
            return 0
        return to_unix(int(year), index // 3 + 1, int(day), hour, minute, second)
    except ValueError:
        return 0
