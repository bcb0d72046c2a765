"""Flashing a board as its board.toml says: which loader, which chip, where to, which image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from handfast.boards.definition import BoardDefinition, BootloaderEntry, Loader
from handfast.boards.flash.firmware import Firmware, fetch_firmware, local_firmware
from handfast.errors import Refused, UsageError

if TYPE_CHECKING:
    from handfast.boards.flash.esp import EspFlashed
    from handfast.boards.flash.esp_loader import After, Before
    from handfast.boards.flash.pico import PicoFlashed

Progress = Callable[[str, float], None]
Way = Literal["bootloader"]

_BEFORE: Final[dict[BootloaderEntry, Before | Way]] = {
    "dtr_rts": "default-reset",
    "repl": "bootloader",
    "1200_baud": "bootloader",
    "button": "no-reset",
}
_FAST_BAUD: Final = 460800


@dataclass(frozen=True, slots=True)
class Options:
    """How to get at a board; what is None or left out, its definition says.

    ``before``, ``after``, ``stub``, ``baudrate`` and ``erase`` are for esptool
    (:class:`~handfast.boards.flash.esp.EspJob`), ``drive`` and ``picotool`` for a UF2 drive
    (:class:`~handfast.boards.flash.pico.PicoJob`).
    """

    before: Before | Way | None = None
    after: After = "hard-reset"
    stub: bool = True
    baudrate: int = _FAST_BAUD
    erase: bool = False
    drive: Path | None = None
    picotool: bool = False


def firmware_for(
    board: BoardDefinition,
    *,
    file: Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
    progress: Progress = lambda *_: None,
) -> Firmware:
    """Return the image for a board: a file that the user has, one from ``url``, or its own.

    Its own is the one that its board.toml names, from the cache or downloaded into it.

    Raises:
        UsageError: the definition names none.
        HandfastError: see :mod:`handfast.boards.flash.firmware`.
    """
    if file is not None:
        return local_firmware(file, sha256=sha256)
    if url is not None:
        return fetch_firmware(url, sha256=sha256, progress=progress)
    published = board.firmware
    if published is None or published.url is None:
        raise UsageError(f"{board.file} names no image to download: give --firmware or --url")
    return fetch_firmware(published.url, sha256=sha256 or published.sha256, progress=progress)


def flash_board(
    board: BoardDefinition,
    image: Firmware,
    *,
    port: str | None,
    options: Options = Options(),
    progress: Progress = lambda *_: None,
) -> EspFlashed | PicoFlashed:
    """Write ``image`` to the board by the loader that its definition names.

    Args:
        board: what it is.
        image: from :func:`firmware_for`.
        port: its serial port; None for a board whose BOOTSEL drive is mounted already.
        options: how to get at it.
        progress: told the step and how much of it is done, 0 to 1.

    Raises:
        UsageError: the board is not on the desk (simulated), or an option is not for its loader.
        Refused: its loader is none of handfast's, or image and board do not belong together.
        HandfastError: see :func:`~handfast.boards.flash.esp.flash_esp` and
            :func:`~handfast.boards.flash.pico.flash_pico`.
    """
    loader = loader_of(board)
    if loader.kind == "esptool":
        return _by_esptool(loader, image, port, options, progress)
    return _by_uf2(board, loader, image, port, options, progress)


def loader_of(board: BoardDefinition) -> Loader:
    """Return what writes a board's flash, where that is something that handfast can do.

    Raises:
        UsageError: nothing does: the board is simulated or emulated.
        Refused: handfast does not speak its protocol; the message says what does.
    """
    loader = board.flash.loader if board.flash is not None else None
    if loader is None and board.csr is not None:
        sketch = board.folder / board.csr.sketch
        raise Refused(f"{board.name} runs a sketch: upload {sketch} by Arduino's own tools")
    if loader is None:
        raise UsageError(f"{board.name} is a {board.kind} board: there is nothing to flash")
    if loader.kind == "dfu":
        raise Refused(_by_hand(board, loader))
    return loader


def _by_hand(board: BoardDefinition, loader: Loader) -> str:
    image = board.firmware.url if board.firmware is not None else None
    ids = board.usb.bootloader_ids if board.usb is not None else ()
    device = f" -d {ids[0][0]:04x}:{ids[0][1]:04x}" if ids else ""
    ways = {
        "repl": "machine.bootloader()",
        "1200_baud": "opening its port at 1200 baud",
        "button": "its reset button",
        "dtr_rts": "DTR and RTS",
    }
    return (
        f"{board.name} is flashed by USB DFU, which handfast does not speak: bring it into its "
        f"bootloader ({' or '.join(ways[way] for way in loader.entry)}) and run "
        f"`dfu-util{device} -R -D FILE`" + (f" with {image}" if image else "")
    )


def _by_esptool(
    loader: Loader, image: Firmware, port: str | None, options: Options, progress: Progress
) -> EspFlashed:
    from handfast.boards.flash.esp import EspJob, flash_esp
    from handfast.boards.flash.esp_image import read_esp_image

    if options.drive is not None or options.picotool:
        raise UsageError("--drive and --picotool are for boards with a UF2 bootloader")
    if port is None:
        raise UsageError("an ESP32 is flashed over its serial port: give --port")
    if loader.chip is None or loader.image_offset is None:  # the schema has seen to it
        raise UsageError("the board's definition has no chip or no image_offset")
    job = EspJob(
        port,
        loader.chip,
        loader.image_offset,
        before=options.before or _BEFORE[loader.entry[0]],
        after=options.after,
        stub=options.stub,
        baudrate=options.baudrate,
        erase=options.erase,
    )
    source = str(image.path)
    content = read_esp_image(image.path.read_bytes(), source=source)
    return flash_esp(content, job, source=source, progress=progress)


def _by_uf2(
    board: BoardDefinition,
    loader: Loader,
    image: Firmware,
    port: str | None,
    options: Options,
    progress: Progress,
) -> PicoFlashed:
    from handfast.boards.flash.pico import PicoJob, flash_pico
    from handfast.boards.flash.uf2 import read_uf2

    if options.erase:
        raise UsageError("--erase is for an ESP32; a Pico takes flash_nuke.uf2 as its --firmware")
    job = PicoJob(
        board.mcu,
        frozenset(loader.uf2_family_ids),
        loader.uf2_board_id or "",
        url=port,
        drive=options.drive,
        way="picotool" if options.picotool else "auto",
    )
    source = str(image.path)
    content = read_uf2(image.path.read_bytes(), source=source)
    return flash_pico(content, job, source=source, progress=progress)
