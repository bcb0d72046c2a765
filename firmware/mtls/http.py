# Handfast mTLS for MicroPython: HTTP/1.1 as bytes in and bytes out, without sockets
# MIT license; Copyright (c) 2026 the Handfast authors
"""RFC 9110 and 9112, the client's half, with hard limits. Runs on MicroPython and CPython.

Memory is constant: a body is handed on in the portions that the caller has room for, and a head
is kept as the bytes that it is, since a keep-alive request is to leave hardly any garbage behind.
"""

from micropython import const

from .errors import ProtocolError

MAX_BODY_BYTES = 16384
CHUNKED = -1  # the length of a body that nobody knows beforehand
_BUFFER_BYTES = const(512)
_MAX_LINE_BYTES = const(2048)
_MAX_HEADER_BYTES = const(8192)
_MAX_HEADERS = const(48)
_MAX_INTERIM = const(8)
_NOT_IN_TARGETS = const("\r\n\0 ")
_NOT_IN_NAMES = const("\r\n\0 \t:")
_OWN_HEADERS = const(("", "host", "content-length", "transfer-encoding"))

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


def _clean(text, forbidden="\r\n\0"):
    for char in text:
        if char in forbidden:
            raise ProtocolError("a request line or header with %r in it" % char)
    return text


def request_head(method, host, target, headers=(), length=None):
    """Return the head of a request; `length` of its body is CHUNKED, a number, or None for none."""
    lines = ""
    for name, value in headers.items() if hasattr(headers, "items") else headers:
        if _clean(name, _NOT_IN_NAMES).lower() in _OWN_HEADERS:
            raise ProtocolError("%r is a header that the library sets itself" % name)
        if isinstance(value, bytes):
            value = value.decode()
        if value is not None:
            lines += "%s: %s\r\n" % (name, _clean(str(value)))
    if length == CHUNKED:
        lines += "Transfer-Encoding: chunked\r\n"
    elif length is not None or method in ("POST", "PUT", "PATCH"):
        lines += "Content-Length: %d\r\n" % (length or 0)
    words = (_clean(method, _NOT_IN_NAMES), _clean(target, _NOT_IN_TARGETS), host, lines)
    return ("%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % words).encode()


def _bad(what):
    raise ProtocolError("the response " + what)


class Headers:
    """Headers of a response; a name may be asked for in any case, repeated ones are joined."""

    def __init__(self):
        self.raw = bytearray(b"\n")  # "name: value\n" each, the names in lower case

    def find(self, key):
        """Return the value of b"\\nname:", None when there is none."""
        raw = self.raw
        found = None
        at = raw.find(key)
        while at >= 0:
            start = at + len(key)
            at = raw.find(b"\n", start)
            while raw[start] == 32 or raw[start] == 9:
                start += 1
            value = raw[start:at].decode().rstrip()
            found = value if found is None else found + ", " + value
            at = raw.find(key, at)
        return found

    def get(self, name, default=None):
        value = self.find(("\n%s:" % name.lower()).encode())
        return default if value is None else value

    def __getitem__(self, name):
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name):
        return self.get(name) is not None

    def __iter__(self):
        seen = []
        for line in self.raw.decode().split("\n"):
            name = line.partition(":")[0]
            if name and name not in seen:
                seen.append(name)
        return iter(seen)

    def items(self):
        return [(name, self.get(name)) for name in self]


