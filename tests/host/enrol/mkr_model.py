"""A model of an Arduino MKR with the enrolment sketch, on a PTY, with a modelled chip.

Written from docs/reference/mkr-dialogue.md, not from the sketch: the same tests run on both, so
that a rule read differently in one of them shows.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import tty
import zlib

from ecc_chip_model import EccChipModel, PowerCut

_LONGEST_LINE = 160
_CHUNK = 48
_NONE = 0xFF
_FIRST, _SECOND = 1, 2
# Written in turn: the newer whole one counts, so one that was cut short leaves the one before.
_STATE_SLOTS = (9, 14)
# Where the certificate goes, in this order: (slot, bytes).
_CERTIFICATE_SLOTS = ((8, 416), (10, 72), (11, 72), (12, 72), (13, 72))
_ROOM = sum(size for _, size in _CERTIFICATE_SLOTS)
# Of size, CRC and count in a state.
_NUMBERS = ((6, 8), (8, 12), (12, 16))
_POLL_S = 0.02


class Refuse(Exception):
    """The answer is ERR."""


class Pty:
    """Both ends of a PTY; the client's is held open, as a plugged-in board's port stays."""

    def __init__(self) -> None:
        self.master, self._client = os.openpty()
        tty.setraw(self._client)
        self.url = os.ttyname(self._client)

    def close(self) -> None:
        for handle in (self.master, self._client):
            with contextlib.suppress(OSError):
                os.close(handle)


class MkrModel:
    """A board that runs until it is closed; a context manager.

    Args:
        chip: outlives resets.
        board: the kind that it says it is.
    """

    def __init__(self, chip: EccChipModel | None = None, board: str = "mkrwifi1010") -> None:
        self.chip = chip or EccChipModel()
        self.board = board
        self._pty = Pty()
        self.url = self._pty.url
        self._stop = threading.Event()
        self._boot()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _boot(self) -> None:
        """What a reset forgets, and what the chip still knows."""
        self._csr = b""
        self._incoming = bytearray(_ROOM)
        states = [self._state_in(slot) for slot in _STATE_SLOTS]
        self._count, self._active, self._pending, length, crc = max(states)
        stored = self._read_certificate()[:length]
        self._certificate = stored if zlib.crc32(stored) == crc else b""

    def power_cycle(self) -> None:
        """Reset the board, as the reset button does: the port stays."""
        self._stop.set()
        self._thread.join()
        self._stop.clear()
        self._boot()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._pty.close()

    def __enter__(self) -> MkrModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        line, overlong = bytearray(), False
        while not self._stop.is_set():
            if not select.select([self._pty.master], [], [], _POLL_S)[0]:
                continue
            for octet in os.read(self._pty.master, 4096):
                if octet != 0x0A:
                    overlong = overlong or len(line) >= _LONGEST_LINE - 1
                    if not overlong:
                        line.append(octet)
                    continue
                try:
                    answer = b"" if overlong else self._handle(bytes(line))
                except PowerCut:
                    self._boot()
                    answer = b""
                line, overlong = bytearray(), False
                os.write(self._pty.master, answer)

    def _handle(self, line: bytes) -> bytes:
        found = re.fullmatch(rb"(HF1 ([0-9a-f]{4}) ([!-~ ]+)) \*([0-9a-f]{8})\r?", line)
        if found is None or zlib.crc32(found[1]) != int(found[4], 16):
            return b""
        word, *arguments = found[3].decode().split(" ")
        try:
            handler = getattr(self, f"_on_{word.lower()}", None)
            if handler is None:
                raise Refuse("unknown")
            said = "OK " + handler(*arguments)
        except Refuse as refusal:
            said = f"ERR {refusal}"
        except (TypeError, ValueError):
            said = "ERR unknown"
        body = b"HF1 " + found[2] + b" " + said.encode()
        return body + b" *%08x\n" % zlib.crc32(body)

    # Requests

    def _on_hello(self) -> str:
        lock = "locked" if self.chip.locked else "open"
        key = "none" if self._pending == _NONE else "pending"
        length, crc = len(self._certificate), zlib.crc32(self._certificate)
        return f"{self.board} {self.chip.serial} {lock} {key} {length} {crc:08x}"

    def _on_csr(self) -> str:
        if not self.chip.locked:
            raise Refuse("unlocked")
        if self._pending == _NONE:
            slot = _SECOND if self._active == _FIRST else _FIRST
            if self.chip.generate(slot) is None:
                raise Refuse("chip")
            self._write_state(self._active, slot, self._certificate)
        made = self.chip.csr(self._pending, self.chip.serial)
        if made is None:
            raise Refuse("chip")
        self._csr = made.encode()
        return f"{len(self._csr)} {zlib.crc32(self._csr):08x}"

    def _on_read(self, what: str, offset: str) -> str:
        at = int(offset)
        content = {"csr": self._csr, "cert": self._certificate}.get(what)
        if content is None:
            raise Refuse("unknown")
        if not content:
            raise Refuse(f"no-{what}")
        if at >= len(content):
            raise Refuse("range")
        return f"{at} {content[at:][:_CHUNK].hex()}"

    def _on_write(self, offset: str, data: str) -> str:
        chunk, at = bytes.fromhex(data), int(offset)
        if len(chunk) > _CHUNK or at + len(chunk) > _ROOM:
            raise Refuse("range")
        self._incoming[at : at + len(chunk)] = chunk
        return str(at + len(chunk))

    def _on_store(self, length: str, crc: str) -> str:
        size, wanted = int(length), int(crc, 16)
        if not 0 < size <= _ROOM:
            raise Refuse("range")
        if self._pending == _NONE:
            held = self._certificate
            if (size, wanted) != (len(held), zlib.crc32(held)):
                raise Refuse("no-key")
            return f"{size} {wanted:08x}"
        der = bytes(self._incoming[:size])
        if zlib.crc32(der) != wanted:
            raise Refuse("checksum")
        public = self.chip.public(self._pending)
        if public is None:
            raise Refuse("chip")
        if public not in der:
            raise Refuse("other-key")
        padded, at = der.ljust(_ROOM, b"\0"), 0
        for slot, room in _CERTIFICATE_SLOTS:
            if not self.chip.write(slot, padded[at : at + room]):
                raise Refuse("chip")
            at += room
        self._write_state(self._pending, _NONE, der)
        self._boot()
        return f"{size} {wanted:08x}"

    # What the chip keeps

    def _state_in(self, slot: int) -> tuple[int, int, int, int, int]:
        """Return count, key of the certificate, key that waits, the certificate's size and CRC."""
        state = self.chip.read(slot, 32) or bytes(32)
        if state[:4] != b"HFE1" or zlib.crc32(state[:28]) != int.from_bytes(state[28:], "big"):
            return 0, _NONE, _NONE, 0, 0
        length, crc, count = (int.from_bytes(state[a:b], "big") for a, b in _NUMBERS)
        return count, state[4], state[5], length, crc

    def _write_state(self, active: int, pending: int, certificate: bytes) -> None:
        count = self._count + 1
        state = b"HFE1" + bytes((active, pending)) + len(certificate).to_bytes(2, "big")
        state += zlib.crc32(certificate).to_bytes(4, "big") + count.to_bytes(4, "big") + bytes(12)
        state += zlib.crc32(state).to_bytes(4, "big")
        if not self.chip.write(_STATE_SLOTS[count % 2], state):
            raise Refuse("chip")
        self._count, self._active, self._pending = count, active, pending

    def _read_certificate(self) -> bytes:
        return b"".join(self.chip.read(slot, size) or b"" for slot, size in _CERTIFICATE_SLOTS)
