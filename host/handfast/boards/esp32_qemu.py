"""esp32-qemu: an ESP32 in the user's own ``qemu-system-xtensa``, with the user's own MicroPython.

Espressif's QEMU has the machine ``esp32`` with an Ethernet port (OpenETH), a fork of it (lcgamboa)
with Wi-Fi too; neither is in a package registry, and Debian's build has no such machine. The flash
chip and the fuses are files, the serial line a PTY, this machine's loopback is 10.0.2.2. Where
there is no Wi-Fi the network is at the far end of UART1, by PPP, as an emulated RP2040's is.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Final, Literal

from handfast.boards import slirp
from handfast.boards.board_uart import BoardUart
from handfast.boards.definition import BoardDefinition, load_board
from handfast.boards.qemu_board import HEADLESS, QemuBoard, serial_options, uart_options
from handfast.boards.virtual_board import last_line
from handfast.errors import BoardProblem, EnvironmentProblem, UsageError
from handfast.files import write_atomically

BOARD: Final = "esp32-qemu"
EMULATOR_VARIABLE: Final = "HANDFAST_QEMU_XTENSA"
FIRMWARE_VARIABLE: Final = "HANDFAST_ESP32_FIRMWARE"
NETWORK_VARIABLE: Final = "HANDFAST_ESP32_NETWORK"

# The strapping pins as GPIO_STRAP has them: GPIO0 high boots from flash, low waits for esptool
# (QEMU, hw/gpio/esp32_gpio.h; ESP32 datasheet, "Strapping Pins").
FLASH_BOOT: Final = 0x12
DOWNLOAD: Final = 0x0F

Network = Literal["wifi", "openeth", "ppp", "none"]
# What each is to QEMU; that of Wi-Fi is looked for among the models that a build lists.
_NIC_MODELS: Final[dict[Network, str]] = {"wifi": "esp32_wifi", "openeth": "open_eth"}

_EMULATOR: Final = "qemu-system-xtensa"
_ASK_S: Final = 20.0
_EFUSE_WORDS: Final = 31  # block 0 has 7, blocks 1 to 3 have 8 (ESP32 TRM, "eFuse Controller")
# ESP32 TRM: EFUSE_RD_CHIP_VER_REV1 and _REV2. MicroPython's image needs revision 1 or newer; 3 is
# what Espressif's guide to QEMU sets.
_REVISION_1: Final = (3, 1 << 15)
_REVISION_2: Final = (5, 1 << 20)


def find_emulator() -> str:
    """Return the path of a QEMU that knows an ESP32.

    Raises:
        EnvironmentProblem: there is none; the message says how to come by one.
    """
    named = os.environ.get(EMULATOR_VARIABLE) or _EMULATOR
    path = shutil.which(named)
    if path is None:
        raise EnvironmentProblem(
            f"esp32-qemu needs {named}, which is not here: take Espressif's QEMU "
            f"(github.com/espressif/qemu/releases) and set {EMULATOR_VARIABLE} to its "
            f"{_EMULATOR}"
        )
    if not re.search(r"^esp32\s", _asked(path, "-machine", "help"), re.MULTILINE):
        raise EnvironmentProblem(
            f"{path} has no machine esp32 (Debian's build has not): take Espressif's QEMU and "
            f"set {EMULATOR_VARIABLE} to its {_EMULATOR}"
        )
    return path


def find_firmware(firmware: Path | None = None) -> Path:
    """Return the user's MicroPython image for an ESP32.

    Raises:
        EnvironmentProblem: none is given.
    """
    chosen = firmware or Path(os.environ.get(FIRMWARE_VARIABLE, ""))
    if chosen == Path():
        raise EnvironmentProblem(
            "esp32-qemu needs a MicroPython image: download one from "
            f"micropython.org/download/ESP32_GENERIC and set {FIRMWARE_VARIABLE} to it"
        )
    return chosen


def find_network(emulator: str) -> Network:
    """Return the network that is set, else Wi-Fi where the emulator has it, else PPP.

    Never OpenETH, which every build of Espressif's has: MicroPython has no driver for it, and a
    board without a network would be the result. Of 1.25.0 and 1.26.1, ports/esp32: network_lan.c
    makes the chip's own MAC or one of three SPI chips, esp_eth_mac_new_openeth is nowhere;
    network_ppp.c is ``network.PPP``, which boards/sdkconfig.base switches on. Who has added a
    driver says so by the setting.

    Raises:
        UsageError: no such network is known.
        EnvironmentProblem: none is set, and there is none that MicroPython has a driver for.
    """
    asked = os.environ.get(NETWORK_VARIABLE, "")
    if asked:
        for network in ("wifi", "openeth", "ppp", "none"):
            if asked == network:
                return network
        raise UsageError(f"{NETWORK_VARIABLE} is {asked!r}: wifi, openeth, ppp or none")
    if _NIC_MODELS["wifi"] in _asked(emulator, "-machine", "esp32", "-nic", "model=help"):
        return "wifi"
    if not (reason := slirp.why_missing()):
        return "ppp"
    raise EnvironmentProblem(
        f"esp32-qemu would have no network: {emulator} has no Wi-Fi, MicroPython has no driver for "
        f"its Ethernet port, and {reason}. {NETWORK_VARIABLE}=none is a board without one, "
        "=openeth is for a MicroPython to which you have added the driver"
    )


def why_missing() -> str:
    """Say what esp32-qemu cannot run for here; "" where nothing is missing."""
    try:
        network = find_network(find_emulator())
        find_firmware()
    except EnvironmentProblem as problem:
        return str(problem)
    return slirp.why_missing() if network == "ppp" else ""


def fuses(mac: bytes) -> bytes:
    """Return the content of the chip's fuses: a chip of revision 3 with a MAC address.

    Args:
        mac: six octets, which ``machine.unique_id()`` then gives.
    """
    words = [0] * _EFUSE_WORDS
    words[1] = int.from_bytes(mac[2:], "big")
    words[2] = int.from_bytes(mac[:2], "big") | _crc8(mac) << 16
    for word, bit in (_REVISION_1, _REVISION_2):
        words[word] |= bit
    return struct.pack(f"<{_EFUSE_WORDS}I", *words)


def _crc8(mac: bytes) -> int:
    """The ROM's esp_crc8: reflected polynomial 0x8C."""
    crc = 0
    for octet in mac:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc


