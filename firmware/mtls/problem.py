# Handfast mTLS for MicroPython: problem documents, in which a server says why not (RFC 9457)
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

from .errors import ProtocolError, Refused
from .retry import retry_after_ms
from .utc import now

_TYPE = const("application/problem+json")
_MAX_MEMBER_CHARS = const(256)


def refusal(response):
    """Return the Refused that a response of 400 and above stands for."""
    problem = {}
    if response.headers.get("content-type", "").startswith(_TYPE):
        try:
            problem = response.json()
        except ProtocolError:
            pass  # the status alone says enough
    if not isinstance(problem, dict):
        problem = {}
    detail = _line(problem.get("detail")) or _line(problem.get("title")) or response.reason
    refused = Refused(response.status_code, _line(problem.get("type")), detail)
    asked = response.headers.get("retry-after", "")
    refused.retry_after_s = retry_after_ms(asked, now()) // 1000
    return refused


def _line(value):
    """Return a member if it is text of a sensible length, else None."""
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_MEMBER_CHARS else None
