"""Deflates pieces of data so that each is read without the others (RFC 1951).

What zlib makes is too large by a little, and it begins each piece anew. Here all pieces go on after
one beginning: they refer to what it says, and are written in the code that it brings (some 100
octets that each piece of its own would bring again). Which matches are taken is what costs the
fewest bits, for code after code (as Zopfli does it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

PADDING = 2  # octets that say nothing

_ROUNDS = 4  # no more come out smaller
_LEAST, _MOST = 3, 258  # octets of a match
_END = 256  # the symbol that ends a block
_LONGEST_CODE, _LONGEST_CODE_OF_LENGTHS = 15, 7
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)
_STORED, _FIXED, _DYNAMIC = 0, 1, 2
_DEAR = 15  # bits of a symbol that no code has yet

# RFC 1951 §3.2.5: from which length or distance on a symbol stands, and its extra bits.
_LENGTH_BITS = (*(0,) * 8, *(n for n in range(1, 6) for _ in range(4)), 0)
_LENGTHS = (*(3 + sum(1 << bits for bits in _LENGTH_BITS[:n]) for n in range(28)), _MOST)
_DISTANCE_BITS = (0, 0, *(n for n in range(14) for _ in range(2)))
_DISTANCES = tuple(1 + sum(1 << bits for bits in _DISTANCE_BITS[:n]) for n in range(30))


def _symbols(starts: Sequence[int], end: int) -> list[int]:
    of = [0] * end
    for symbol, start in enumerate(starts):
        of[start:] = [symbol] * (end - start)
    return of


_LENGTH_SYMBOL = _symbols(_LENGTHS, _MOST + 1)
_DISTANCE_SYMBOL = _symbols(_DISTANCES, 1 << 15)

_Matches = list[list[tuple[int, int]]]
_Steps = list[tuple[int, int]]  # (octet, 0) or (length, distance)


@dataclass(frozen=True, slots=True)
class Deflated:
    """``beginning`` says :data:`PADDING` octets more than it was to say, and ends at an octet; each
    of ``pieces`` goes on after it, to the stream's end."""

    beginning: bytes
    pieces: Mapping[str, bytes]


def deflate(beginning: bytes, pieces: Mapping[str, bytes], window_bits: int) -> Deflated:
    """Deflate ``pieces``, each to be read after ``beginning``.

    Args:
        beginning: at least one octet.
        pieces: name → content.
        window_bits: how far back a reader remembers, as a power of two.
    """
    window = 1 << window_bits
    texts = [_Text(b"", beginning, window)]
    texts += [_Text(beginning, content, window) for content in pieces.values()]
    code = _best_code(texts)
    out = _Bits()
    out.add(0, 1)
    code.write_header(out)
    code.write(out, texts[0].steps)
    code.write(out, [(octet, 0) for octet in _padding(code, -out.count % 8)])
    found = {
        name: min(_ways(code, text), key=len) for name, text in zip(pieces, texts[1:], strict=True)
    }
    return Deflated(out.octets(), found)


def _ways(code: _Code, text: _Text) -> Iterable[bytes]:
    """Yield a piece in the common code, in one of its own, and as it is."""
    common = _Bits()
    code.write(common, text.steps)
    code.end(common)
    common.add(1, 1)
    common.add(_FIXED, 2)
    common.add(0, 7)  # an empty block, the last one
    yield common.octets()
    own = _Bits()
    code.end(own)
    own.add(1, 1)
    own_code = _best_code([text])
    own_code.write_header(own)
    own_code.write(own, text.steps)
    own_code.end(own)
    yield own.octets()
    stored = _Bits()
    code.end(stored)
    stored.add(1, 1)
    stored.add(_STORED, 2)
    size = len(text.content)
    yield (
        stored.octets()
        + size.to_bytes(2, "little")
        + (~size & 0xFFFF).to_bytes(2, "little")
        + (text.content)
    )


def _padding(code: _Code, bits: int) -> tuple[int, ...]:
    """Return octets that take so many bits, but for whole octets of them.

    Raises:
        ValueError: there are none: give the beginning another octet.
    """
    by_bits = {code.literals[octet] % 8: octet for octet in range(_END) if code.literals[octet]}
    for one, octet in by_bits.items():
        if (other := (bits - one) % 8) in by_bits:
            return octet, by_bits[other]
    raise ValueError("no octets take so many bits")


