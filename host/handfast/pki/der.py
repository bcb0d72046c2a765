"""The little DER that time stamps need and ``cryptography`` does not offer (X.690).

The writer takes contents that are encoded already; the reader takes definite, minimal lengths
only and never looks past the end it was given.
"""

from __future__ import annotations

from collections.abc import Iterable

BOOLEAN = 0x01
INTEGER = 0x02
BIT_STRING = 0x03
OCTET_STRING = 0x04
NULL = 0x05
OID = 0x06
UTF8_STRING = 0x0C
GENERALIZED_TIME = 0x18
SEQUENCE = 0x30
SET = 0x31

_LONG_FORM = 0x80
_MOST_LENGTH_BYTES = 2


class DerError(ValueError):
    """Bytes that are not the DER that was expected."""


# Writing


def tlv(tag: int, *contents: bytes) -> bytes:
    """Return one element: tag, length, and ``contents`` one after the other."""
    content = b"".join(contents)
    length = len(content)
    if length < _LONG_FORM:
        return bytes((tag, length)) + content
    size = (length.bit_length() + 7) // 8
    return bytes((tag, _LONG_FORM | size)) + length.to_bytes(size, "big") + content


def context(number: int, *contents: bytes) -> bytes:
    """Return a constructed element with the context-specific tag ``[number]``."""
    return tlv(0xA0 | number, *contents)


def sequence(*contents: bytes) -> bytes:
    """Return a SEQUENCE."""
    return tlv(SEQUENCE, *contents)


def set_of(elements: Iterable[bytes]) -> bytes:
    """Return a SET OF in the order that DER demands (X.690 §11.6)."""
    return tlv(SET, *sorted(elements))


def integer(value: int) -> bytes:
    """Return an INTEGER of any size and sign."""
    size = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return tlv(INTEGER, value.to_bytes(size, "big", signed=True))


def octets(content: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(OCTET_STRING, content)


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER, for instance of ``"2.5.4.3"``."""
    first, second, *rest = map(int, dotted.split("."))
    return tlv(OID, *map(_base128, (first * 40 + second, *rest)))


def named_bit(number: int) -> bytes:
    """Return a BIT STRING of named bits in which one is set (X.690 §11.2.2)."""
    whole, bit = divmod(number, 8)
    return tlv(BIT_STRING, bytes((7 - bit,)), bytes(whole), bytes((0x80 >> bit,)))


def _base128(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(0x80 | value & 0x7F)
    return bytes(reversed(digits))


# Reading


class Reader:
    """Reads elements one after the other from ``data``."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        """True when nothing is left."""
        return self._at == len(self._data)

    def peek(self) -> int | None:
        """Return the tag of the next element, or None at the end."""
        return None if self.at_end else self._data[self._at]

    def element(self, tag: int) -> bytes:
        """Return the next element whole, with its tag and length.

        Raises:
            DerError: it has another tag, or is not well formed.
        """
        start = self._at
        self.content(tag)
        return self._data[start : self._at]

    def content(self, tag: int) -> bytes:
        """Return what the next element holds.

        Raises:
            DerError: it has another tag, or is not well formed.
        """
        if self.peek() != tag:
            raise DerError(f"expected tag {tag:#04x}, found {self.peek()}")
        length, start = self._length(self._at + 1)
        end = start + length
        if end > len(self._data):
            raise DerError("an element reaches past the end")
        self._at = end
        return self._data[start:end]

    def enter(self, tag: int) -> Reader:
        """Return a reader of what the next element holds.

        Raises:
            DerError: it has another tag, or is not well formed.
        """
        return Reader(self.content(tag))

    def integer(self) -> int:
        """Return the next element as an integer.

        Raises:
            DerError: it is none, or not in its shortest form.
        """
        content = self.content(INTEGER)
        value = int.from_bytes(content, "big", signed=True)
        if integer(value) != tlv(INTEGER, content):
            raise DerError("an INTEGER is not in its shortest form")
        return value

    def boolean(self) -> bool:
        """Return the next element as a truth value.

        Raises:
            DerError: it is none, or neither of the two that DER knows.
        """
        content = self.content(BOOLEAN)
        if content not in (b"\x00", b"\xff"):
            raise DerError("a BOOLEAN is neither true nor false")
        return content == b"\xff"

    def finish(self) -> None:
        """Make sure that nothing is left.

        Raises:
            DerError: something is.
        """
        if not self.at_end:
            raise DerError("something follows the last element")

    def _length(self, at: int) -> tuple[int, int]:
        head = self._data[at : at + 1]
        if not head:
            raise DerError("an element has no length")
        if head[0] < _LONG_FORM:
            return head[0], at + 1
        size = head[0] & 0x7F
        digits = self._data[at + 1 : at + 1 + size]
        length = int.from_bytes(digits, "big")
        minimal = length >= _LONG_FORM and bool(digits) and digits[0] != 0
        if not 0 < size <= _MOST_LENGTH_BYTES or len(digits) != size or not minimal:
            raise DerError("a length is indefinite, too long, or not in its shortest form")
        return length, at + 1 + size
