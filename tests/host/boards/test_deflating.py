"""Pieces that are each read after one beginning, by zlib."""

from __future__ import annotations

import random
import zlib

import pytest

from handfast.boards.deflating import PADDING, deflate
from handfast.resources import firmware_dir

WINDOW_BITS = 12
MODULES = ("aio", "client", "errors", "heap", "net", "ntp", "plan", "retry", "store", "url")
TEXTS = {name: (firmware_dir() / "mtls" / f"{name}.py").read_bytes() for name in MODULES}


def inflated(stream: bytes, window_bits: int = WINDOW_BITS) -> bytes:
    reader = zlib.decompressobj(-window_bits)
    content = reader.decompress(stream)
    assert reader.eof
    assert not reader.unused_data
    return content


@pytest.mark.parametrize("window_bits", [9, 12, 15])
@pytest.mark.parametrize("first", ["errors", "store"])
def test_each_piece_goes_on_after_the_beginning(first: str, window_bits: int) -> None:
    beginning = TEXTS[first]
    made = deflate(beginning, TEXTS, window_bits)
    assert set(made.pieces) == set(TEXTS)
    for name, piece in made.pieces.items():
        content = inflated(made.beginning + piece, window_bits)
        assert content[: len(beginning)] == beginning
        assert content[len(beginning) + PADDING :] == TEXTS[name]


def test_what_repeats_what_is_noise_and_what_is_empty() -> None:
    noise = random.Random(1).randbytes(3000)  # noqa: S311
    pieces = {
        "noise": noise,
        "again": TEXTS["errors"],
        "one": b"x",
        "none": b"",
        "run": bytes(5000),
        "all": bytes(range(256)) * 3,
        "both": noise[:300] + TEXTS["errors"][:300] + noise[:300],
    }
    made = deflate(TEXTS["errors"], pieces, WINDOW_BITS)
    for name, piece in made.pieces.items():
        assert inflated(made.beginning + piece)[len(TEXTS["errors"]) + PADDING :] == pieces[name]
    # Noise is stored; what was said before is only pointed to.
    assert len(made.pieces["noise"]) < len(noise) + 10
    assert len(made.pieces["again"]) < 100
    assert len(made.pieces["run"]) < 100


def test_pieces_are_smaller_than_zlib_s_that_know_the_same() -> None:
    beginning = TEXTS["errors"]
    made = deflate(beginning, TEXTS, WINDOW_BITS)
    by_zlib = 0
    for content in TEXTS.values():
        writer = zlib.compressobj(9, zlib.DEFLATED, -WINDOW_BITS, 9, zdict=beginning)
        by_zlib += len(writer.compress(content) + writer.flush())
    assert sum(map(len, made.pieces.values())) < 0.98 * by_zlib


def test_the_same_comes_out_again() -> None:
    assert deflate(TEXTS["url"], TEXTS, WINDOW_BITS) == deflate(TEXTS["url"], TEXTS, WINDOW_BITS)


def test_a_beginning_that_cannot_end_at_an_octet_is_refused() -> None:
    # Each octet has a code of two bits or of one: a third octet would have to fill an odd rest.
    with pytest.raises(ValueError, match="no octets take so many bits"):
        deflate(b"", {"a": b"ab"}, WINDOW_BITS)