class _Text:
    """Content that follows ``known`` octets and the padding, if any; ``steps`` say it."""

    def __init__(self, known: bytes, content: bytes, window: int) -> None:
        self.content = content
        self.steps: _Steps = []
        self._matches = _find_matches(known, content, window)

    def choose(self, literals: Sequence[int], distances: Sequence[int]) -> None:
        """Take the steps that cost the fewest bits in a code."""
        size = len(self.content)
        of_length = [0] * _LEAST + [
            (literals[_END + 1 + symbol] or _DEAR) + _LENGTH_BITS[symbol]
            for symbol in _LENGTH_SYMBOL[_LEAST:]
        ]
        costs = [0] + [1 << 30] * size
        steps: list[tuple[int, int]] = [(0, 0)] * (size + 1)
        for at, octet in enumerate(self.content):
            cost = costs[at] + (literals[octet] or _DEAR)
            if cost < costs[at + 1]:
                costs[at + 1], steps[at + 1] = cost, (octet, 0)
            shortest = _LEAST
            for longest, distance in self._matches[at]:
                symbol = _DISTANCE_SYMBOL[distance]
                so_far = costs[at] + (distances[symbol] or _DEAR) + _DISTANCE_BITS[symbol]
                for length in range(shortest, longest + 1):
                    cost = so_far + of_length[length]
                    if cost < costs[at + length]:
                        costs[at + length], steps[at + length] = cost, (length, distance)
                shortest = longest + 1
        taken = []
        while size:
            taken.append(steps[size])
            size -= steps[size][0] if steps[size][1] else 1
        self.steps = taken[::-1]


def _find_matches(known: bytes, content: bytes, window: int) -> _Matches:
    """Return (length, distance) for each octet of the content, both growing."""
    data = known + bytes(PADDING if known else 0) + content
    start = len(data) - len(content)
    last: dict[bytes, int] = {}
    before = [-1] * len(data)
    found: _Matches = []
    for at in range(len(data)):
        if len(known) - _LEAST < at < start:
            continue  # what is in the padding is not decided yet
        key = data[at : at + _LEAST]
        matches: list[tuple[int, int]] = []
        if len(key) == _LEAST:
            before[at], last[key] = last.get(key, -1), at
            other, length = before[at] if at >= start else -1, _LEAST - 1
            most = min(_MOST, len(data) - at)
            while other >= 0 and at - other <= window and length < most:
                longest = min(most, len(known) - other) if other < start else most
                if length < longest and data[other + length] == data[at + length]:
                    shared = _shared(data, other, at, longest)
                    if shared > length:
                        length = shared
                        matches.append((length, at - other))
                other = before[other]
        if at >= start:
            found.append(matches)
    return found


def _shared(data: bytes, one: int, other: int, most: int) -> int:
    """Return how many octets are the same from two places on."""
    length = 0
    while length < most and data[one + length] == data[other + length]:
        length += 1
    return length


def _best_code(texts: Sequence[_Text]) -> _Code:
    """Return the code in which the texts are shortest, and have them take their steps for it."""
    literals, distances = [8] * (_END + 1) + [7] * len(_LENGTHS), [5] * len(_DISTANCES)
    found: list[tuple[int, _Code, list[_Steps]]] = []
    for _ in range(_ROUNDS):
        for text in texts:
            text.choose(literals, distances)
        code = _Code([text.steps for text in texts])
        measured = _Bits()
        code.write_header(measured)
        for text in texts:
            code.write(measured, text.steps)
        found.append((measured.count, code, [text.steps for text in texts]))
        literals, distances = code.literals, code.distances
    _, code, chosen = min(found, key=lambda one: one[0])
    for text, steps in zip(texts, chosen, strict=True):
        text.steps = steps
    return code


