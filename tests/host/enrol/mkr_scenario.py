"""Every rule of docs/reference/mkr-dialogue.md, asked of a board line by line.

The model and the sketch go through it, and each mutation of either fails in it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ecc_chip_model import EccChipModel
from enrol_kit import certify, new_key

from handfast.boards.serial_port import NoAnswer, SerialPort
from handfast.pki.csr import ParsedCsr, read_csr

_ANSWER_S = 2.0
_SILENCE_S = 0.15


class Board(Protocol):
    """The model of the sketch, or the sketch itself built for this machine."""

    url: str
    chip: EccChipModel

    def power_cycle(self) -> None: ...


def signed(body: str) -> bytes:
    return body.encode() + b" *%08x\n" % zlib.crc32(body.encode())


class Raw:
    """Asks line by line, and expects each answer to be spelled exactly."""

    def __init__(self, port: SerialPort) -> None:
        self._port = port
        self._number = 0xFF0

    def ask(self, words: str) -> str:
        self._number += 1
        head = f"HF1 {self._number:04x} "
        self.send(signed(head + words))
        self._port.expect_within(_ANSWER_S)
        answer = self._port.read_until(b"\n")
        said = answer[:-11].decode()
        assert answer == signed(said), answer
        assert said.startswith(head), answer
        assert len(answer) <= 160
        return said.removeprefix(head)

    def send(self, line: bytes) -> None:
        self._port.write(line)

    def is_silent(self) -> bool:
        self._port.expect_within(_SILENCE_S)
        try:
            self._port.read_until(b"\n")
        except NoAnswer:
            return True
        return False

    def fetch(self, what: str, length: int) -> bytes:
        content = b""
        while len(content) < length:
            ok, offset, chunk = self.ask(f"READ {what} {len(content)}").split(" ")
            assert (ok, int(offset), len(chunk) <= 96) == ("OK", len(content), True)
            content += bytes.fromhex(chunk)
        return content

    def csr(self) -> ParsedCsr:
        ok, length, crc = self.ask("CSR").split(" ")
        content = self.fetch("csr", int(length))
        assert (ok, int(length), crc) == ("OK", len(content), f"{zlib.crc32(content):08x}")
        return read_csr(content)

    def write(self, der: bytes) -> str:
        """Write a certificate, last piece first: any order will do; returns STORE's words."""
        for offset in reversed(range(0, len(der), 48)):
            chunk = der[offset : offset + 48]
            assert self.ask(f"WRITE {offset} {chunk.hex()}") == f"OK {offset + len(chunk)}"
        return f"{len(der)} {zlib.crc32(der):08x}"


@contextmanager
def raw(board: Board) -> Iterator[Raw]:
    with SerialPort.open(board.url) as port:
        yield Raw(port)


def walk(board: Board) -> None:
    """Go through it all with a fresh board."""
    _lines(board)
    _before_a_key(board)
    first = _first_certificate(board)
    second = _renewal(board, first)
    _torn_writes(board, second)
    _a_chip_that_fails(board)


def hello(lock: str = "locked", key: str = "none", der: bytes = b"") -> str:
    chip = "0123AB01CD02EF03EE"
    return f"OK mkrwifi1010 {chip} {lock} {key} {len(der)} {zlib.crc32(der):08x}"


def _lines(board: Board) -> None:
    good = signed("HF1 00aa HELLO")
    with raw(board) as line:
        assert line.ask("HELLO") == hello()
        for bad in (
            good.replace(b"HELLO", b"HELLP"),
            good[:-2] + b"x\n",
            good.replace(b" *", b" +"),
            signed("HF2 00aa HELLO"),
            signed("HF1 00AA HELLO"),
            signed("HF1 0aa HELLO"),
            signed("HF1 00aa"),
            b"\n\r\n*\n *00000000\n",
            b"x" * 159 + good,
            b"x" * 5000 + b"\n",
            good[:12] + b"\0" + good[12:],
        ):
            line.send(bad)
            assert line.is_silent(), bad
        line.send(good[:-1] + b"\r\n")
        assert not line.is_silent()
        for unknown in (
            "NOTHING",
            "HELLO twice",
            "READ csr",
            "READ key 0",
            "STORE 1",
            "WRITE 0 0g",
        ):
            assert line.ask(unknown) == "ERR unknown", unknown
        for number in ("READ csr x", "WRITE x 00", "WRITE 0 000", "STORE x 0", "STORE 1 xyz"):
            assert line.ask(number) == "ERR unknown", number


