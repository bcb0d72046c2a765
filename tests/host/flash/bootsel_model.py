"""A model of the drive that a Raspberry Pi chip shows in BOOTSEL mode: a folder that eats UF2.

Written from public sources only; each rule names its own:

[UF2] Microsoft, "USB Flashing Format (UF2)", github.com/microsoft/uf2
[2040] Raspberry Pi, RP2040 data sheet, 2.8.4 "USB Mass Storage Interface"
[2350] Raspberry Pi, RP2350 data sheet, 5.5 "USB mass storage interface", and erratum RP2350-E10

A real drive sees sectors; the model sees files grow, and takes each 512 octets once they are whole.
"""

from __future__ import annotations

import contextlib
import shutil
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

# [UF2] "File format"
MAGIC_0, MAGIC_1, MAGIC_END = 0x0A324655, 0x9E5D5157, 0x0AB16F30
NOT_MAIN_FLASH, FAMILY_PRESENT = 0x0001, 0x2000
BLOCK, PAYLOAD = 512, 256  # [2040] 2.8.4.2: the payload is 256 octets
ABSOLUTE = 0xE48BFF57  # [2350] 5.5.3: no chip's own; a file for E10 begins with one such block

FLASH_START, SECTOR = 0x10000000, 4096
_POLL_S = 0.005


@dataclass(frozen=True)
class Chip:
    """What INFO_UF2.TXT says ([2040] 2.8.4.1, [2350] 5.5.1) and which families are taken."""

    name: str
    label: str
    info: str
    families: frozenset[int]


RP2040 = Chip(
    "rp2040",
    "RPI-RP2",
    "UF2 Bootloader v3.0\r\nModel: Raspberry Pi RP2\r\nBoard-ID: RPI-RP2\r\n",
    frozenset({0xE48BFF56}),
)
RP2350 = Chip(
    "rp2350",
    "RP2350",
    "UF2 Bootloader v1.0\r\nModel: Raspberry Pi RP2350\r\nBoard-ID: RP2350\r\n",
    frozenset({ABSOLUTE, 0xE48BFF58, 0xE48BFF59, 0xE48BFF5A, 0xE48BFF5B}),
)


def uf2_block(number: int, count: int, family: int, data: bytes, address: int) -> bytes:
    """Return one block as [UF2] lays it out."""
    head = struct.pack(
        "<8I", MAGIC_0, MAGIC_1, FAMILY_PRESENT, address, len(data), number, count, family
    )
    return head + data.ljust(476, b"\0") + struct.pack("<I", MAGIC_END)


def uf2_file(content: bytes, family: int, *, start: int = FLASH_START, e10: bool = False) -> bytes:
    """Return ``content`` as a UF2 file; ``e10`` puts the block for that erratum in front."""
    pieces = [content[at : at + PAYLOAD] for at in range(0, len(content), PAYLOAD)]
    blocks = [
        uf2_block(
            number, len(pieces), family, piece.ljust(PAYLOAD, b"\0"), start + PAYLOAD * number
        )
        for number, piece in enumerate(pieces)
    ]
    if e10:
        blocks.insert(0, uf2_block(0, 2, ABSOLUTE, b"\xef" * PAYLOAD, 0x10FFFF00))
    return b"".join(blocks)


class BootselModel:
    """One board in BOOTSEL mode; ``restarted`` is set when it has a whole image and is gone."""

    def __init__(self, chip: Chip, root: Path, *, flash_bytes: int = 1 << 20) -> None:
        self.chip = chip
        self.folder = root / chip.label
        self.flash = bytearray(b"\xaa" * flash_bytes)  # what stood there
        self.restarted = threading.Event()
        self.ignored = 0
        self._eaten: dict[Path, int] = {}
        self._count: int | None = None
        self._seen: set[int] = set()
        self._erased: set[int] = set()
        self._stop = threading.Event()
        self.folder.mkdir(parents=True)
        (self.folder / "INFO_UF2.TXT").write_text(chip.info, newline="")
        (self.folder / "INDEX.HTM").write_text("<html></html>")
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        own = {"INFO_UF2.TXT", "INDEX.HTM"}
        while not self._stop.wait(_POLL_S) and not self.restarted.is_set():
            with contextlib.suppress(FileNotFoundError):
                for file in self.folder.iterdir():
                    if file.name not in own:
                        self._eat(file)

    def settle_at(self, octets: int, timeout_s: float = 10.0) -> None:
        """Wait until so many octets of the files have been looked at."""
        give_up = time.monotonic() + timeout_s
        while sum(self._eaten.values()) < octets:
            if time.monotonic() > give_up:
                raise TimeoutError(f"{sum(self._eaten.values())} of {octets} octets")
            time.sleep(_POLL_S)

    def _eat(self, file: Path) -> None:
        with file.open("rb") as opened:
            opened.seek(self._eaten.get(file, 0))
            while len(block := opened.read(BLOCK)) == BLOCK:
                self.take(block)
                self._eaten[file] = self._eaten.get(file, 0) + BLOCK

    def take(self, block: bytes) -> None:
        """What the boot ROM does with one sector that is written to its drive."""
        magic_0, magic_1, flags, address, size, number, count, family = struct.unpack(
            "<8I", block[:32]
        )
        end = struct.unpack("<I", block[508:])[0]
        # [UF2]: a block without its three magic numbers is no UF2; the rest of a drive's sectors.
        if (magic_0, magic_1, end) != (MAGIC_0, MAGIC_1, MAGIC_END):
            self.ignored += 1
            return
        # [2040] 2.8.4.2: not for main flash, without a family or with another's: ignored.
        if flags & NOT_MAIN_FLASH or not flags & FAMILY_PRESENT:
            self.ignored += 1
            return
        # [2350] E10: the block in front is there to be dropped.
        if family not in self.chip.families or (family == ABSOLUTE and count == 2):
            self.ignored += 1
            return
        # [2040] 2.8.4.2: 256 octets each, at a multiple of 256, inside the flash.
        offset = address - FLASH_START
        if size != PAYLOAD or offset % PAYLOAD or not 0 <= offset <= len(self.flash) - PAYLOAD:
            self.ignored += 1
            return
        # [2040] 2.8.4.2: numBlocks is the same in each; another number begins another file.
        if count != self._count:
            self._count, self._seen, self._erased = count, set(), set()
        if number >= count:
            self.ignored += 1
            return
        if number not in self._seen:
            self._program(offset, block[32 : 32 + PAYLOAD])
            self._seen.add(number)
        if len(self._seen) == count:  # [2040] 2.8.4.2: whole, in whatever order
            self._restart()

    def _program(self, offset: int, data: bytes) -> None:
        sector = offset // SECTOR
        if sector not in self._erased:
            self.flash[sector * SECTOR : (sector + 1) * SECTOR] = b"\xff" * SECTOR
            self._erased.add(sector)
        for index, octet in enumerate(data):
            self.flash[offset + index] &= octet

    def _restart(self) -> None:
        self.unplug()
        self.restarted.set()

    def unplug(self) -> None:
        """The drive goes away, whatever was written to it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
