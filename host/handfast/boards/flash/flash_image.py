"""The content of a whole ESP32 flash chip, for emulators that start from one.

MicroPython's download begins with the bootloader, which stands at another address in each chip;
what follows it, the filesystem too, is blank until MicroPython makes one.
"""

from __future__ import annotations

from pathlib import Path

from handfast.boards.definition import BoardDefinition
from handfast.boards.flash.esp_image import read_esp_image, refuse_wrong_chip
from handfast.boards.flash.esp_loader import merged_flash
from handfast.errors import EnvironmentProblem, Refused, UsageError


def whole_flash(definition: BoardDefinition, firmware: Path) -> bytes:
    """Return the chip's content with ``firmware`` at its place and 0xFF elsewhere.

    Args:
        definition: of a board whose loader is esptool's.
        firmware: the image as MicroPython publishes it, or a whole chip's content already.

    Raises:
        UsageError: the board has no flash that esptool writes.
        Refused: the file is no image, built for another chip, or larger than the flash.
        EnvironmentProblem: the file cannot be read.
    """
    flash = definition.flash
    if flash is None or flash.loader is None or flash.loader.chip is None:
        raise UsageError(f"{definition.name} has no flash that esptool writes")
    size, offset = flash.size_kb * 1024, flash.loader.image_offset or 0
    try:
        content = firmware.read_bytes()
    except OSError as error:
        raise EnvironmentProblem(f"{firmware} cannot be read: {error.strerror}") from error
    whole = len(content) == size
    image = read_esp_image(content[offset:] if whole else content, source=str(firmware))
    refuse_wrong_chip(image, flash.loader.chip, source=str(firmware))
    if whole:
        return content
    if offset + len(content) > size:
        raise Refused(f"{firmware} is larger than the flash of {definition.name}: {size >> 20} MB")
    return merged_flash(flash.loader.chip, offset, content, size)