def _before_a_key(board: Board) -> None:
    with raw(board) as line:
        assert line.ask("READ csr 0") == "ERR no-csr"
        assert line.ask("READ cert 0") == "ERR no-cert"
        assert line.ask("STORE 1 d202ef8d") == "ERR no-key"
        assert line.ask("STORE 0 00000000") == "ERR range"
        assert line.ask("STORE 705 00000000") == "ERR range"
        assert line.ask("WRITE 704 00") == "ERR range"
        assert line.ask("WRITE 703 00") == "OK 704"
        assert line.ask("WRITE 0 " + "00" * 49) == "ERR range"
        board.chip.locked = False
        assert line.ask("HELLO") == hello("open")
        assert line.ask("CSR") == "ERR unlocked"
        board.chip.locked = True
    assert (board.chip.keys_made, board.chip.writes) == (0, 0)


def _first_certificate(board: Board) -> bytes:
    with raw(board) as line:
        asked = line.csr()
        assert line.ask("HELLO") == hello(key="pending")
        board.power_cycle()
        assert line.ask("READ csr 0") == "ERR no-csr"
        assert line.ask("HELLO") == hello(key="pending")
        again = line.csr()
        assert again.spki_sha256 == asked.spki_sha256
        length = int(line.ask("CSR").split(" ")[1])
        assert line.ask(f"READ csr {length}") == "ERR range"
        assert len(line.ask(f"READ csr {length - 1}")) == len(f"OK {length - 1} 0a")
        # Each piece counts, and so does the key.
        assert line.ask("STORE " + line.write(certify(new_key().public_key()))) == "ERR other-key"
        der = certify(asked.public_key)
        stored = line.write(der)
        assert line.ask(f"WRITE 0 {bytes([der[0] ^ 1]).hex()}") == "OK 1"
        assert line.ask(f"STORE {stored}") == "ERR checksum"
        assert line.ask(f"WRITE 0 {der[:1].hex()}") == "OK 1"
        for _ in range(2):
            assert line.ask(f"STORE {stored}") == f"OK {stored}"
        assert line.ask("STORE " + line.write(certify(asked.public_key))) == "ERR no-key"
        assert line.ask("READ csr 0") == "ERR no-csr"
        for _ in range(2):
            assert line.ask("HELLO") == hello(der=der)
            assert line.fetch("cert", len(der)) == der
            board.power_cycle()
    assert board.chip.keys_made == 1
    return der


def _renewal(board: Board, first: bytes) -> bytes:
    (kept,) = board.chip.keys.values()
    with raw(board) as line:
        asked = line.csr()
        # Until the next certificate is stored, key and certificate of the first are good.
        assert kept in board.chip.keys.values()
        assert kept.public_key() != asked.public_key
        assert line.ask("HELLO") == hello(key="pending", der=first)
        board.power_cycle()
        assert line.ask("HELLO") == hello(key="pending", der=first)
        assert line.csr().spki_sha256 == asked.spki_sha256
        second = certify(asked.public_key)
        stored = line.write(second)
        assert line.ask(f"STORE {stored}") == f"OK {stored}"
        assert line.ask("HELLO") == hello(der=second)
        third = line.csr()
        keys = [key.public_key() for key in board.chip.keys.values()]
        assert asked.public_key in keys
        assert third.public_key in keys
    assert set(board.chip.keys) == {1, 2}
    assert board.chip.keys_made == 3
    return second


def _torn_writes(board: Board, held: bytes) -> None:
    """Power that fails in a write of the state, and in one of the certificate over another."""
    with raw(board) as line:
        asked = line.csr()
        der = certify(asked.public_key)
        stored = line.write(der)
        board.chip.cut_at_write = board.chip.writes + 3
        line.send(signed(f"HF1 0001 STORE {stored}"))
        assert line.is_silent()
        assert line.ask("HELLO") == hello(key="pending")
        assert line.ask("READ cert 0") == "ERR no-cert"
        assert line.csr().spki_sha256 == asked.spki_sha256
        line.write(der)
        board.chip.cut_at_write = board.chip.writes + 6
        line.send(signed(f"HF1 0001 STORE {stored}"))
        assert line.is_silent()
        assert line.csr().spki_sha256 == asked.spki_sha256
        line.write(der)
        assert line.ask(f"STORE {stored}") == f"OK {stored}"
        # The state that says which key waits is cut short: the certificate is untouched.
        made = board.chip.keys_made
        board.chip.cut_at_write = board.chip.writes + 1
        line.send(signed("HF1 0001 CSR"))
        assert line.is_silent()
        assert line.ask("HELLO") == hello(der=der)
        line.csr()
        assert board.chip.keys_made == made + 2
        assert asked.public_key in [key.public_key() for key in board.chip.keys.values()]
    assert der != held


def _a_chip_that_fails(board: Board) -> None:
    with raw(board) as line:
        asked = line.csr()
        before = line.ask("HELLO")
        stored = line.write(certify(asked.public_key))
        board.chip.broken = True
        assert line.ask("CSR") == "ERR chip"
        assert line.ask(f"STORE {stored}") == "ERR chip"
        board.chip.broken = False
        assert line.ask("HELLO") == before
        assert line.csr().spki_sha256 == asked.spki_sha256
