"""HTTP/1.1 requests out of bytes, without IO (RFC 9112).

llhttp (by httptools, strict in everything) reads heads and chunked bodies; this module decides
where each message ends, so that limits are exact to the byte and nothing after the end of one
message is looked at before that message is answered. Whatever two implementations could read
differently is refused: that is what request smuggling lives on (RFC 9112 section 11.2).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import httptools

from handfast.gateway.server.limits import Limits
from handfast.gateway.server.problem import HttpRefusal

Headers = list[tuple[bytes, bytes]]

_REQUEST_LINE = re.compile(rb"([A-Z]+) ([\x21-\x7e]+) HTTP/1\.([01])\r\n")
_OTHER_VERSION = re.compile(rb"[A-Z]+ [\x21-\x7e]+ HTTP/[0-9](\.[0-9])?\r\n")
# host [":" port] of RFC 3986 3.2.2; empty is valid where the target has no authority.
_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)([/?].*)?", re.IGNORECASE)
_METHOD_AND_VERSION_BYTES = 32
_LONGEST_LENGTH = 18


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head.

    Attributes:
        path: percent-decoded.
        raw_path: as it came, without the query.
        query: without its question mark.
        headers: names in lower case, in order; one Host at most.
        http_version: "1.0" or "1.1".
        keep_alive: whether the client would send another request.
        expects_continue: whether the client waits for 100 (Continue) before it sends the body.
        has_body: whether any body follows.
    """

    method: str
    path: str
    raw_path: bytes
    query: bytes
    headers: Headers
    http_version: str
    keep_alive: bool
    expects_continue: bool
    has_body: bool


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of the body."""

    data: bytes


class EndOfMessage:
    """The request is complete."""


END = EndOfMessage()
Event = Request | Data | EndOfMessage


class _State(enum.Enum):
    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    END = enum.auto()
    DONE = enum.auto()


class RequestParser:
    """Give it bytes with :meth:`feed`, take events with :meth:`next_event`.

    After an :class:`EndOfMessage` it gives nothing until :meth:`next_message`, whatever is
    buffered. After an :class:`HttpRefusal` it must not be used again.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = bytearray()
        self._searched = 0
        self._forgave = False
        self._state = _State.HEAD
        self._remaining = 0
        self._chunked: _Chunked | None = None

    def feed(self, data: bytes) -> None:
        """Take bytes; how many is the caller's to bound."""
        self._buffer += data

    @property
    def buffered(self) -> int:
        """Bytes that were fed and are not yet part of an event."""
        return len(self._buffer)

    @property
    def between_messages(self) -> bool:
        """Whether no byte of a next request has come."""
        return self._state is _State.HEAD and not self._buffer and not self._forgave

    @property
    def message_ended(self) -> bool:
        """Whether the current request is complete."""
        return self._state is _State.DONE

    def next_message(self) -> None:
        """Go on with the next request, after the current one has ended."""
        if self._state is not _State.DONE:
            raise RuntimeError("the current request has not ended")
        self._state = _State.HEAD
        self._searched = 0
        self._forgave = False

    def next_event(self) -> Event | None:
        """Return the next event, or ``None`` when more bytes are needed.

        Raises:
            HttpRefusal: the request is malformed, ambiguous or too large.
        """
        if self._state is _State.HEAD:
            return self._head()
        if self._state is _State.LENGTH:
            return self._counted()
        if self._state is _State.CHUNKED:
            return self._decoded()
        if self._state is _State.END:
            self._state = _State.DONE
            return END
        return None

    def _head(self) -> Request | None:
        buffer = self._buffer
        if not self._forgave and buffer.startswith(b"\r"):
            if buffer == b"\r":
                return None
            if buffer.startswith(b"\r\n"):
                del buffer[:2]  # RFC 9112 2.2: one empty line before a request is forgiven
                self._forgave = True
        # What is no method is answered at once: a TLS hello on a plain port, a second empty line.
        if buffer and not 0x41 <= buffer[0] <= 0x5A:
            raise HttpRefusal("bad-request", "The request does not begin with a method.")
        end = buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        self._searched = len(buffer)
        self._check_head_size(end + 4 if end >= 0 else len(buffer))
        if end < 0:
            return None
        head = bytes(buffer[: end + 4])
        del buffer[: end + 4]
        request, chunked, length = _read_head(head, self._limits)
        if chunked is not None:
            self._state, self._chunked = _State.CHUNKED, chunked
        else:
            self._state, self._remaining = (_State.LENGTH if length else _State.END), length
        return request

    def _check_head_size(self, size: int) -> None:
        line_end = self._buffer.find(b"\r\n", 0, size)
        line = line_end if line_end >= 0 else size
        if line > self._limits.max_target_bytes + _METHOD_AND_VERSION_BYTES:
            raise HttpRefusal("target-too-long")
        if size > self._limits.max_header_bytes:
            raise HttpRefusal("headers-too-large")

    def _counted(self) -> Data | None:
        if not self._buffer:
            return None
        data = bytes(self._buffer[: self._remaining])
        del self._buffer[: len(data)]
        self._remaining -= len(data)
        if not self._remaining:
            self._state = _State.END
        return Data(data)

    def _decoded(self) -> Event | None:
        chunked = self._chunked
        if chunked is None:
            raise RuntimeError("no chunked body is being read")
        data = chunked.decode(self._buffer)
        if chunked.complete:
            self._chunked = None
            self._state = _State.END
            if not data:
                return self.next_event()
        return Data(data) if data else None


