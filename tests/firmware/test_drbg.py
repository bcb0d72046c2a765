"""HMAC-DRBG against a reference of its own, and the health test on sources good and bad."""

import hmac
import json
import os
from functools import partial
from math import comb
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtls import drbg, entropy
from mtls.errors import EntropyError

PIECES = st.binary(max_size=80)
CAVP = json.loads((Path(__file__).parents[1] / "vectors" / "hmac_drbg.json").read_text())["vectors"]


class Reference:
    """SP 800-90A §10.1.2, word by word, on the standard library's HMAC."""

    def __init__(self, material: bytes) -> None:
        self.key, self.value = bytes(32), b"\x01" * 32
        self.update(material)

    def mac(self, data: bytes) -> bytes:
        return hmac.digest(self.key, data, "sha256")

    def update(self, data: bytes) -> None:
        self.key = self.mac(self.value + b"\x00" + data)
        self.value = self.mac(self.value)
        if data:
            self.key = self.mac(self.value + b"\x01" + data)
            self.value = self.mac(self.value)

    def generate(self, n: int, extra: bytes) -> bytes:
        if extra:
            self.update(extra)
        out = b""
        while len(out) < n:
            self.value = self.mac(self.value)
            out += self.value
        self.update(extra)
        return out[:n]


@given(
    st.binary(min_size=48, max_size=1200),
    PIECES,
    st.lists(
        st.tuples(st.integers(0, 100), PIECES, st.none() | st.binary(min_size=32)), max_size=4
    ),
)
def test_generator_follows_the_standard(entropy, personal, requests):
    mine, reference = drbg.HmacDrbg(entropy, personal), Reference(entropy + personal)
    for size, extra, fresh in requests:
        if fresh is not None:
            mine._update(fresh, extra)
            reference.update(fresh + extra)
        assert mine.generate(size, extra) == reference.generate(size, extra)


@pytest.mark.parametrize("vector", CAVP)
def test_generator_gives_what_nist_published(vector):
    given = {name: bytes.fromhex(value) for name, value in vector.items()}
    generator = drbg.HmacDrbg(given["entropy"] + given["nonce"], given["personal"])
    if given["reseed"]:
        generator._update(given["reseed"])  # which is all that a reseed is
    generator.generate(128)
    assert generator.generate(128) == given["returned"]


def test_too_little_entropy_is_refused():
    with pytest.raises(EntropyError):
        drbg.HmacDrbg(bytes(47))


@pytest.mark.parametrize("n", [-1, 65537])
def test_request_out_of_range_is_refused(n):
    with pytest.raises(ValueError, match="too much"):
        drbg.HmacDrbg(bytes(48)).generate(n)


@pytest.mark.only_cpython  # MicroPython folds the constants away
def test_cutoffs_are_those_of_the_standard():
    """SP 800-90B §4.4: alpha is 2^-30, H is 2 bits a sample."""
    alpha, chance, size = 2.0**-30, 0.25, 512
    assert entropy._RUN_CUTOFF == 1 + 30 / 2
    tail, count = 0.0, size + 1
    while tail <= alpha:
        count -= 1
        tail += comb(size, count) * chance**count * (1 - chance) ** (size - count)
    assert 1 + count == entropy._WINDOW_CUTOFF


def served(data: bytes):
    position = 0

    def source(n: int) -> bytes:
        nonlocal position
        position += n
        return data[position - n : position]

    return source


def sample_with(piece: bytes, at: int) -> bytes:
    data = bytearray(os.urandom(1024))
    data[at : at + len(piece)] = piece
    return bytes(data)


def test_run_of_one_octet_is_refused_wherever_it_is():
    for at in range(1024 - 16 + 1):
        with pytest.raises(EntropyError, match="repeats one octet"):
            entropy.health_check(served(sample_with(b"\x5a" * 16, at)))


def test_shorter_run_passes_wherever_it_is():
    run = b"\0" + b"\x5a" * 15 + b"\0"
    for at in range(1024 - len(run) + 1):
        assert len(entropy.health_check(served(sample_with(run, at)))) == 1024


@pytest.mark.parametrize("window", [0, 512])
def test_window_of_mostly_one_octet_is_refused(window):
    data = bytearray(os.urandom(1024))
    data[window : window + 512 : 2] = bytes([data[window]]) * 256
    with pytest.raises(EntropyError):
        entropy.health_check(served(bytes(data)))


@pytest.mark.parametrize("period", [2, 7, 255, 256, 510, 900])
def test_source_that_repeats_itself_is_refused(period):
    data = os.urandom(period) * 1024
    with pytest.raises(EntropyError):
        entropy.health_check(served(data[:1024]))


def rosc_model(bit: int):
    """The RP2040's 8-bit register without noise, as MicroPython's rosc_random_u8 shifts it."""
    register = 1

    def source(n: int) -> bytes:
        nonlocal register
        out = bytearray(n)
        for at in range(n):
            for _ in range(8):
                register = ((register << 1 | bit) ^ (0xD5 if register & 0x80 else 0)) & 0xFF
            out[at] = register
        return bytes(out)

    return source


@pytest.mark.parametrize("bit", [0, 1])
def test_ring_oscillator_that_stands_still_is_refused(bit):
    with pytest.raises(EntropyError):
        entropy.health_check(rosc_model(bit))


def test_interpreter_s_own_source_passes():
    for _ in range(4):
        assert len(entropy.health_check()) == 1024


def test_source_that_ends_is_refused():
    with pytest.raises(EntropyError):
        entropy.health_check(served(os.urandom(1000)))


def test_sample_is_what_the_source_gave():
    data = os.urandom(1024)
    assert entropy.health_check(served(data)) == data


def test_stuck_board_gets_no_generator(monkeypatch):
    monkeypatch.setattr(entropy, "health_check", partial(entropy.health_check, bytes))
    with pytest.raises(EntropyError):
        entropy.gather(b"a good seed from the host")


def test_seed_alone_does_not_decide_what_comes_out():
    assert entropy.gather(b"seed").generate(32) != entropy.gather(b"seed").generate(32)


def test_state_is_not_printed():
    generator = drbg.HmacDrbg(bytes(48))
    assert repr(generator) == "<HmacDrbg>"
