"""An Arduino MKR that runs the enrolment sketch (boards/arduino-mkr): its key is in its chip.

Every request can be repeated, so each is until it is answered: what a cable loses, doubles or
makes up in between changes nothing. docs/reference/mkr-dialogue.md describes the dialogue.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from handfast.boards import mkr_lines
from handfast.boards.definition import load_board
from handfast.boards.mkr_lines import CHUNK_BYTES, LONGEST_CERTIFICATE
from handfast.boards.serial_port import NoAnswer, SerialPort
from handfast.errors import BoardProblem

_TRIES = 4
_QUICK_S = 1.0
_CHIP_S = 8.0  # a key, a hash and a signature, or 24 writes: about a second each
_LONGEST_CSR = 1024
_DEFINITION = "arduino-mkr"

_REASONS = {
    "unlocked": "its secure element is not locked. Locking is for good and is not done from here: "
    "run the ArduinoECCX08 library's example Tools/ECCX08CSR on it once, which asks first",
    "chip": "its secure element does not do what it is told: look at its supply, and try again",
    "other-key": "the certificate is not for the key that it made",
    "no-key": "it has made no key that waits for a certificate",
    "range": "the certificate does not fit into its secure element",
}

Moved = TypeVar("Moved")


class _Lost(BoardProblem):
    """The board forgot the beginning of a transfer, or got it damaged: begin it again."""


@dataclass(frozen=True, slots=True)
class MkrFacts:
    """What the board says of itself.

    Attributes:
        board: its kind, as the Arduino core names it: ``mkrwifi1010``.
        chip: the serial number of its secure element, in upper-case hex.
        locked: the chip's configuration and data zones are locked.
        pending: it has made a key that no certificate is there for yet.
        certificate_length: of the certificate that it holds, in bytes; 0 without one.
        certificate_crc: CRC-32 of that certificate's DER.
    """

    board: str
    chip: str
    locked: bool
    pending: bool
    certificate_length: int
    certificate_crc: int

    @property
    def has_tls(self) -> bool:
        """Whether the board's network can carry TLS, so that it can use its certificate itself."""
        csr = load_board(_DEFINITION).csr
        return csr is None or self.board not in csr.enrol_only


