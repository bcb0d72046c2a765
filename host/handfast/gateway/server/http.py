"""HTTP/1.1 without IO: bytes in, whole requests out, every bound enforced on the way (RFC 9112)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote

import httptools

from handfast.gateway.server.limits import Limits

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_PROBLEM = "urn:handfast:error:"
_SINGLE = (b"host", b"content-length", b"transfer-encoding", b"content-type", b"authorization")


class Malformed(Exception):
    """The peer broke a rule or a bound; ``status`` is the answer, and the connection ends."""

    def __init__(self, status: int, slug: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail


@dataclass(slots=True)
class Request:
    """One whole request; header names are lower case, as ASGI wants them."""

    method: str = ""
    target: bytes = b""
    version: str = "1.1"
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    keep_alive: bool = True

    @property
    def raw_path(self) -> bytes:
        """The path as it came, without the query."""
        return self.target.partition(b"?")[0]

    @property
    def path(self) -> str:
        """The path, percent-decoded."""
        return unquote(self.raw_path.decode("ascii"), errors="strict")

    @property
    def query(self) -> bytes:
        """What follows the question mark."""
        return self.target.partition(b"?")[2]


class RequestParser:
    """Feed it bytes; take whole requests from ``complete``.

    ``in_header`` and ``in_body`` say where the unfinished request stands, for deadlines;
    ``wants_continue`` that the peer waits for ``100 Continue``.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._header_bytes = 0
        self._problem: Malformed | None = None
        self.complete: deque[Request] = deque()
        self.begun = False
        self.in_body = False
        self.wants_continue = False

    def feed(self, data: bytes) -> None:
        """Take what the peer sent.

        Raises:
            Malformed: nothing more can be read from this peer.
        """
        if not self.in_body:
            self._header_bytes += len(data)  # an unended header counts before it is parsed
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise Malformed(400, "bad-request", "protocol upgrades are not served") from None
        except httptools.HttpParserError as error:
            raise self._problem or Malformed(400, "bad-request", "not HTTP/1.1") from error
        if self.begun and not self.in_body and self._header_bytes > self._limits.max_header_bytes:
            raise Malformed(431, "headers-too-large", "the header is too large")

    # httptools' callbacks; an exception in one ends the parsing.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._request = Request()
        self.begun = True
        self.in_body = False

    def on_url(self, url: bytes) -> None:
        """Take (a part of) the target."""
        self._request.target += url
        if len(self._request.target) > self._limits.max_target_bytes:
            self._refuse(414, "bad-request", "the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field."""
        headers = self._request.headers
        lowered = name.lower()
        if len(headers) >= self._limits.max_headers:
            self._refuse(431, "headers-too-large", "too many header fields")
        if lowered in _SINGLE and any(known == lowered for known, _ in headers):
            self._refuse(400, "bad-request", f"{lowered.decode()} stands twice")
        headers.append((lowered, value))

    def on_headers_complete(self) -> None:
        """Judge the header before a byte of the body is read."""
        request = self._request
        request.method = self._parser.get_method().decode("ascii")
        request.version = self._parser.get_http_version()
        request.keep_alive = self._parser.should_keep_alive()
        fields = dict(request.headers)
        self._check_target(request)
        if request.version not in ("1.0", "1.1"):
            self._refuse(505, "bad-request", "HTTP/1.1 is served here")
        if request.version == "1.1" and b"host" not in fields:
            self._refuse(400, "bad-request", "no Host field")
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (
            coding.lower() != b"chunked" or b"content-length" in fields or request.version == "1.0"
        ):
            self._refuse(400, "bad-request", "the body's length is not clear")
        length = fields.get(b"content-length", b"0")
        if not length.isdigit():
            self._refuse(400, "bad-request", "Content-Length is not a number")
        if int(length) > self._limits.max_body_bytes:
            self._refuse(413, "body-too-large", "the body is too large")
        self._header_bytes = 0
        self.in_body = True
        self.wants_continue = fields.get(b"expect", b"").lower() == b"100-continue"

    def _check_target(self, request: Request) -> None:
        try:
            valid = request.target.startswith(b"/") and bool(request.path.isprintable())
        except (UnicodeDecodeError, ValueError):
            valid = False
        if not valid:
            self._refuse(400, "bad-request", "the request target is not a path")

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if len(self._request.body) + len(body) > self._limits.max_body_bytes:
            self._refuse(413, "body-too-large", "the body is too large")
        self._request.body += body

    def on_message_complete(self) -> None:
        """The request is whole."""
        self.complete.append(self._request)
        self.begun = self.in_body = self.wants_continue = False
        self._header_bytes = 0

    def _refuse(self, status: int, slug: str, detail: str) -> None:
        self._problem = Malformed(status, slug, detail)
        raise self._problem


def problem(status: int, slug: str, detail: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return header fields and body of an RFC 9457 problem document."""
    document = {
        "type": _PROBLEM + slug,
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    return [(b"content-type", b"application/problem+json")], json.dumps(document).encode()


def response_head(
    status: int, headers: Iterable[tuple[bytes, bytes]], *, keep_alive: bool
) -> bytes:
    """Return status line and header; ``headers`` come from our own application."""
    lines = [b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%s: %s\r\n" % pair for pair in headers]
    lines.append(b"" if keep_alive else b"connection: close\r\n")
    return b"".join(lines) + b"\r\n"