class _Code:
    """Huffman codes for what some steps say, an end for each: bits of each symbol."""

    def __init__(self, texts: Sequence[_Steps]) -> None:
        literals, distances = [0] * (_END + 1 + len(_LENGTHS)), [0] * len(_DISTANCES)
        literals[_END] = len(texts)
        for steps in texts:
            for value, distance in steps:
                if distance:
                    literals[_END + 1 + _LENGTH_SYMBOL[value]] += 1
                    distances[_DISTANCE_SYMBOL[distance]] += 1
                else:
                    literals[value] += 1
        self.literals = _code_lengths(literals, _LONGEST_CODE)
        self.distances = _code_lengths(distances, _LONGEST_CODE)
        self._literal_codes = _codes(self.literals)
        self._distance_codes = _codes(self.distances)

    def write(self, out: _Bits, steps: _Steps) -> None:
        """Write steps."""
        for value, distance in steps:
            if not distance:
                out.add(self._literal_codes[value], self.literals[value])
                continue
            symbol = _LENGTH_SYMBOL[value]
            out.add(self._literal_codes[_END + 1 + symbol], self.literals[_END + 1 + symbol])
            out.add(value - _LENGTHS[symbol], _LENGTH_BITS[symbol])
            symbol = _DISTANCE_SYMBOL[distance]
            out.add(self._distance_codes[symbol], self.distances[symbol])
            out.add(distance - _DISTANCES[symbol], _DISTANCE_BITS[symbol])

    def end(self, out: _Bits) -> None:
        """Write the end of a block."""
        out.add(self._literal_codes[_END], self.literals[_END])

    def write_header(self, out: _Bits) -> None:
        """Write the kind of a block and the codes themselves (RFC 1951 §3.2.7)."""
        literals = _without_tail(self.literals, _END + 1)
        distances = _without_tail(self.distances, 1)
        runs = list(_runs([*literals, *distances]))
        counts = [0] * len(_ORDER)
        for symbol, _, _ in runs:
            counts[symbol] += 1
        lengths = _code_lengths(counts, _LONGEST_CODE_OF_LENGTHS)
        codes = _codes(lengths)
        told = _without_tail([lengths[symbol] for symbol in _ORDER], 4)
        out.add(_DYNAMIC, 2)
        out.add(len(literals) - (_END + 1), 5)
        out.add(len(distances) - 1, 5)
        out.add(len(told) - 4, 4)
        for length in told:
            out.add(length, 3)
        for symbol, extra, bits in runs:
            out.add(codes[symbol], lengths[symbol])
            out.add(extra, bits)


def _without_tail(lengths: Sequence[int], least: int) -> Sequence[int]:
    used = max((n + 1 for n, length in enumerate(lengths) if length), default=0)
    return lengths[: max(least, used)]


def _runs(lengths: Sequence[int]) -> Iterable[tuple[int, int, int]]:
    """Yield (symbol, extra, bits of it) for lengths of codes, runs of them shortened."""
    at = 0
    while at < len(lengths):
        value, run = lengths[at], 1
        while at + run < len(lengths) and lengths[at + run] == value:
            run += 1
        at += run
        if value:
            yield value, 0, 0
            run -= 1
        while run >= _LEAST:
            if value:
                symbol, bits, most = 16, 2, 6
            elif run > 10:
                symbol, bits, most = 18, 7, 138
            else:
                symbol, bits, most = 17, 3, 10
            taken = min(run, most)
            yield symbol, taken - (11 if symbol == 18 else 3), bits
            run -= taken
        for _ in range(run):
            yield value, 0, 0


def _code_lengths(counts: Sequence[int], longest: int) -> list[int]:
    """Return the bits of each symbol, ``longest`` at most, in the best code (package-merge)."""
    used = sorted((count, (symbol,)) for symbol, count in enumerate(counts) if count)
    lengths = [0] * len(counts)
    if len(used) < 2:  # a code of one symbol takes one bit
        for _, (symbol,) in used:
            lengths[symbol] = 1
        return lengths
    merged: list[tuple[int, tuple[int, ...]]] = []
    for _ in range(longest):
        pairs = zip(merged[::2], merged[1::2], strict=False)
        merged = sorted([*used, *((a + b, x + y) for (a, x), (b, y) in pairs)], key=lambda m: m[0])
    for _, symbols in merged[: 2 * len(used) - 2]:
        for symbol in symbols:
            lengths[symbol] += 1
    return lengths


def _codes(lengths: Sequence[int]) -> list[int]:
    """Return the code of each symbol (RFC 1951 §3.2.2), as it is written: its first bit lowest."""
    codes = [0] * len(lengths)
    code = 0
    for bits in range(1, _LONGEST_CODE + 1):
        code <<= 1
        for symbol, length in enumerate(lengths):
            if length == bits:
                codes[symbol] = int(f"{code:0{bits}b}"[::-1], 2)
                code += 1
    return codes


class _Bits:
    """Bits, the first one lowest in each octet."""

    def __init__(self) -> None:
        self.count = 0
        self._found = bytearray()
        self._rest = 0

    def add(self, value: int, bits: int) -> None:
        """Add that many of a value's bits, the lowest first."""
        self._rest |= value << self.count % 8
        taken = self.count % 8 + bits
        while taken >= 8:
            self._found.append(self._rest & 0xFF)
            self._rest >>= 8
            taken -= 8
        self.count += bits

    def octets(self) -> bytes:
        """Return them, the last octet filled with zeros."""
        return bytes(self._found) + (bytes((self._rest,)) if self.count % 8 else b"")
