# Handfast mTLS for MicroPython: HTTP/1.1 as bytes in and bytes out, without sockets
# MIT license; Copyright (c) 2026 the Handfast authors
"""RFC 9110 and 9112, the client's half, with hard limits. Runs on MicroPython and CPython."""

from .errors import ProtocolError

try:
    from micropython import const
except ImportError:  # on CPython
    const = int

MAX_BODY_BYTES = 16384
_MAX_LINE_BYTES = const(2048)
_MAX_HEADER_BYTES = const(8192)
_MAX_HEADERS = const(48)
_MAX_INTERIM = const(8)

# What the parser waits for next.
_STATUS = const(0)
_HEADER = const(1)
_BODY = const(2)
_CHUNK_SIZE = const(3)
_CHUNK = const(4)
_CHUNK_END = const(5)
_TRAILER = const(6)
_DONE = const(7)
_UNTIL_CLOSE = const(-1)


def _clean(text):
    text = str(text)
    for char in text:
        if char in "\r\n\0":
            raise ProtocolError("a line break in a request line or header")
    return text


def request_bytes(method, host, target, headers=(), body=None):
    """Return the head of a request, with its body behind it when that is bytes."""
    target = _clean(target)
    if " " in target:
        raise ProtocolError("a blank in a request target: encode it as %20")
    lines = ["%s %s HTTP/1.1" % (_clean(method), target), "Host: " + _clean(host)]
    for name, value in headers:
        lines.append(_clean(name) + ": " + _clean(value))
    if body is not None:
        lines.append("Content-Length: %d" % len(body))
    elif method in ("POST", "PUT", "PATCH"):
        lines.append("Content-Length: 0")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode()
    return head if not body else head + body


def _decimal(text, what):
    if not text or len(text) > 10 or not text.isdigit():
        raise ProtocolError("the response's %s is not a number" % what)
    return int(text)


class ResponseParser:
    """Fed with bytes as they come, in any portions; ``done`` says when the response is whole."""

    def __init__(self, method="GET", max_body_bytes=MAX_BODY_BYTES):
        self.status = 0
        self.reason = ""
        self.headers = {}  # lower-case name -> value; repeated ones joined by ", "
        self.body = bytearray()
        self.keep_alive = False
        self.started = False  # whether a byte of the response has come
        self._method = method
        self._max_body = max_body_bytes
        self._state = _STATUS
        self._line = bytearray()
        self._header_bytes = 0
        self._headers_seen = 0
        self._interim = 0
        self._left = 0
        self._http_10 = False

    @property
    def done(self):
        return self._state == _DONE

    def feed(self, data):
        """Take bytes in; bytes behind the end of the response are a protocol error."""
        data = memoryview(data)
        self.started = True
        at = 0
        end = len(data)
        while at < end:
            if self._state == _DONE:
                raise ProtocolError("bytes behind the end of the response")
            if self._state == _BODY or self._state == _CHUNK:
                at += self._take(data[at:])
            else:
                at = self._take_line(data, at)

    def eof(self):
        """The peer closed: only a response without a length may end so."""
        if self._state == _BODY and self._left == _UNTIL_CLOSE:
            self._state = _DONE
        elif self._state != _DONE:
            raise ProtocolError("the connection closed in the middle of a response")

    # Lines: status, headers, chunk sizes

    def _take_line(self, data, at):
        line = self._line
        end = len(data)
        while at < end:
            byte = data[at]
            at += 1
            if byte == 10:
                if line and line[-1] == 13:
                    line = line[:-1]
                text = _ascii(line)
                self._line = bytearray()
                self._handle_line(text)
                return at
            line.append(byte)
            if len(line) > _MAX_LINE_BYTES:
                raise ProtocolError("a line of the response is too long")
        return at

    def _handle_line(self, text):
        state = self._state
        if state == _STATUS:
            self._status_line(text)
        elif state == _HEADER or state == _TRAILER:
            self._header_bytes += len(text) + 2
            if self._header_bytes > _MAX_HEADER_BYTES:
                raise ProtocolError("the response's headers are too long")
            if text:
                self._header_line(text, state == _HEADER)
            elif state == _TRAILER:
                self._state = _DONE
            else:
                self._headers_end()
        elif state == _CHUNK_SIZE:
            self._chunk_size(text)
        else:  # _CHUNK_END
            if text:
                raise ProtocolError("a chunk of the response is longer than it says")
            self._state = _CHUNK_SIZE

    def _status_line(self, text):
        version, _, rest = text.partition(" ")
        code, _, self.reason = rest.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or len(code) != 3:
            raise ProtocolError("the answer is not HTTP/1.1")
        self.status = _decimal(code, "status")
        if self.status < 100 or self.status == 101:
            raise ProtocolError("the response's status is %d" % self.status)
        self._http_10 = version == "HTTP/1.0"
        self._state = _HEADER

    def _header_line(self, text, keep):
        self._headers_seen += 1
        if self._headers_seen > _MAX_HEADERS:
            raise ProtocolError("the response has too many headers")
        name, colon, value = text.partition(":")
        if not colon or not name or name.strip() != name:
            raise ProtocolError("a header of the response is malformed")
        if not keep:
            return
        name = name.lower()
        value = value.strip()
        if name in self.headers:
            if name == "content-length" and self.headers[name] != value:
                raise ProtocolError("two different Content-Length headers")
            if name != "content-length":
                value = self.headers[name] + ", " + value
        self.headers[name] = value

    def _headers_end(self):
        if self.status < 200:  # 100 Continue and its like: the real response follows
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise ProtocolError("too many interim responses")
            self.headers = {}
            self._state = _STATUS
            return
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = "close" not in connection and (
            not self._http_10 or "keep-alive" in connection
        )
        encoding = self.headers.get("transfer-encoding")
        length = self.headers.get("content-length")
        if self._method == "HEAD" or self.status in (204, 304):
            self._state = _DONE
        elif encoding is not None:
            if encoding.lower() != "chunked" or length is not None or self._http_10:
                raise ProtocolError("the response's Transfer-Encoding is not plain chunked")
            self._state = _CHUNK_SIZE
        elif length is not None:
            self._left = _decimal(length, "Content-Length")
            if self._left > self._max_body:
                raise ProtocolError("the response's body is longer than %d" % self._max_body)
            self._state = _BODY if self._left else _DONE
        else:
            self._left = _UNTIL_CLOSE
            self.keep_alive = False
            self._state = _BODY

    def _chunk_size(self, text):
        size = text.partition(";")[0].strip()
        if not 0 < len(size) <= 8:
            raise ProtocolError("a chunk size of the response is malformed")
        self._left = 0
        for char in size.lower():
            digit = "0123456789abcdef".find(char)
            if digit < 0:
                raise ProtocolError("a chunk size of the response is malformed")
            self._left = self._left * 16 + digit
        self._state = _CHUNK if self._left else _TRAILER

    # Bytes of the body

    def _take(self, data):
        n = len(data)
        if self._left != _UNTIL_CLOSE and n > self._left:
            n = self._left
        if len(self.body) + n > self._max_body:
            raise ProtocolError("the response's body is longer than %d" % self._max_body)
        self.body.extend(data[:n])
        if self._left != _UNTIL_CLOSE:
            self._left -= n
            if not self._left:
                self._state = _DONE if self._state == _BODY else _CHUNK_END
        return n


def _ascii(line):
    for byte in line:
        if byte > 126 or (byte < 32 and byte != 9):
            raise ProtocolError("a line of the response holds bytes that are not text")
    return bytes(line).decode()
