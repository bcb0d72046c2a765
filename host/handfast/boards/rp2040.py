"""Emulated RP2040 boards: the real firmware for a Pico, in an emulator of its chip.

The emulator (boards/rp2040/emulator) is one process a board. What this module adds is what a bench
has around a board: a power switch, a reset and a BOOTSEL button, a USB cable, and a network at the
other end of its UART.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

from handfast.boards.board_uart import BoardUart
from handfast.boards.definition import load_board
from handfast.boards.flash.bootsel import INFO_FILE
from handfast.boards.flash.uf2 import read_uf2
from handfast.boards.lifeline_board import LifelineBoard
from handfast.boards.rp2040_build import BOARD, build_emulator, build_firmware, node_of
from handfast.boards.slirp import HOST_ADDRESS
from handfast.boards.sources import Progress
from handfast.boards.virtual_board import Entropy
from handfast.errors import BoardProblem, UsageError

# The address at which a program on the board finds this host's loopback.
HOST_FROM_BOARD: Final = HOST_ADDRESS

_FLASH_START = 0x10000000
_BLANK = 0xFF
_DRIVE_LABEL = "RPI-RP2"  # RP2040 data sheet 2.8.4


class UsbLine:
    """The host's end of a USB cable, as a listening socket that the emulator accepts clients on."""

    outlives_a_reset = False

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.url = f"socket://{host}:{port}"

    def fileno(self) -> int:
        """Return the listening socket's descriptor."""
        return self._listener.fileno()

    def forget(self) -> None:
        """Do nothing: without power nobody listens to a client."""

    def close(self) -> None:
        """Close the socket; who is not accepted yet is refused."""
        self._listener.close()


class EmulatedRp2040(LifelineBoard):
    """An emulated Pico and its bench; see :class:`~handfast.boards.virtual_board.VirtualBoard`.

    A new board is blank: it shows its BOOTSEL drive when it is switched on, until a UF2 file is
    copied there, or :meth:`install_firmware` has written one before. Its USB line goes away with
    each reset, as on a Pico: a link has to be opened again.

    Args:
        directory: where the flash image, the log and the drive are; made if it is not there.
        name: the board's name in messages, and what its unique id comes from; the folder's name
            by default.
        unique_id: what ``machine.unique_id()`` gives, 8 octets; from the name by default.
        entropy: what the ring oscillator's random bit gives.
        firmware: a UF2 file that a new flash chip has before its first power-on; none by default.
        network: whether the UART leads to this host's network; ``HOST_FROM_BOARD`` is the host.
        flash_time: how much of the flash chip's typical time its operations take; 1 is all of it.
        progress: is told what goes on while emulator and firmware are built.
    """

    def __init__(
        self,
        *,
        directory: Path,
        name: str | None = None,
        unique_id: bytes | None = None,
        entropy: Entropy = "host",
        firmware: Path | None = None,
        network: bool = True,
        flash_time: float = 1.0,
        progress: Progress = lambda _: None,
    ) -> None:
        self._emulator = build_emulator(progress=progress)
        self._progress = progress
        self._firmware = firmware
        self._flash_time = flash_time
        self.media = directory / "media"  # what a desktop's folder of mounted drives is
        super().__init__(
            load_board(BOARD),
            directory=directory,
            name=name,
            unique_id=unique_id,
            entropy=entropy,
            line=UsbLine(),
        )
        try:
            self._uart = BoardUart(network=network)
        except BaseException:
            super().close()
            raise
        self.network = self._uart.network

    # ---- The flash ----

    @property
    def drive(self) -> Path:
        """The folder of the BOOTSEL drive, while the board is in BOOTSEL mode."""
        return self.media / _DRIVE_LABEL

    @property
    def in_bootsel(self) -> bool:
        """Whether the board shows its BOOTSEL drive."""
        return self.is_running and (self.drive / INFO_FILE).exists()

    def install_firmware(self, uf2: Path | None = None) -> None:
        """Write firmware into the flash as a programmer does that is clipped to the chip.

        Args:
            uf2: the file; our own build by default. What the image leaves alone stays.

        Raises:
            BoardProblem: the board is switched on.
            Refused: it is no UF2 file.
            UsageError: it does not fit.
            EnvironmentProblem: our own cannot be built.
        """
        if self.is_running:
            raise BoardProblem(f"board {self.name} is switched on: switch it off first")
        file = uf2 or build_firmware(progress=self._progress)
        image = read_uf2(file.read_bytes(), source=str(file))
        size = (self.definition.flash.size_kb if self.definition.flash else 0) * 1024
        if image.start < _FLASH_START or image.end > _FLASH_START + size:
            raise UsageError(f"{file} does not fit into the {size // 1024} KB of {BOARD}'s flash")
        flash = bytearray(self.flash_image.read_bytes() if self.flash_image.exists() else b"")
        flash += bytes((_BLANK,)) * (size - len(flash))
        for address, data in image.pieces():
            flash[address - _FLASH_START : address - _FLASH_START + len(data)] = data
        self.flash_image.write_bytes(flash)

    # ---- Power ----

    def power_on(
        self, *, cut_after: int | None = None, torn: bool = True, rtc: int | None = None
    ) -> None:
        """Switch the power on; returns when the board boots.

        Args:
            cut_after: the power fails in the middle of the flash operation after that many.
            torn: False lets it fail just before that operation begins.
            rtc: only None: no battery keeps the clock of a Pico.

        Raises:
            BoardProblem: it already runs, its cable is unplugged, or it could not start.
            UsageError: a clock was asked for.
        """
        if rtc is not None:
            raise UsageError(f"board {self.name} has no clock that shows {rtc} at power-on")
        super().power_on(cut_after=cut_after, torn=torn)

    def _start(self, cut_after: int | None, torn: bool) -> None:
        if self._firmware is not None and not self.flash_image.exists():
            self.install_firmware(self._firmware)
        self._uart.drain()
        super()._start(cut_after, torn)

    def _spawn(self, lifeline: int, cut_after: int | None, torn: bool) -> subprocess.Popen[bytes]:
        node = node_of(self._emulator)
        arguments = {
            "--flash": self.flash_image,
            "--unique-id": self.unique_id.hex(),
            "--bootsel": self.drive,
            "--serial-fd": self._line.fileno(),
            "--uart-fd": self._uart.fileno(),
            "--lifeline-fd": lifeline,
            "--entropy": self.entropy,
            "--flash-time": self._flash_time,
        }
        command = [str(node), str(self._emulator / "src" / "main.js")]
        command += [str(word) for option in arguments.items() for word in option]
        if cut_after is not None:
            command += ["--cut-after", str(cut_after)]
            command += [] if torn else ["--cut-clean"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={},
                pass_fds=(self._line.fileno(), self._uart.fileno(), lifeline),
                start_new_session=True,
            )

    def _let_go(self) -> None:
        super()._let_go()
        shutil.rmtree(self.drive, ignore_errors=True)

    def _press_reset(self) -> None:
        # Whoever opens the line afterwards has that of the new start.
        self._press_and_wait(signal.SIGHUP)

    def reset_to_bootsel(self) -> None:
        """Press the reset button while BOOTSEL is held: the drive appears.

        Raises:
            BoardProblem: the board is switched off, or did not reset.
        """
        with self._switch:
            self._require_power()
            self._press_and_wait(signal.SIGUSR2)

    def close(self) -> None:
        """End the board, its serial line and its network; the flash image stays.

        Another thread may be using the board: it finds it unplugged, and starts nothing more.
        """
        super().close()
        self._uart.close()
