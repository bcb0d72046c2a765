# Handfast mTLS for MicroPython: one request, and what follows from each of its outcomes
# MIT license; Copyright (c) 2026 the Handfast authors
"""Decides without IO, for the blocking Session and for asyncio's: send again, go elsewhere, or
leave it at that. A `session` has the chance, the time and the origin: octets(), now(), authority.
"""

from micropython import const

from .http import request_head

_IDEMPOTENT = const(("GET", "HEAD", "PUT", "DELETE", "OPTIONS"))
_JOINED_BYTES = const(512)  # a body up to here travels in one TLS record with its head
_OCTETS = (bytes, bytearray, memoryview)


class Call:
    """`body` is None, bytes, or an Upload; `idempotent` of None goes by the method; `retries` and
    `redirects` say how many there may be."""

    stream = False
    sent = False  # whether the peer may have seen a byte of it
    asking = False  # whether the application is asked for more of its data
    failures = 0
    _renewed = False  # whether it went out once more because its connection was stale

    def __init__(self, method, target, headers, body, idempotent, retries, redirects):
        self.method = method
        self.target = target
        self.headers = headers
        self.body = body
        self.idempotent = method in _IDEMPOTENT if idempotent is None else idempotent
        self.retries = retries
        self.redirects = redirects

    def pieces(self, authority):
        """Return what to send, piece by piece."""
        body = self.body
        plain = isinstance(body, _OCTETS)
        length = None if body is None else len(body) if plain else body.length
        head = request_head(self.method, authority, self.target, self.headers, length)
        if not length:
            return (head,)
        if not plain:
            return body.pieces(head)
        return (head + body,) if length <= _JOINED_BYTES else (head, body)

    def repeatable(self):
        body = self.body
        return body is None or isinstance(body, _OCTETS) or body.rewind()

    def after_failure(self, stale, session):
        """Return ms to wait before it is sent again, None if it is not.

        `stale`: the peer had closed the connection meanwhile, which is no failure of this request.
        """
        if self.asking or (self.sent and not self.idempotent) or not self.repeatable():
            return None
        if stale and not self._renewed:
            self._renewed = True
            return 0
        return self._retry(None, session)

    def after_response(self, status, headers, session):
        """Return ms to wait before the next try, None if this response is the answer."""
        if status in (301, 302, 303, 307, 308):
            location = headers.get("location")
            if location is None or self.redirects is None:
                return None
            from .redirect import follow

            follow(self, status, location, session.authority)
            return 0
        # 429 says that nothing was done, and a 503 that names a time invites whoever was refused to
        # come again (RFC 9110 10.2.3). Otherwise the server may have done it (9.2.2).
        invited = status == 429 or (status == 503 and "retry-after" in headers)
        if invited or (self.idempotent and status in (502, 503, 504)):
            return self._retry(headers.get("retry-after"), session)
        return None

    def _retry(self, retry_after, session):
        if self.failures >= self.retries or not self.repeatable():
            return None
        from .retry import wait_ms

        self.failures += 1
        return wait_ms(self.failures, session.octets(), retry_after, session.now())
