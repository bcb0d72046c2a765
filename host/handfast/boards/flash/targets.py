"""What a microcontroller needs to be flashed: the table that a board's ``mcu`` is looked up in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from handfast.boards.flash.esp_image import chip_key
from handfast.errors import UsageError


@dataclass(frozen=True, slots=True)
class EspTarget:
    """An Espressif chip: its bootloader, and so MicroPython's image, starts at ``offset``."""

    chip: str
    offset: int


@dataclass(frozen=True, slots=True)
class PicoTarget:
    """A Raspberry Pi chip, and the UF2 families of what may be put on it."""

    chip: str
    families: frozenset[int]


Target = EspTarget | PicoTarget

# Offsets: ESP-IDF, "Bootloader", CONFIG_BOOTLOADER_OFFSET_IN_FLASH of each chip.
_TARGETS: Final[tuple[Target, ...]] = (
    EspTarget("esp32", 0x1000),
    EspTarget("esp32s2", 0x1000),
    EspTarget("esp32s3", 0),
    EspTarget("esp32c2", 0),
    EspTarget("esp32c3", 0),
    EspTarget("esp32c5", 0x2000),
    EspTarget("esp32c6", 0),
    EspTarget("esp32h2", 0),
    EspTarget("esp32p4", 0x2000),
    PicoTarget("rp2040", frozenset({0xE48BFF56})),
    PicoTarget("rp2350", frozenset({0xE48BFF59, 0xE48BFF5A})),
)


def find_target(mcu: str) -> Target:
    """Return what the chip called ``mcu`` needs; case and hyphens do not count.

    Raises:
        UsageError: handfast cannot flash such a chip.
    """
    for target in _TARGETS:
        if target.chip == chip_key(mcu):
            return target
    known = ", ".join(target.chip for target in _TARGETS)
    raise UsageError(f"handfast cannot flash {mcu!r}; it can flash {known}")