def emulator_arguments(
    *, flash: Path, efuse: Path, strap: int, line: int, network: Network, uart: int | None = None
) -> list[str]:
    """Return QEMU's options, its own path left out.

    Args:
        flash: the image of the flash chip.
        efuse: the image of the fuses.
        strap: of the strapping pins, :data:`FLASH_BOOT` or :data:`DOWNLOAD`.
        line: descriptor of the terminal that UART0 is on.
        network: what the board is connected by.
        uart: descriptor of the socket that UART1 is on, for PPP.
    """
    model = _NIC_MODELS.get(network)
    arguments = ["-machine", "esp32", *HEADLESS]
    arguments += ["-drive", f"file={_quoted(flash)},if=mtd,format=raw"]
    arguments += ["-drive", f"file={_quoted(efuse)},if=none,format=raw,id=efuse"]
    arguments += _global("nvram.esp32.efuse", "drive", "efuse")
    arguments += _global("esp32.gpio", "strap_mode", f"0x{strap:02x}")
    # Emulated time does not keep pace with the watchdogs of a busy machine.
    arguments += _global("timer.esp32.timg", "wdt_disable", "true")
    arguments += serial_options("line", line, 1)
    arguments += uart_options("uart", uart) if uart is not None else []
    return [*arguments, "-nic", f"user,model={model}" if model else "none"]


def _quoted(path: Path) -> str:
    return str(path).replace(",", ",,")  # QEMU's own way of quoting one


def _global(driver: str, name: str, value: str) -> list[str]:
    return ["-global", f"driver={driver},property={name},value={value}"]


