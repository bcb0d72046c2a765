"""A model of qemu-system-xtensa with the machine esp32, as far as its command line shows it.

Run as a program with QEMU's options. It answers what is asked of it before a start, takes the
drives and the terminal that it is given, and speaks QMP. What runs in it depends on the strapping
pins: in download mode the model of the chip's ROM (tests/host/flash), from flash a simulated board
of ours, if the flash holds an image for an ESP32 where the chip looks for one. No instruction is
emulated: what a program of the chip's would do on UART1 a test does, which is lent the line.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT / "host"), str(ROOT / "tests" / "host" / "flash")]

# What a build knows, for tests to choose by: with Wi-Fi, with Ethernet only, with neither, or no
# ESP32 at all.
BUILD = os.environ.get("QEMU_XTENSA_MODEL_BUILD", "wifi")
_ESPRESSIF = "esp32                Espressif ESP32 machine\nsim                  sim machine\n"
MACHINES = {
    **dict.fromkeys(("wifi", "openeth", "without-nic"), _ESPRESSIF),
    "debian": "lx60                 lx60 EVB\nsim                  sim machine (default)\n",
}
NICS = {"wifi": "open_eth\nesp32_wifi\n", "openeth": "open_eth\n", "without-nic": "", "debian": ""}
FLASH_BOOT, DOWNLOAD = 0x12, 0x0F
FLASH_BYTES = {n << 20 for n in (2, 4, 8, 16)}


def options(arguments: list[str]) -> dict[str, list[str]]:
    """Return option → its values; those without one are flags."""
    found: dict[str, list[str]] = {}
    rest = iter(arguments)
    for option in rest:
        found.setdefault(option, []).append("" if option == "-nodefaults" else next(rest))
    return found


def keys(value: str) -> dict[str, str]:
    """Split ``a=b,c=d``; two commas are one in a value."""
    parts = re.split(r"(?<!,),(?!,)", value)
    return dict(part.replace(",,", ",").partition("=")[::2] for part in parts)


class Machine:
    """A machine that was started."""

    def __init__(self, given: dict[str, list[str]]) -> None:
        if given["-machine"] != ["esp32"]:
            sys.exit("unsupported machine type")
        drives = [keys(drive) for drive in given["-drive"]]
        self.flash = next(Path(drive["file"]) for drive in drives if drive["if"] == "mtd")
        efuse = next(Path(drive["file"]) for drive in drives if drive.get("id") == "efuse")
        if self.flash.stat().st_size not in FLASH_BYTES or efuse.stat().st_size != 124:
            sys.exit("qemu-system-xtensa: drive size is not supported")
        known = [keys(value) for value in given["-global"]]
        self.globals = {(one["driver"], one["property"]): one["value"] for one in known}
        if self.globals.get(("nvram.esp32.efuse", "drive")) != "efuse":
            sys.exit("the efuse drive is not attached")
        sets = {keys(value)["set"]: int(keys(value)["fd"]) for value in given["-add-fd"]}
        chardevs = {keys(value)["id"]: keys(value) for value in given["-chardev"]}
        uarts = [chardevs[serial.removeprefix("chardev:")] for serial in given["-serial"]]
        self.line = sets[uarts[0]["path"].rpartition("/")[2]]
        self.uart1 = int(uarts[1]["fd"]) if len(uarts) > 1 else None
        for nic in given["-nic"]:
            model = keys(nic).get("model", "")
            if nic != "none" and model not in NICS[BUILD].split():
                sys.exit(f"qemu-system-xtensa: Unsupported NIC model: {model}")
        self.mac = bytes.fromhex(
            (efuse.read_bytes()[8:10][::-1] + efuse.read_bytes()[4:8][::-1]).hex()
        )
        self.board: subprocess.Popen[bytes] | None = None
        self.lifeline = os.pipe()

    def run(self) -> None:
        strap = int(self.globals[("esp32.gpio", "strap_mode")], 0)
        if strap == DOWNLOAD:
            self._wait(self._loader())
        elif strap == FLASH_BOOT:
            self._boot()
            self._wait(None)

    def _loader(self) -> object:
        from esp_rom_model import ESP32, EspModel, NorFlash

        model = EspModel(
            ESP32, NorFlash(self.flash, self.flash.stat().st_size), in_download_mode=True
        )
        model.send = lambda data: os.write(self.line, data)
        return model

    def _boot(self) -> None:
        image = self.flash.read_bytes()[0x1000:0x1010]
        if image[0] != 0xE9 or image[12:14] != b"\0\0":
            os.write(self.line, b"invalid header: 0xffffffff\r\n")  # as the ROM says
            return
        self._lend_uart1()
        program = os.environ["QEMU_XTENSA_MODEL_CHIP"]
        files = self.flash.with_suffix(".filesystem")
        options = {"flash": files, "flash-kb": 2048, "heap-kb": 192, "unique-id": self.mac.hex()}
        # It ends when this process does: then nobody holds the other end of the pipe.
        options |= {"uart-fd": self.line, "lifeline-fd": self.lifeline[0]}
        listed = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        self.board = subprocess.Popen(
            [program, "--board", *listed],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(self.line, self.lifeline[0]),
        )

    def _lend_uart1(self) -> None:
        """Hand UART1 to the test that plays the program on the chip, if there is one."""
        place = os.environ.get("QEMU_XTENSA_MODEL_UART1")
        if place and self.uart1 is not None:
            with socket.socket(socket.AF_UNIX) as borrower:
                borrower.connect(place)
                socket.send_fds(borrower, [b"1"], [self.uart1])

    def _wait(self, loader: object) -> None:
        """Serve QMP, and the loader, until the pipe is closed."""
        print(json.dumps({"QMP": {"version": {}, "capabilities": []}}), flush=True)
        while True:
            watched = [0] if loader is None else [0, self.line]
            for handle in select.select(watched, [], [])[0]:
                received = os.read(handle, 65536)
                if handle == self.line:
                    loader.receive(received)  # type: ignore[attr-defined]
                    continue
                if not received:
                    self._stop()
                    return
                for command in received.splitlines():
                    self._do(json.loads(command)["execute"])

    def _do(self, command: str) -> None:
        if command == "system_reset" and self.board is not None:
            self._stop()
            self._boot()
        print(json.dumps({"return": {}}), flush=True)

    def _stop(self) -> None:
        if self.board is not None:
            self.board.kill()
            self.board.wait()


def main(arguments: list[str]) -> None:
    given = options(arguments)
    if given.get("-machine") == ["help"]:
        print("Supported machines are:\n" + MACHINES[BUILD], end="")
    elif given.get("-nic") == ["model=help"]:
        print("Available NIC models for this configuration:\n" + NICS[BUILD], end="")
    else:
        Machine(given).run()


if __name__ == "__main__":
    main(sys.argv[1:])