class _Chunked:
    """The rest of a message with Transfer-Encoding: chunked, read by the parser of its head."""

    def __init__(self, parser: httptools.HttpRequestParser, events: _Collected, most: Limits):
        self._parser = parser
        self._events = events
        self._most_data = most.max_body_bytes
        # Chunk sizes, extensions and trailers are not body, and must not be a way around its bound.
        self._most_framing = most.max_body_bytes + most.max_header_bytes
        self._data_bytes = 0
        self._raw_bytes = 0

    @property
    def complete(self) -> bool:
        return self._events.complete

    def decode(self, buffer: bytearray) -> bytes:
        """Take bytes off ``buffer`` up to the message's end at most; return the body in them."""
        before = len(self._events.body)
        while buffer and not self._events.complete:
            # A message ends at a line feed. Fed up to each of them, the parser never sees a byte
            # of the next message, and where this one ended is known exactly.
            end = buffer.find(b"\n") + 1 or len(buffer)
            piece = bytes(buffer[:end])
            del buffer[:end]
            self._raw_bytes += len(piece)
            self._feed(piece)
        new = self._events.body[before:]
        self._events.body.clear()
        return b"".join(new)

    def _feed(self, piece: bytes) -> None:
        pieces = len(self._events.body)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as error:
            raise HttpRefusal("bad-request", "The chunked body is malformed.") from error
        self._data_bytes += sum(map(len, self._events.body[pieces:]))
        if self._data_bytes > self._most_data:
            raise HttpRefusal("body-too-large")
        if self._raw_bytes - self._data_bytes > self._most_framing:
            raise HttpRefusal("body-too-large", "The chunks' framing is larger than any body.")


class _Collected:
    """What llhttp reports of one message (httptools' callback interface)."""

    def __init__(self) -> None:
        self.headers: Headers = []
        self.headers_complete = False
        self.complete = False
        self.body: list[bytes] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come here too. Nobody asked for any; merged into the head they could forge it.
        if not self.headers_complete:
            self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.headers_complete = True

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.complete = True