class Mkr:
    """The sketch at the other end of a serial port; a context manager that closes the port.

    Every method raises:
        NoAnswer: the board does not answer, or what it answers does not arrive whole.
        Unplugged: the line is gone. Whatever was begun can be begun again.
        BoardProblem: the board refuses; the message says why.
    """

    def __init__(self, port: SerialPort) -> None:
        self._port = port
        self._number = secrets.randbelow(0x10000)

    @classmethod
    def open(cls, url: str, *, capture: Path | None = None) -> Mkr:
        """Open the port; see :meth:`SerialPort.open` for what it takes and raises."""
        return cls(SerialPort.open(url, capture=capture))

    def close(self) -> None:
        """Close the port."""
        self._port.close()

    def __enter__(self) -> Mkr:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What the board does

    def hello(self) -> MkrFacts:
        """Ask what it is and what it holds."""
        answer = self._ask("HELLO")
        try:
            board, chip, lock, key, length, crc = answer
            return MkrFacts(
                board, chip, lock == "locked", key == "pending", int(length), int(crc, 16)
            )
        except ValueError as error:
            raise self._senseless(answer) from error

    def csr(self, progress: Callable[[float], None] = lambda _: None) -> bytes:
        """Have a key made, if none waits for a certificate, and return the request for it (PEM)."""
        return self._again(lambda: self._fetch_csr(progress))

    def certificate(self) -> bytes | None:
        """Return the certificate that the board holds (DER), or None."""
        return self._again(self._fetch_certificate)

    def store(self, der: bytes, progress: Callable[[float], None] = lambda _: None) -> None:
        """Have the board store the certificate for the key that waits for one.

        From then on that key is the board's, and the key before it is no more.
        """
        if len(der) > LONGEST_CERTIFICATE:
            raise BoardProblem(
                f"the certificate has {len(der)} bytes, the secure element of the board at "
                f"{self._port.url} holds {LONGEST_CERTIFICATE}: choose a shorter --device-id"
            )
        self._again(lambda: self._send(der, progress))

    # Transfers

    def _fetch_csr(self, progress: Callable[[float], None]) -> bytes:
        answer = self._ask("CSR", by_chip=True)
        try:
            length, crc = int(answer[0]), int(answer[1], 16)
        except (ValueError, IndexError) as error:
            raise self._senseless(answer) from error
        if not 0 < length <= _LONGEST_CSR:
            raise self._senseless(answer)
        return self._fetch("csr", length, crc, progress)

    def _fetch_certificate(self) -> bytes | None:
        facts = self.hello()
        length = facts.certificate_length
        if not 0 < length <= LONGEST_CERTIFICATE:
            return None
        return self._fetch("cert", length, facts.certificate_crc, lambda _: None)

    def _fetch(self, what: str, length: int, crc: int, tell: Callable[[float], None]) -> bytes:
        content = bytearray()
        while len(content) < length:
            tell(len(content) / length)
            answer = self._ask("READ", what, str(len(content)))
            try:
                offset, chunk = int(answer[0]), bytes.fromhex(answer[1])
            except (ValueError, IndexError) as error:
                raise self._senseless(answer) from error
            if offset != len(content) or not chunk:
                raise self._senseless(answer)
            content += chunk
        if len(content) != length or zlib.crc32(content) != crc:
            raise _Lost(f"the board at {self._port.url} sent a {what} that is not whole")
        return bytes(content)

    def _send(self, der: bytes, tell: Callable[[float], None]) -> None:
        for offset in range(0, len(der), CHUNK_BYTES):
            tell(offset / len(der))
            self._ask("WRITE", str(offset), der[offset : offset + CHUNK_BYTES].hex())
        stored = (str(len(der)), f"{zlib.crc32(der):08x}")
        if (answer := self._ask("STORE", *stored, by_chip=True)) != stored:
            raise self._senseless(answer)

    def _again(self, transfer: Callable[[], Moved]) -> Moved:
        """Begin a transfer again when the board was reset in the middle of it."""
        for _ in range(_TRIES - 1):
            try:
                return transfer()
            except _Lost:
                continue
        return transfer()

    # One request

    def _ask(self, *words: str, by_chip: bool = False) -> tuple[str, ...]:
        """Send a request until it is answered; returns the words after ``OK``."""
        for _ in range(_TRIES):
            self._number = (self._number + 1) & 0xFFFF
            # The newline before ends what the cable may have made up.
            self._port.write(b"\n" + mkr_lines.encode(self._number, *words))
            self._port.expect_within(_CHIP_S if by_chip else _QUICK_S)
            try:
                return self._answer(self._number)
            except NoAnswer:
                continue
        raise NoAnswer(
            f"the board at {self._port.url} does not answer {words[0]}: does the sketch "
            "boards/arduino-mkr/handfast_enrol run on it? If so, reset the board and try again"
        )

    def _answer(self, number: int) -> tuple[str, ...]:
        """Wait for the answer to a request; late ones to others, and noise, are passed over."""
        while True:
            line = mkr_lines.decode(self._port.read_until(b"\n"))
            if line is None:
                continue
            if line.version != mkr_lines.VERSION:
                raise BoardProblem(
                    f"the board at {self._port.url} speaks version {line.version} of the "
                    f"dialogue, this is version {mkr_lines.VERSION}: upload the sketch that came "
                    "with this handfast"
                )
            if line.id != number:
                continue
            if line.words[0] == "OK":
                return line.words[1:]
            if line.words[0] == "ERR":
                raise self._refusal(line.words[1] if len(line.words) > 1 else "")

    def _refusal(self, slug: str) -> BoardProblem:
        if slug in ("no-csr", "checksum"):
            return _Lost(f"the board at {self._port.url} was reset in the middle: try again")
        reason = _REASONS.get(slug, f"it says {slug or 'nothing'}")
        return BoardProblem(f"the board at {self._port.url} refuses: {reason}")

    def _senseless(self, answer: tuple[str, ...]) -> BoardProblem:
        return BoardProblem(
            f"the board at {self._port.url} answered {' '.join(answer)!r}, which makes no sense: "
            "upload the sketch that came with this handfast"
        )