class ResponseParser:
    """Parses what a caller reads into `buf`: first `head`, then `pull` until it returns 0.

    `begin` makes it ready for another response, in the same memory.
    """

    def __init__(self, method="GET", max_body_bytes=MAX_BODY_BYTES, buffer_bytes=_BUFFER_BYTES):
        self.buf = bytearray(buffer_bytes)
        self._view = memoryview(self.buf)
        self._line = bytearray()  # what came of a line whose end has not
        self.begin(method, max_body_bytes)

    def begin(self, method, max_body_bytes):
        """Forget the last response; `max_body_bytes` is None for a body without a limit."""
        self.status = 0
        self.reason = ""
        self.headers = Headers()
        self.keep_alive = False
        self.started = False  # whether a byte of the response has come
        self.left = 0  # bytes of the body, or of its chunk, that are still to come
        self._method = method
        self._max_body = max_body_bytes
        self._state = _STATUS
        self._at = self._end = 0  # what of `buf` has not been looked at
        if self._line:
            self._line[:] = b""
        self._header_bytes = self._headers_seen = self._interim = self._taken = 0

    @property
    def done(self):
        return self._state == _DONE

    def filled(self, n):
        """Say that n bytes came into `buf`, which was used up; 0 is the peer's end."""
        if n:
            self.started = True
            self._at = 0
            self._end = n
            if self._state == _DONE:
                self._finish()
        elif self._state == _BODY and self.left == _UNTIL_CLOSE:
            self._state = _DONE
        elif self._state != _DONE:
            _bad("broke off in the middle")

    def head(self):
        """Return whether the head is whole; if not, `buf` is to be filled."""
        while self._state < _BODY and self._at < self._end:
            self._take_line()
        return self._state >= _BODY

    def pull(self, out):
        """Return how many bytes of the body were put into `out`: 0 at the body's end, None when
        `buf` is to be filled first."""
        while self._state != _DONE:
            if self._at == self._end:
                return None
            if self._state == _BODY or self._state == _CHUNK:
                return self._copy(out)
            self._take_line()
        return 0

    def _finish(self):
        self._state = _DONE
        if self._at < self._end:
            _bad("goes on behind its end")

    # Lines: status, headers, chunk sizes

    def _take_line(self):
        start = self._at
        line = self._line
        cut = self.buf.find(b"\n", start, self._end)
        end = self._end if cut < 0 else cut
        if len(line) + end - start > _MAX_LINE_BYTES:
            _bad("has a line that is too long")
        if cut < 0:
            self._at = end
            line.extend(self._view[start:end])
            return
        self._at = cut + 1
        if not line:
            self._handle_line(self.buf, start, end)
            return
        line.extend(self._view[start:end])
        self._handle_line(line, 0, len(line))
        line[:] = b""

    def _handle_line(self, data, start, end):
        if end > start and data[end - 1] == 13:
            end -= 1
        _check_text(data, start, end)
        state = self._state
        if state == _HEADER or state == _TRAILER:
            self._header_bytes += end - start + 2
            if self._header_bytes > _MAX_HEADER_BYTES:
                _bad("has headers that are too long")
            if end > start:
                self._header_line(data, start, end)
            elif state == _TRAILER:
                self._finish()
            else:
                self._headers_end()
        elif state == _STATUS:
            self._status_line(data, start, end)
        elif state == _CHUNK_SIZE:
            self._chunk_size(data, start, end)
        else:  # _CHUNK_END
            if end > start:
                _bad("has a chunk that is longer than it says")
            self._state = _CHUNK_SIZE

    def _status_line(self, data, start, end):
        self._http_10 = data.startswith(b"HTTP/1.0 ", start)
        if not self._http_10 and not data.startswith(b"HTTP/1.1 ", start):
            _bad("is not HTTP/1.1")
        code = start + 12
        if end < code or (end > code and data[code] != 32):
            _bad("has no status")
        self.status = 0
        for i in range(start + 9, code):
            if not 48 <= data[i] <= 57:
                _bad("has no status")
            self.status = self.status * 10 + data[i] - 48
        if self.status < 100 or self.status == 101:
            _bad("has the status %d" % self.status)
        self.reason = data[code + 1 : end].decode()
        self._state = _HEADER

    def _header_line(self, data, start, end):
        self._headers_seen += 1
        if self._headers_seen > _MAX_HEADERS:
            _bad("has too many headers")
        raw = self.headers.raw if self._state == _HEADER else None  # trailers: nobody asked
        colon = False
        for i in range(start, end):  # byte by byte, since a slice would be garbage
            byte = data[i]
            if not colon:
                if byte == 58:
                    colon = i > start
                if byte <= 32 or (byte == 58 and not colon):
                    break
                if 65 <= byte <= 90:
                    byte += 32
            if raw is not None:
                raw.append(byte)
        if not colon:
            _bad("has a malformed header")
        if raw is not None:
            raw.append(10)

    def _headers_end(self):
        if self.status < 200:  # 100 Continue and its like: the real response follows
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                _bad("does not come: too many interim ones")
            self.headers = Headers()
            self._state = _STATUS
            return
        find = self.headers.find
        connection = (find(b"\nconnection:") or "").lower()
        self.keep_alive = "close" not in connection and (
            not self._http_10 or "keep-alive" in connection
        )
        encoding = find(b"\ntransfer-encoding:")
        length = find(b"\ncontent-length:")
        if self._method == "HEAD" or self.status in (204, 304):
            self._finish()
        elif encoding is not None:
            if encoding.lower() != "chunked" or length is not None or self._http_10:
                _bad("has a Transfer-Encoding that is not plain chunked")
            self._state = _CHUNK_SIZE
        elif length is not None:
            self._known_length(length)
        else:
            self.left = _UNTIL_CLOSE
            self.keep_alive = False
            self._state = _BODY

    def _known_length(self, text):
        if not text.isdigit() or len(text) > 10:
            _bad("has a Content-Length that is no number")
        self.left = int(text)
        self._check_size(self.left)
        self._state = _BODY
        if not self.left:
            self._finish()

    def _chunk_size(self, data, start, end):
        semicolon = data.find(b";", start, end)
        if semicolon >= 0:
            end = semicolon
        while end > start and data[end - 1] in b" \t":
            end -= 1
        if not 0 < end - start <= 8:
            _bad("has a malformed chunk size")
        left = 0
        for i in range(start, end):
            digit = b"0123456789abcdef".find(bytes((data[i] | 32,)))
            if digit < 0:
                _bad("has a malformed chunk size")
            left = left << 4 | digit
        self.left = left
        self._state = _CHUNK if left else _TRAILER

    # Bytes of the body

    def bound(self, max_body_bytes):
        """Limit what is still to come of a body that was begun without a limit."""
        if self._max_body is None:
            self._max_body = self._taken + max_body_bytes
            self._check_size(self._taken + self.left)

    def _check_size(self, n):
        if self._max_body is not None and n > self._max_body:
            _bad("(status %d) is longer than %d bytes" % (self.status, self._max_body))

    def _copy(self, out):
        n = min(len(out), self._end - self._at)
        if self.left != _UNTIL_CLOSE:
            n = min(n, self.left)
        self._check_size(self._taken + n)
        out[:n] = self._view[self._at : self._at + n]
        self._taken += n
        self._at += n
        if self.left != _UNTIL_CLOSE:
            self.left -= n
            if not self.left:
                if self._state == _BODY:
                    self._finish()
                else:
                    self._state = _CHUNK_END
        return n


def _check_text(data, start, end):
    for i in range(start, end):
        byte = data[i]
        if byte > 126 or (byte < 32 and byte != 9):
            _bad("has a line that is not text")