def _read_head(head: bytes, limits: Limits) -> tuple[Request, _Chunked | None, int]:
    """Return the request, its chunked body or the length of its plain one."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        if _OTHER_VERSION.match(head):
            raise HttpRefusal("http-version")
        raise HttpRefusal("bad-request", "The request line is malformed.")
    method, target, minor = line.groups()
    if len(target) > limits.max_target_bytes:
        raise HttpRefusal("target-too-long")
    # A parser for each message: nothing of one request can reach the next.
    events = _Collected()
    parser = httptools.HttpRequestParser(events)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        # An offer to change protocols is declined by going on in this one (RFC 9110 7.8). llhttp
        # stops looking at the body then; a counted one is read here anyway, and a chunked one
        # with an Upgrade is refused below.
        pass
    except httptools.HttpParserError as error:
        raise HttpRefusal("bad-request", "The header fields are malformed.") from error
    headers = events.headers
    if not events.headers_complete:
        raise HttpRefusal("bad-request", "The header fields are malformed.")
    if len(headers) > limits.max_headers:
        raise HttpRefusal("headers-too-large")
    version = f"1.{minor.decode()}"
    raw_path, query, authority = _split_target(method, target)
    _check_host(headers, version, authority)
    is_chunked, length = _framing(headers, version)
    if length > limits.max_body_bytes:
        raise HttpRefusal("body-too-large")
    if is_chunked and parser.should_upgrade():
        raise HttpRefusal("unsupported-coding", "An upgrade cannot carry a chunked body.")
    has_body = is_chunked or length > 0
    request = Request(
        method=method.decode("ascii"),
        path=_decode_path(raw_path),
        raw_path=raw_path,
        query=query,
        headers=headers,
        http_version=version,
        keep_alive=_keeps_alive(headers, version),
        expects_continue=_expects_continue(headers, version) and has_body,
        has_body=has_body,
    )
    return request, (_Chunked(parser, events, limits) if is_chunked else None), length


def _split_target(method: bytes, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Return path, query and, of an absolute form, the authority (RFC 9112 3.2)."""
    authority = None
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is not None:
        authority = absolute[1]
        target = absolute[2] or b"/"
        if target.startswith(b"?"):
            target = b"/" + target
    elif not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise HttpRefusal("bad-request", "The request target is neither a path nor a http URL.")
    if b"#" in target:
        raise HttpRefusal("bad-request", "A request target has no fragment.")
    path, _, query = target.partition(b"?")
    return path, query, authority


def _check_host(headers: Headers, version: str, authority: bytes | None) -> None:
    """Demand one valid Host (RFC 9112 3.2); an absolute target's authority replaces it."""
    hosts = [value for name, value in headers if name == b"host"]
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise HttpRefusal("bad-request", "A request has exactly one Host.")
    if not all(_HOST.fullmatch(host) for host in (*hosts, authority or b"")):
        raise HttpRefusal("bad-request", "The Host is malformed.")
    if authority is not None:
        headers[:] = [(n, v) for n, v in headers if n != b"host"] + [(b"host", authority)]


def _framing(headers: Headers, version: str) -> tuple[bool, int]:
    """Return whether the body is chunked, and otherwise its length (RFC 9112 6.3)."""
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    lengths = [value for name, value in headers if name == b"content-length"]
    if codings:
        if lengths or version == "1.0":
            raise HttpRefusal("bad-request", "The length of the body is ambiguous.")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise HttpRefusal("unsupported-coding")
        return True, 0
    if not lengths:
        return False, 0
    # llhttp refused the same before; which of two lengths counts must never be a question.
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]+", lengths[0]):
        raise HttpRefusal("bad-request", "The length of the body is ambiguous.")
    if len(lengths[0]) > _LONGEST_LENGTH:
        raise HttpRefusal("body-too-large")
    return False, int(lengths[0])


def _keeps_alive(headers: Headers, version: str) -> bool:
    options = {
        option.strip().lower()
        for name, value in headers
        if name == b"connection"
        for option in value.split(b",")
    }
    if b"close" in options:
        return False
    return version == "1.1" or b"keep-alive" in options


def _expects_continue(headers: Headers, version: str) -> bool:
    """Tell whether the client waits for 100; HTTP/1.0 has no such answer (RFC 9110 10.1.1)."""
    expectations = [value.lower() for name, value in headers if name == b"expect"]
    if not expectations or version == "1.0":
        return False
    if expectations != [b"100-continue"]:
        raise HttpRefusal("expectation-failed")
    return True


def _decode_path(raw_path: bytes) -> str:
    try:
        return unquote_to_bytes(raw_path).decode("utf-8")
    except UnicodeDecodeError:
        raise HttpRefusal("bad-request", "The path is not UTF-8.") from None
