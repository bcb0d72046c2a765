"""PPP frames on a serial line: RFC 1662, octet-stuffed HDLC-like framing with a 16-bit FCS."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

MAX_FRAME_BYTES: Final = 4096  # what a peer may send before it ends a frame

_FLAG, _ESCAPE, _FLIP = 0x7E, 0x7D, 0x20
_ADDRESS_AND_CONTROL = b"\xff\x03"
_FCS_START, _FCS_GOOD = 0xFFFF, 0xF0B8
_FCS_POLYNOMIAL = 0x8408
_CONTROL_CHARACTERS = 0x20
ESCAPE_ALL: Final = 0xFFFFFFFF  # the async control character map of a link that has agreed on none


def _fcs_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_FCS_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _fcs_table()


def fcs16(octets: bytes) -> int:
    """Return the frame check sequence over ``octets``, not yet complemented (RFC 1662, C.2)."""
    fcs = _FCS_START
    for octet in octets:
        fcs = (fcs >> 8) ^ _TABLE[(fcs ^ octet) & 0xFF]
    return fcs


def encode_frame(protocol: int, payload: bytes, *, escaped: int = ESCAPE_ALL) -> bytes:
    """Return a frame as it goes onto the line, with a flag before and after it.

    Args:
        protocol: the PPP protocol number.
        payload: what follows it.
        escaped: the map of control characters that the peer wants escaped, bit n for octet n.
    """
    content = _ADDRESS_AND_CONTROL + struct.pack("!H", protocol) + payload
    content += struct.pack("<H", fcs16(content) ^ 0xFFFF)
    line = bytearray((_FLAG,))
    for octet in content:
        if octet in (_FLAG, _ESCAPE) or (octet < _CONTROL_CHARACTERS and escaped >> octet & 1):
            line += bytes((_ESCAPE, octet ^ _FLIP))
        else:
            line.append(octet)
    line.append(_FLAG)
    return bytes(line)


class FrameReader:
    """Takes octets as they come from the line and gives whole frames; damaged ones are counted."""

    def __init__(self) -> None:
        self.damaged = 0
        self._content = bytearray()
        self._escaping = False
        self._overlong = False

    def feed(self, octets: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield (protocol, payload) of each frame that ``octets`` complete."""
        for octet in octets:
            if octet == _FLAG:
                frame = self._end()
                if frame is not None:
                    yield frame
            elif octet == _ESCAPE:
                self._escaping = True
            elif len(self._content) == MAX_FRAME_BYTES:
                self._overlong = True
            else:
                self._content.append(octet ^ (_FLIP if self._escaping else 0))
                self._escaping = False

    def _end(self) -> tuple[int, bytes] | None:
        content, aborted = bytes(self._content), self._escaping or self._overlong
        self._content.clear()
        self._escaping = self._overlong = False
        if not content and not aborted:
            return None  # flags side by side
        frame = None if aborted or fcs16(content) != _FCS_GOOD else _split(content[:-2])
        self.damaged += frame is None
        return frame


def _split(content: bytes) -> tuple[int, bytes] | None:
    """Take address, control and protocol off, each of which may be compressed (RFC 1661, 6.5)."""
    content = content.removeprefix(_ADDRESS_AND_CONTROL)
    length = 1 if content and content[0] & 1 else 2
    if len(content) < length:
        return None
    return int.from_bytes(content[:length], "big"), content[length:]
