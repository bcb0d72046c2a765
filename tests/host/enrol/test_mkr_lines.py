"""The dialogue's lines: what was encoded is decoded, and a damaged line is no line."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handfast.boards.mkr_lines import CHUNK_BYTES, LONGEST_LINE, Line, decode, encode

WORDS = st.lists(
    st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1), min_size=1
)


def signed(body: bytes) -> bytes:
    return body + b" *%08x\n" % zlib.crc32(body)


@given(st.integers(0, 0xFFFF), WORDS)
def test_a_line_says_what_was_encoded(number: int, words: list[str]) -> None:
    try:
        line = encode(number, *words)
    except ValueError:
        assert sum(map(len, words)) + len(words) > LONGEST_LINE - 8 - 10 - 1
        return
    assert len(line) <= LONGEST_LINE
    assert decode(line) == Line(1, number, tuple(words))
    assert decode(line.replace(b"\n", b"\r\n")[:LONGEST_LINE]) in (None, decode(line))


@given(st.integers(0), st.integers(1, 255))
def test_no_damaged_byte_goes_unnoticed(at: int, flip: int) -> None:
    line = bytearray(encode(0x1A2B, "WRITE", "48", "00" * CHUNK_BYTES))
    at %= len(line) - 1
    line[at] ^= flip
    assert decode(bytes(line)) is None


@given(st.binary(max_size=2 * LONGEST_LINE))
def test_noise_is_no_line(noise: bytes) -> None:
    assert decode(noise) is None


def test_the_longest_request_and_answer_fit() -> None:
    encode(0xFFFF, "WRITE", "775", "ff" * CHUNK_BYTES)
    encode(0xFFFF, "OK", "1023", "ff" * CHUNK_BYTES)
    with pytest.raises(ValueError, match="bytes"):
        encode(0, "x" * LONGEST_LINE)


@pytest.mark.parametrize(
    "line",
    [
        signed(b"HF1 00AA HELLO"),
        signed(b"HF1 0aa HELLO"),
        signed(b"HF1 0000"),
        signed(b"HF1 0000 "),
        signed(b"HF1 0000  HELLO"),
        signed(b"HF1 0000 HELLO "),
        signed(b"HF 0000 HELLO"),
        signed(b"XF1 0000 HELLO"),
        signed(b"HF1 0000 H\tLLO"),
        signed(b"HF1 0000 " + b"x" * LONGEST_LINE),
        encode(0, "HELLO")[:-2],
        b" " + encode(0, "HELLO"),
        encode(0, "HELLO") + b"\n",
        encode(0, "HELLO").replace(b"*", b"* "),
        b"HF1 0000 HELLO *%08X\n" % zlib.crc32(b"HF1 0000 HELLO"),
    ],
)
def test_what_is_not_spelled_as_a_line_is_none(line: bytes) -> None:
    assert decode(line) is None


def test_another_version_is_read_so_that_it_can_be_named() -> None:
    assert decode(signed(b"HF2 0007 OK new things")) == Line(2, 7, ("OK", "new", "things"))
