"""HTTP/1.1 responses into bytes, without IO (RFC 9112)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from email.utils import formatdate
from http import HTTPStatus

from handfast.gateway.server.problem import HttpRefusal

_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# A line feed in a value would let whoever controls it write header fields (RFC 9110 5.5).
_BAD_IN_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
# Framing and the connection's fate are the server's to say.
_OURS = {b"connection", b"transfer-encoding", b"keep-alive"}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class InvalidResponse(Exception):
    """The application sent what no HTTP response can be made of."""


class ResponseWriter:
    """One response: :meth:`start`, then :meth:`body` until it is complete.

    The head goes out with the first piece of the body, in one TLS record.

    Args:
        method: of the request; HEAD is answered without a body.
        http_version: of the request; 1.0 gets no chunks.

    Attributes:
        keep_alive: whether the connection can carry another request after this response.
        complete: whether nothing of it is left to send.
        truncated: complete, yet shorter than its Content-Length said.
    """

    def __init__(self, *, method: str, http_version: str) -> None:
        self._is_head = method == "HEAD"
        self._is_1_0 = http_version == "1.0"
        self._head: bytes | None = None
        self._chunked = False
        self._has_body = True
        self._length: int | None = None
        self._written = 0
        self.status: int | None = None
        self.keep_alive = False
        self.complete = False
        self.truncated = False

    @property
    def started(self) -> bool:
        """Whether :meth:`start` was called."""
        return self.status is not None

    def start(
        self, status: int, headers: Iterable[tuple[bytes, bytes]], *, keep_alive: bool
    ) -> None:
        """Compose the head.

        Raises:
            InvalidResponse: a second start, a status or header that cannot go on the wire.
        """
        if self.started:
            raise InvalidResponse("the response was started already")
        if not 200 <= status <= 599:
            raise InvalidResponse(f"{status} is not a final status")
        fields, closes = self._checked(headers)
        self.status = status
        self._has_body = not self._is_head and status not in (204, 304)
        keep_alive = keep_alive and not closes
        if self._has_body and self._length is None:
            if self._is_1_0:
                keep_alive = False  # only the end of the connection ends such a body
            else:
                self._chunked = True
                fields.append((b"transfer-encoding", b"chunked"))
        if not any(name == b"date" for name, _ in fields):
            fields.append((b"date", _http_date()))
        if not keep_alive:
            fields.append((b"connection", b"close"))
        elif self._is_1_0:
            fields.append((b"connection", b"keep-alive"))
        self.keep_alive = keep_alive
        phrase = _PHRASES.get(status, "")
        version = "1.1"
        if self._is_1_0:
            # EST clients exist that read no other version, and names only as RFCs spell them
            # (libest); RFC 9110 2.5 allows us the lower version.
            version = "1.0"
            fields = [(_as_in_rfcs(name), value) for name, value in fields]
        lines = [f"HTTP/{version} {status} {phrase}\r\n".encode("ascii")]
        lines += [b"%b: %b\r\n" % field for field in fields]
        self._head = b"".join([*lines, b"\r\n"])

    def body(self, data: bytes, *, more: bool) -> bytes:
        """Return the bytes that go out for this piece of the body.

        Raises:
            InvalidResponse: before the start, after the end, or beyond the Content-Length.
        """
        if not self.started or self.complete:
            raise InvalidResponse("a body comes after the start and before the end")
        head, self._head = self._head or b"", None
        self._written += len(data)
        if self._has_body and self._length is not None:
            if self._written > self._length:
                raise InvalidResponse("the body is longer than its Content-Length")
            self.truncated = not more and self._written < self._length
        self.complete = not more
        if not self._has_body:
            return head
        if not self._chunked:
            return head + data
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return head + chunk + (b"" if more else b"0\r\n\r\n")

    def _checked(
        self, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[list[tuple[bytes, bytes]], bool]:
        """Return the fields that go out, and whether the application wants to close."""
        fields = []
        closes = False
        for name, value in headers:
            lowered, stripped = bytes(name).lower(), bytes(value).strip(b" \t")
            if not _TOKEN.fullmatch(lowered) or _BAD_IN_VALUE.search(stripped):
                raise InvalidResponse("a header field has a character that is not allowed in it")
            if lowered == b"content-length":
                if self._length is not None or not re.fullmatch(rb"[0-9]{1,18}", stripped):
                    raise InvalidResponse("the Content-Length is not one number")
                self._length = int(stripped)
            if lowered == b"connection":
                closes = closes or b"close" in stripped.lower()
            if lowered not in _OURS:
                fields.append((lowered, stripped))
        return fields, closes


def refusal_bytes(refusal: HttpRefusal, *, method: str = "GET") -> bytes:
    """Return a whole response that refuses a request and closes the connection."""
    writer = ResponseWriter(method=method, http_version="1.1")
    document = refusal.document()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(document)).encode()),
        (b"cache-control", b"no-store"),
    ]
    writer.start(refusal.status, headers, keep_alive=False)
    return writer.body(document, more=False)


def _as_in_rfcs(name: bytes) -> bytes:
    if name == b"www-authenticate":
        return b"WWW-Authenticate"
    return b"-".join(word.capitalize() for word in name.split(b"-"))


_date_cache: tuple[int, bytes] = (0, b"")


def _http_date() -> bytes:
    global _date_cache
    now = int(time.time())
    if _date_cache[0] != now:
        _date_cache = (now, formatdate(now, usegmt=True).encode("ascii"))
    return _date_cache[1]
