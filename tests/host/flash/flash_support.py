"""An image to flash, and a chip's model on a line to flash it to."""

from __future__ import annotations

import struct
from itertools import groupby, pairwise
from operator import itemgetter
from random import Random

from esp_rom_model import EspModel
from lines_model import PtyLine, Rfc2217Line

from handfast.boards.flash.esp import EspJob

FLASH_BYTES = 4 * 1024 * 1024
CHIP_ID = {"ESP32": 0, "ESP32-C3": 5, "ESP32-S3": 9, "ESP32-C6": 13}


def esp_content(chip: str = "ESP32", length: int = 150_001) -> bytes:
    """An image's header, then content that compresses by about a half, as firmware does."""
    header = struct.pack("<BBBBI4sHB", 0xE9, 1, 2, 0x20, 0x40080000, bytes(4), CHIP_ID[chip], 0)
    random = Random(length)  # noqa: S311 - the same octets each time
    half = random.randbytes(length)
    body = bytes(half[at] if at // 64 % 2 else 0 for at in range(length))
    at = 0x8000 - (0x1000 if chip == "ESP32" else 0)
    content = header + bytes(9) + body[24:]
    return content[:at] + b"\xaa\x50" + content[at + 2 :]


class Told(list[tuple[str, float]]):
    """What a user is told while a board is flashed."""

    def __call__(self, step: str, done: float) -> None:
        self.append((step, done))

    def steps(self) -> list[str]:
        """Return the steps, once each; what is told of each goes from 0 up, and not beyond 1."""
        steps = []
        for step, group in groupby(self, key=itemgetter(0)):
            parts = [done for _, done in group]
            assert parts[0] == 0
            assert parts[-1] <= 1
            assert all(before < after for before, after in pairwise(parts)), (step, parts)
            steps.append(step)
        return steps


class Bench:
    """A chip's model on a line, and the job that flashes it."""

    def __init__(self, model: EspModel, line: PtyLine | Rfc2217Line, job: EspJob) -> None:
        self.model, self.line, self.job = model, line, job

    def flash(self, length: int, *, offset: int = 0x1000) -> bytes:
        return self.model.flash.read(offset, length)
