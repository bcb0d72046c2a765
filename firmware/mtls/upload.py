# Handfast mTLS for MicroPython: a request's body that is not in memory as a whole
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

from .errors import ProtocolError
from .http import CHUNKED

_PIECE_BYTES = const(1024)


class Upload:
    """A file goes with its length from where it stands, an iterator of bytes in chunks."""

    def __init__(self, data):
        self._data = data
        self._start = None
        self.length = CHUNKED
        self._begun = False
        if hasattr(data, "readinto"):
            self._measure()

    def _measure(self):
        try:
            self._start = self._data.tell()
            self.length = max(0, self._data.seek(0, 2) - self._start)
            self._data.seek(self._start)
        except (OSError, AttributeError):
            self._start = None  # a stream without an end to seek: in chunks, once

    def rewind(self):
        """Return whether it can be sent from its start; an iterator only once."""
        if self._begun and self._start is not None:
            self._data.seek(self._start)
            self._begun = False
        return not self._begun

    def pieces(self, head):
        """Yield `head` and then the body as it travels."""
        self._begun = True
        yield head
        if self.length == CHUNKED:
            for piece in _read(self._data) if hasattr(self._data, "readinto") else self._data:
                if isinstance(piece, str):
                    piece = piece.encode()
                if piece:  # an empty chunk would be the end
                    yield b"%x\r\n" % len(piece)
                    yield piece
                    yield b"\r\n"
            yield b"0\r\n\r\n"
            return
        left = self.length
        for piece in _read(self._data):
            left -= len(piece)
            if left < 0:
                break
            yield piece
        if left:
            raise ProtocolError("the file changed its length while it was sent")


def _read(file):
    """Yield what is left of a file in portions, each valid until the next."""
    buf = bytearray(_PIECE_BYTES)
    view = memoryview(buf)
    while True:
        n = file.readinto(buf)
        if not n:
            return
        yield view[:n]
