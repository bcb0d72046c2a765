"""An ESP32 in download mode: the one module that knows esptool, its Python API only.

esptool prints; its logger is replaced by one that does not.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import esptool
import serial
from esp_pylib.logger import EspLog, EspLogBase
from esptool.loader import DEFAULT_TIMEOUT
from esptool.util import FatalError, UnsupportedCommandError

from handfast.boards.flash.esp_image import chip_key
from handfast.boards.serial_port import Unplugged, open_line
from handfast.errors import BoardProblem, Refused

Before = Literal["default-reset", "usb-reset", "no-reset"]
After = Literal["hard-reset", "watchdog-reset", "no-reset"]

ROM_BAUD = 115200
_CONNECT_ATTEMPTS = 7


class TransferFailed(BoardProblem):
    """Data did not arrive, or not whole; what was verified before stays, so trying again helps."""


class _Silent(EspLogBase):  # type: ignore[misc]  # esptool has no types
    """What esptool tells people; what matters of it comes in its exceptions."""

    def print(self, *_: Any, **__: Any) -> None:
        """Drop it."""

    def set_verbosity(self, mode: int | str) -> None:
        """There is none."""

    err = warn = note = hint = debug = progress_bar = print


EspLog.set_logger(_Silent())  # one for the process, as esptool has it


@dataclass(frozen=True, slots=True)
class Chip:
    """What answered: ``name`` as in :data:`~handfast.boards.flash.esp_image.CHIP_IDS`."""

    name: str
    description: str
    mac: str
    flash_bytes: int | None
    secure_boot: bool
    flash_encryption: bool


def merged_flash(chip: str, offset: int, content: bytes, size_bytes: int) -> bytes:
    """Return what a whole flash chip holds with ``content`` at ``offset`` and 0xFF elsewhere.

    Raises:
        Refused: it does not fit, or is no image.
    """
    size = f"{size_bytes >> 20}MB"
    try:
        # The flash size in the image's header stays: esptool would change it for its own chip.
        merged = esptool.merge_bin([(offset, content)], chip, pad_to_size=size)
    except FatalError as error:
        raise Refused(f"the image does not make a flash chip of {size}: {error}") from error
    return bytes(merged)


class EspLoader:
    """An open port with a chip in download mode behind it; a context manager that closes it."""

    def __init__(self, url: str, esp: Any) -> None:
        self.url = url
        self._esp = esp

    @classmethod
    def connect(
        cls,
        url: str,
        *,
        before: Before = "default-reset",
        stub: bool = True,
        baudrate: int = ROM_BAUD,
    ) -> EspLoader:
        """Bring the chip to its ROM loader, find out which it is, and start esptool's stub there.

        Args:
            url: a device path, or ``rfc2217://host:port`` (which carries DTR and RTS).
            before: how to get there: by DTR and RTS, by the same lines of a chip's own USB, or not
                at all because it is there already (boot button held).
            stub: upload Espressif's flasher; without it the ROM does the work, more slowly.
            baudrate: for what follows the upload.

        Raises:
            BoardProblem: no such port, nothing answers there, or no chip that esptool knows.
            EnvironmentProblem: no permission, or another program holds the port.
        """
        line = open_line(url, ROM_BAUD)
        # esptool's own, for most commands: over RFC 2217 each change of it is six round trips.
        line.timeout = DEFAULT_TIMEOUT
        try:
            with _explained(url, "does not answer in download mode"):
                esp = esptool.detect_chip(
                    line, ROM_BAUD, connect_mode=before, connect_attempts=_CONNECT_ATTEMPTS
                )
        except BaseException:
            line.close()
            raise
        loader = cls(url, esp)
        try:
            with _explained(url, "does not take esptool's flasher"):
                loader._prepare(stub=stub, baudrate=baudrate)
        except BaseException:
            loader.close()
            raise
        return loader

    def _prepare(self, *, stub: bool, baudrate: int) -> None:
        if stub:
            self._esp = esptool.run_stub(self._esp)
        # Its own second attempt resets the chip without asking how: ours is the one that resumes.
        self._esp.WRITE_FLASH_ATTEMPTS = 1
        if baudrate != ROM_BAUD:
            self._esp.change_baud(baudrate)
        esptool.attach_flash(self._esp)

    @property
    def chip(self) -> str:
        """The chip's name, as in :data:`~handfast.boards.flash.esp_image.CHIP_IDS`."""
        return chip_key(self._esp.CHIP_NAME)

    @property
    def device(self) -> Any:
        """esptool's own object, for espefuse, which stands on it."""
        return self._esp

    @property
    def has_stub(self) -> bool:
        """Whether esptool's flasher runs, and not the ROM."""
        return bool(self._esp.IS_STUB)

    def describe(self) -> Chip:
        """Ask the chip what it is and what has been burned into it."""
        with _explained(self.url, "does not say what it is"):
            esp = self._esp
            size = esptool.detect_flash_size(esp)
            return Chip(
                name=self.chip,
                description=esp.get_chip_description(),
                mac=":".join(f"{octet:02x}" for octet in esp.read_mac()),
                flash_bytes=None if size is None else esptool.util.flash_size_bytes(size),
                secure_boot=bool(esp.get_secure_boot_enabled()),
                flash_encryption=bool(esp.get_flash_encryption_enabled()),
            )

    def erase(self) -> None:
        """Erase the whole flash chip.

        Raises:
            Refused: the ROM loader cannot, only esptool's flasher.
        """
        if not self.has_stub:
            raise Refused("the ROM loader cannot erase the whole flash: leave --no-stub away")
        with _explained(self.url, "did not erase its flash"):
            esptool.erase_flash(self._esp)

    def write(self, offset: int, content: bytes) -> bool:
        """Write ``content`` at ``offset`` unless it is there; both verified by the flash's MD5.

        Returns:
            Whether anything was written.

        Raises:
            TransferFailed: not all of it arrived, or the flash holds something else afterwards.
        """
        with _explained(self.url, "did not take what was written", TransferFailed):
            if self.holds(offset, content):
                return False
            esptool.write_flash(self._esp, [(offset, content)], no_progress=True)
            return True

    def holds(self, offset: int, content: bytes) -> bool:
        """Whether the flash has exactly ``content`` at ``offset``, by MD5 computed on the chip."""
        wanted = hashlib.md5(content, usedforsecurity=False).hexdigest()
        with _explained(self.url, "does not say what its flash holds"):
            return bool(self._esp.flash_md5sum(offset, len(content)) == wanted)

    def leave(self, after: After = "hard-reset") -> None:
        """Reset the chip into what was written, or let it stay."""
        with _explained(self.url, "was not reset"):
            esptool.reset_chip(self._esp, after)

    def close(self) -> None:
        """Close the port; a second call does nothing."""
        with contextlib.suppress(OSError):
            self._esp._port.close()

    def __enter__(self) -> EspLoader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@contextlib.contextmanager
def _explained(url: str, what: str, failure: type[BoardProblem] = BoardProblem) -> Iterator[None]:
    """Turn what esptool and pyserial raise into our errors, each with what to do next."""
    try:
        yield
    except (FatalError, UnsupportedCommandError) as error:
        said = str(error).strip().splitlines()
        raise failure(
            f"the chip at {url} {what} ({said[0] if said else error}): check the cable, "
            "hold its BOOT button while you press reset, and try again"
        ) from error
    except (serial.SerialException, OSError) as error:
        raise Unplugged(f"the line to {url} is gone ({error}): plug the board in again") from error
