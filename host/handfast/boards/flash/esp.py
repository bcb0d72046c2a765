"""Flashing an ESP32: the whole image, or what a failed attempt has left to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from handfast.boards.flash.bootloader import enter_bootloader
from handfast.boards.flash.esp_image import (
    EspImage,
    chip_key,
    refuse_without_bootloader,
    refuse_wrong_chip,
)
from handfast.boards.flash.esp_loader import ROM_BAUD, After, Before, Chip, EspLoader
from handfast.errors import BoardProblem, EnvironmentProblem, Refused, UsageError

Progress = Callable[[str, float], None]

SECTOR_BYTES = 4096
# The largest erase that a flash chip has, and so the cheapest; what is verified stays verified.
SEGMENT_BYTES = 65536
_ATTEMPTS = 3  # in a row, none of which wrote anything
_BACK_WITHIN_S = 30.0
_LOOK_AGAIN_S = 0.2


@dataclass(frozen=True, slots=True)
class EspJob:
    """Where an image goes and how to get there; see :meth:`EspLoader.connect`.

    ``offset`` is where the chip looks for its bootloader (0x1000 on the ESP32 and ESP32-S2, 0 on
    later ones), a whole number of sectors. ``chip`` is the name that the board's definition gives.
    ``before`` may also be ``bootloader``: a board whose own USB carries no DTR and RTS is asked by
    MicroPython, or by 1200 baud.
    """

    url: str
    chip: str
    offset: int
    before: Before | Literal["bootloader"] = "default-reset"
    after: After = "hard-reset"
    stub: bool = True
    baudrate: int = ROM_BAUD
    erase: bool = False
    back_within_s: float = _BACK_WITHIN_S


@dataclass(frozen=True, slots=True)
class EspFlashed:
    """What was done; ``attempts`` counts connections, ``written`` and ``kept`` are bytes."""

    chip: str
    description: str
    mac: str
    written: int
    kept: int
    attempts: int
    seconds: float


def segments(offset: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield start and end, relative to ``offset``, of pieces that end where erase blocks do."""
    start = 0
    while start < length:
        end = min(
            length, (offset + start) // SEGMENT_BYTES * SEGMENT_BYTES + SEGMENT_BYTES - offset
        )
        yield start, end
        start = end


def flash_esp(
    image: EspImage, job: EspJob, *, source: str, progress: Progress = lambda *_: None
) -> EspFlashed:
    """Write ``image`` to the chip's flash, verify it there, and start it.

    Each segment is compared first, so a run after a failed one, in this process or another,
    writes only what is missing. A transfer that fails is taken up again on a new connection, up
    to three times in a row without a byte of progress.

    Args:
        image: from :func:`~handfast.boards.flash.esp_image.read_esp_image`.
        job: where it goes.
        source: what messages call the image.
        progress: told the step and how much of it is done, 0 to 1.

    Raises:
        Refused: image, chip and board do not belong together, the image does not fit, or the
            chip's security fuses are burned; nothing was written.
        BoardProblem: the chip does not answer, or does not keep what is written.
    """
    if job.offset % SECTOR_BYTES:
        raise UsageError(f"offset {job.offset:#x} is not a whole number of {SECTOR_BYTES} bytes")
    refuse_wrong_chip(image, job.chip, source=source)
    refuse_without_bootloader(image, job.offset, source=source)
    return _Run(image, job, source, progress).run()


class _Run:
    """One image on its way; what it counts outlives a connection."""

    def __init__(self, image: EspImage, job: EspJob, source: str, progress: Progress) -> None:
        self._image, self._job, self._source, self._progress = image, job, source, progress
        self._erased = not job.erase
        self._written: set[int] = set()
        self._started = time.monotonic()

    def run(self) -> EspFlashed:
        loader = self._first()
        attempts, fruitless = 1, 0
        while True:
            written_before = len(self._written)
            try:
                with loader:
                    return self._flash(loader, attempts)
            except BoardProblem:
                fruitless = 0 if len(self._written) > written_before else fruitless + 1
                if fruitless == _ATTEMPTS:
                    raise
            loader = self._connect_again()
            attempts += 1

    def _first(self) -> EspLoader:
        if self._job.before != "bootloader":
            return self._connect()
        enter_bootloader(self._job.url)
        return self._connect_again()

    def _connect(self) -> EspLoader:
        self._progress("connect", 0)
        job = self._job
        before: Before = "no-reset" if job.before == "bootloader" else job.before
        return EspLoader.connect(job.url, before=before, stub=job.stub, baudrate=job.baudrate)

    def _connect_again(self) -> EspLoader:
        """Wait for a board that was unplugged; the first connection has shown that it was there."""
        give_up = time.monotonic() + self._job.back_within_s
        while True:
            try:
                return self._connect()
            except (EnvironmentProblem, BoardProblem):
                if time.monotonic() >= give_up:
                    raise
                time.sleep(_LOOK_AGAIN_S)

    def _refuse(self, chip: Chip) -> None:
        if chip.name != chip_key(self._job.chip):
            raise Refused(
                f"the chip at {self._job.url} is {chip.description}, not {self._job.chip}: "
                "name the board that it is"
            )
        if chip.secure_boot or chip.flash_encryption:
            burned = "secure boot" if chip.secure_boot else "flash encryption"
            raise Refused(
                f"the chip at {self._job.url} has {burned} switched on for good: it would not "
                "start this image, and handfast cannot sign or encrypt one"
            )
        end = self._job.offset + len(self._image.content)
        if chip.flash_bytes is not None and end > chip.flash_bytes:
            raise Refused(
                f"{self._source} ends at {end:#x}, the flash of the chip at {self._job.url} "
                f"at {chip.flash_bytes:#x}: take an image for this board"
            )

    def _flash(self, loader: EspLoader, attempts: int) -> EspFlashed:
        chip = loader.describe()
        self._refuse(chip)
        if not self._erased:
            self._progress("erase", 0)
            loader.erase()
            self._erased = True
        content, offset = self._image.content, self._job.offset
        for start, end in segments(offset, len(content)):
            self._progress("write", start / len(content))
            if loader.write(offset + start, content[start:end]):
                self._written.add(start)
        self._progress("verify", 0)
        if not loader.holds(offset, content):
            raise BoardProblem(
                f"the flash of the chip at {self._job.url} does not hold {self._source} though "
                "each part of it was verified: it loses bits, replace the board"
            )
        loader.leave(self._job.after)
        written = sum(e - s for s, e in segments(offset, len(content)) if s in self._written)
        return EspFlashed(
            chip.name,
            chip.description,
            chip.mac,
            written,
            len(content) - written,
            attempts,
            time.monotonic() - self._started,
        )
