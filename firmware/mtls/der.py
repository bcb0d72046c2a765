# Handfast mTLS for MicroPython: DER, a writer and a bounded strict reader (X.690)
# MIT license; Copyright (c) 2026 the Handfast authors

from micropython import const

from .errors import DecodeError

BOOLEAN = const(0x01)
INTEGER = const(0x02)
BIT_STRING = const(0x03)
OCTET_STRING = const(0x04)
NULL = const(0x05)
OID = const(0x06)
UTF8_STRING = const(0x0C)
PRINTABLE_STRING = const(0x13)
UTC_TIME = const(0x17)
GENERALIZED_TIME = const(0x18)
SEQUENCE = const(0x30)
SET = const(0x31)

# Nothing that a board takes from the network is larger.
_MAX_LENGTH = const(0xFFFF)
# 4096-bit modulus, its sign octet, and room.
_MAX_INTEGER = const(520)


# Writer


def tlv(tag, *parts):
    """One element: tag, length, and the parts one after the other."""
    content = b"".join(parts)
    n = len(content)
    if n < 0x80:
        head = bytes((tag, n))
    elif n < 0x100:
        head = bytes((tag, 0x81, n))
    elif n <= _MAX_LENGTH:
        head = bytes((tag, 0x82, n >> 8, n & 0xFF))
    else:
        raise ValueError("DER element too long")
    return head + content


def sequence(*parts):
    return tlv(SEQUENCE, *parts)


def integer(value):
    """INTEGER of a number that is not negative."""
    if value < 0:
        raise ValueError("negative INTEGER")
    size = 1
    rest = value >> 7
    while rest:
        size += 1
        rest >>= 8
    return tlv(INTEGER, value.to_bytes(size, "big"))


def octets(content):
    return tlv(OCTET_STRING, content)


def bitstring(content):
    """BIT STRING of whole octets."""
    return tlv(BIT_STRING, b"\0", content)


def oid_content(dotted):
    """The content octets of an OBJECT IDENTIFIER, e.g. '2.5.29.17' gives 55 1d 11."""
    arcs = [int(arc) for arc in dotted.split(".")]
    out = bytearray()
    for arc in [arcs[0] * 40 + arcs[1]] + arcs[2:]:
        base128 = [arc & 0x7F]
        arc >>= 7
        while arc:
            base128.append(arc & 0x7F | 0x80)
            arc >>= 7
        out.extend(bytes(reversed(base128)))
    return bytes(out)


def oid(dotted):
    return tlv(OID, oid_content(dotted))


# Reader


def dotted(content):
    """The dotted form of an OBJECT IDENTIFIER's content octets."""
    if not content or content[-1] & 0x80 or len(content) > 32:
        raise DecodeError("bad OID")
    arcs = []
    arc = 0
    fresh = True
    for octet in content:
        if fresh and octet == 0x80:
            raise DecodeError("bad OID")
        arc = arc << 7 | octet & 0x7F
        fresh = not octet & 0x80
        if fresh:
            arcs.append(arc)
            arc = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(str(a) for a in [first, arcs[0] - first * 40] + arcs[1:])


class Reader:
    """Reads the elements of buf[start:end] in order; never past the end, never anything but DER.

    Every violation raises DecodeError: indefinite, non-minimal or oversized lengths, multi-octet
    tags, an unexpected tag, a value cut short.
    """

    def __init__(self, buf, start=0, end=None):
        self.buf = buf
        self.pos = start
        self.end = len(buf) if end is None else end

    def _header(self, expected):
        """Check the next element's head; give (tag, where its content starts, where it ends)."""
        buf, pos, end = self.buf, self.pos, self.end
        if end - pos < 2:
            raise DecodeError("DER cut short")
        tag = buf[pos]
        if expected is not None and tag != expected:
            raise DecodeError("DER tag 0x%02x, expected 0x%02x" % (tag, expected))
        if tag & 0x1F == 0x1F:
            raise DecodeError("multi-octet DER tag")
        n = buf[pos + 1]
        pos += 2
        if n & 0x80:
            size = n & 0x7F
            if not 1 <= size <= 2 or end - pos < size:
                raise DecodeError("bad DER length")
            n = buf[pos]
            if size == 2:
                n = n << 8 | buf[pos + 1]
            pos += size
            if n < (0x80 if size == 1 else 0x100):
                raise DecodeError("DER length not minimal")
        if n > end - pos:
            raise DecodeError("DER cut short")
        return tag, pos, pos + n

    def more(self):
        return self.pos < self.end

    def peek(self):
        """The tag of the next element, or -1 at the end."""
        return self.buf[self.pos] if self.pos < self.end else -1

    def next(self, tag=None):
        """(tag, Reader of the content) of the next element, of that tag if one is given."""
        tag, start, self.pos = self._header(tag)
        return tag, Reader(self.buf, start, self.pos)

    def enter(self, tag):
        """A Reader of the content of the next element."""
        return self.next(tag)[1]

    def element(self, tag=None):
        """The whole next element, tag and length included, as bytes."""
        start = self.pos
        self.pos = self._header(tag)[2]
        return bytes(self.buf[start : self.pos])

    def content(self, tag):
        """The content octets of the next element, as bytes."""
        _, start, self.pos = self._header(tag)
        return bytes(self.buf[start : self.pos])

    def finish(self):
        """Nothing may follow."""
        if self.pos != self.end:
            raise DecodeError("trailing bytes after DER")

    def integer(self):
        """The next INTEGER, as a number."""
        content = self.content(INTEGER)
        n = len(content)
        if not n or n > _MAX_INTEGER:
            raise DecodeError("bad INTEGER")
        if n > 1 and content[0] in (0, 0xFF) and (content[0] ^ content[1]) < 0x80:
            raise DecodeError("INTEGER not minimal")  # the first nine bits are all alike
        value = int.from_bytes(content, "big")
        return value - (1 << 8 * n) if content[0] & 0x80 else value

    def boolean(self):
        content = self.content(BOOLEAN)
        if content not in (b"\x00", b"\xff"):
            raise DecodeError("bad BOOLEAN")
        return content == b"\xff"

    def bits(self):
        """The octets of the next BIT STRING, which must be whole octets."""
        content = self.content(BIT_STRING)
        if not content or content[0]:
            raise DecodeError("bad BIT STRING")
        return content[1:]

    def oid(self):
        """The content octets of the next OBJECT IDENTIFIER."""
        content = self.content(OID)
        if not content:
            raise DecodeError("bad OID")
        return content


def only(encoded, tag=SEQUENCE):
    """A Reader of the content of the one element that encoded is."""
    outer = Reader(encoded)
    body = outer.enter(tag)
    outer.finish()
    return body