def _asked(emulator: str, *question: str) -> str:
    try:
        answer = subprocess.run(
            [emulator, *question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_ASK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentProblem(f"{emulator} does not run: {error}") from error
    return answer.stdout + answer.stderr


class Esp32QemuBoard(QemuBoard):
    """An emulated ESP32 and its bench; see :class:`VirtualBoard`.

    Args:
        directory: where flash image, fuses and log are kept; made if it is not there.
        name: the board's name in messages, and what its MAC address comes from; the folder's name
            by default.
        firmware: the user's own image; else that of ``HANDFAST_ESP32_FIRMWARE``.
        network: what it is connected by; else ``HANDFAST_ESP32_NETWORK``, else as
            :func:`find_network` says. By ``ppp`` it is once it dials (boards/esp32-qemu/uplink.py).

    Raises:
        EnvironmentProblem: no emulator, no firmware, no slirp for PPP, or no network at all.
        Refused: the firmware is not an ESP32's.
    """

    def __init__(
        self,
        *,
        directory: Path,
        name: str | None = None,
        firmware: Path | None = None,
        network: Network | None = None,
    ) -> None:
        from handfast.boards.flash.flash_image import whole_flash  # esptool takes a while to import

        self._emulator = find_emulator()
        self.network: Network = network or find_network(self._emulator)
        definition = load_board(BOARD)
        self._firmware = find_firmware(firmware)
        self._flash_content = whole_flash(definition, self._firmware)
        super().__init__(definition, directory=directory, name=name)
        self.unique_id = _local_mac(self.unique_id)
        self.fuses_image = directory / "efuse.img"
        try:
            self.uart1 = BoardUart() if self.network == "ppp" else None
        except BaseException:
            super().close()
            raise

    def flash(self) -> None:
        """Write the firmware by esptool, into a chip that waits for it; the rest stays.

        Raises:
            BoardProblem: the board runs, or esptool did not come through.
        """
        from handfast.boards.flash.esp_loader import EspLoader

        with self._switch:
            if self.is_running:
                raise BoardProblem(f"board {self.name} runs: switch it off to flash it")
            self._spawn(DOWNLOAD)
            try:
                offset = _image_offset(self.definition)
                content = self._flash_content[offset:].rstrip(b"\xff")
                # The emulated chip has no reset line; what follows is another start.
                with EspLoader.connect(self.serial_url, before="no-reset", stub=False) as loader:
                    loader.write(offset, content)
                    loader.leave("no-reset")
            finally:
                self.power_off()

    def _emulator_path(self) -> str:
        return self._emulator

    def _start(self, cut_after: int | None, torn: bool) -> None:
        del torn
        if cut_after is not None or self._rtc is not None:
            raise BoardProblem(f"board {self.name}: this emulator neither cuts power nor sets time")
        if not self.flash_image.exists():
            write_atomically(self.flash_image, self._flash_content)
        self._spawn(FLASH_BOOT)

    def _spawn(self, strap: int) -> None:
        if not self.flash_image.exists():
            write_atomically(self.flash_image, b"\xff" * len(self._flash_content))
        write_atomically(self.fuses_image, fuses(self.unique_id))
        if self.uart1 is not None:
            self.uart1.drain()
        uart = self.uart1.fileno() if self.uart1 is not None else None
        arguments = emulator_arguments(
            flash=self.flash_image,
            efuse=self.fuses_image,
            strap=strap,
            line=self._master,
            network=self.network,
            uart=uart,
        )
        handles = [self._master] if uart is None else [self._master, uart]
        self._run_emulator(arguments, handles=handles)
        try:
            self._greet_emulator()
        except BoardProblem as problem:
            self.power_off()
            said = last_line(self.log)
            raise BoardProblem(f"board {self.name} did not start: {said} ({problem})") from problem

    def close(self) -> None:
        """End the board, its serial line and its network; the flash image stays."""
        super().close()
        if self.uart1 is not None:
            self.uart1.close()


def _local_mac(octets: bytes) -> bytes:
    """Return a MAC address of these octets: one card's, locally administered (IEEE 802)."""
    return bytes([octets[0] & 0xFC | 0x02]) + octets[1:6]


def _image_offset(definition: BoardDefinition) -> int:
    loader = definition.flash.loader if definition.flash else None
    return (loader.image_offset or 0) if loader else 0
