"""What an ESP32 image says of itself, read from its header before a port is opened."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from handfast.errors import Refused

IMAGE_MAGIC: Final = 0xE9
_HEADER_BYTES: Final = 24
# ESP-IDF, "Partition Tables": where the table is unless a build says otherwise, and how it starts.
_TABLE_OFFSET: Final = 0x8000
_TABLE_MAGIC: Final = b"\xaa\x50"

# esp_chip_id_t, ESP-IDF components/bootloader_support/include/esp_app_format.h
CHIP_IDS: Final = {
    "esp32": 0,
    "esp32s2": 2,
    "esp32c3": 5,
    "esp32s3": 9,
    "esp32c2": 12,
    "esp32c6": 13,
    "esp32h2": 16,
    "esp32p4": 18,
    "esp32c5": 23,
}


def chip_key(name: str) -> str:
    """Return a chip's name without case and punctuation: ``ESP32-C3`` → ``esp32c3``."""
    return name.lower().replace("-", "").replace("_", "")


@dataclass(frozen=True, slots=True)
class EspImage:
    """An image and the chip that it was built for; ``chip`` is None for an id that is not known."""

    content: bytes
    chip_id: int

    @property
    def chip(self) -> str | None:
        """The chip's name, as in :data:`CHIP_IDS`."""
        return next((name for name, number in CHIP_IDS.items() if number == self.chip_id), None)


def read_esp_image(content: bytes, *, source: str) -> EspImage:
    """Read the header of a bootloader or application image (ESP-IDF, "App Image Format").

    Args:
        content: the whole file; MicroPython's downloads start with the bootloader.
        source: what the message calls it.

    Raises:
        Refused: it is no image for an ESP32.
    """
    if len(content) < _HEADER_BYTES or content[0] != IMAGE_MAGIC:
        raise Refused(
            f"{source} is not an image for an ESP32 (it does not start with 0xE9): "
            "take the .bin file from micropython.org/download"
        )
    (chip_id,) = struct.unpack_from("<H", content, 12)
    return EspImage(content, chip_id)


def refuse_wrong_chip(image: EspImage, chip: str, *, source: str) -> None:
    """Refuse an image that was built for another chip than ``chip``.

    Raises:
        Refused: it was; nothing has been written.
    """
    wanted = CHIP_IDS.get(chip_key(chip))
    if wanted is None:
        raise Refused(f"{chip} is not a chip that handfast knows an image id for")
    if image.chip_id != wanted:
        built_for = image.chip or f"chip id {image.chip_id}"
        raise Refused(f"{source} is built for {built_for}, the board has {chip_key(chip)}")


def refuse_without_bootloader(image: EspImage, offset: int, *, source: str) -> None:
    """Refuse an application alone, which would be written over the bootloader at ``offset``.

    Raises:
        Refused: no partition table stands where the image should have it.
    """
    at = _TABLE_OFFSET - offset
    if image.content[at : at + len(_TABLE_MAGIC)] != _TABLE_MAGIC:
        raise Refused(
            f"{source} has no partition table at {_TABLE_OFFSET:#x}: it is an application without "
            "its bootloader (.app-bin), or made for another offset; take the .bin file"
        )
