"""``--handfast-flash`` on an ESP32 behind a serial server: reset by DTR and RTS, flashed, used.

The chip's model speaks its ROM loader and runs no code. What would run from its flash is a
simulated board's MicroPython here, which starts whenever the chip starts from flash.
"""

from __future__ import annotations

import os
import select
import threading
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from esp_rom_model import DEFL_DATA, ESP32, EspModel, NorFlash
from flash_support import FLASH_BYTES, esp_content
from lines_model import Rfc2217Line
from test_flash_by_name import write_board
from test_plugin_flash import run_pytest

from handfast.boards.definition import FOLDERS_VARIABLE
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard

IMAGE = esp_content(length=40_001)
OFFSET = 0x1000
_POLL_S = 0.05


class ChipWithApplication(EspModel):
    """The chip's model on one line with what it runs: who is heard, the straps at a reset decide.

    Args:
        application: a simulated board that is switched off.
        flash: the chip's.
    """

    def __init__(self, application: SimulatedBoard, flash: NorFlash) -> None:
        self._application = application
        self._line = os.open(application.serial_url, os.O_RDWR | os.O_NOCTTY)
        self._over = threading.Event()
        super().__init__(ESP32, flash, in_download_mode=False)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def reset(self, *, download: bool) -> None:
        self._application.power_off()
        super().reset(download=download)
        if not download:
            self._application.power_on()

    def receive(self, data: bytes) -> None:
        if self.download:
            super().receive(data)
            return
        while data:
            data = data[os.write(self._line, data) :]

    def _read(self) -> None:
        while not self._over.is_set():
            if select.select([self._line], [], [], _POLL_S)[0]:
                with suppress(OSError):
                    self.send(os.read(self._line, 4096))

    def close(self) -> None:
        self._over.set()
        self._reader.join()
        os.close(self._line)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "boards"))
    write_board(tmp_path / "boards", build="sim-esp32", name="desk-esp32", like="esp32")
    (tmp_path / "image.bin").write_bytes(IMAGE)
    return tmp_path


@pytest.fixture
def url(chip: ChipWithApplication, folder: Path) -> str:
    assert chip.boots
    table = tomllib.loads((folder / "handfast-bench.toml").read_text())
    return str(table["board"]["left"]["url"])


@pytest.fixture
def chip(folder: Path) -> Iterator[ChipWithApplication]:
    """A chip behind a serial server, named in the bench file."""
    with SimulatedBoard("sim-esp32", directory=folder / "board") as application:
        chip = ChipWithApplication(application, NorFlash(folder / "flash.bin", FLASH_BYTES))
        line = Rfc2217Line(chip)
        (folder / "handfast-bench.toml").write_text(
            f'[board.left]\nurl = "{line.url}"\nboard = "desk-esp32"\n'
        )
        yield chip
        line.close()
        chip.close()


OPTIONS = (
    *("--handfast-board=hardware", "--handfast-flash", "--handfast-firmware=image.bin"),
    "--junitxml=junit.xml",
)


def test_opening_its_port_leaves_the_chip_running(chip: ChipWithApplication, url: str) -> None:
    for _ in range(2):
        with SerialLink.open(url) as link:
            assert link.exec("print(6 * 7)") == "42\n"
    assert chip.boots == ["flash"]


def test_a_run_flashes_an_esp32_once_and_then_uses_it(
    folder: Path, chip: ChipWithApplication
) -> None:
    done = run_pytest(folder, *OPTIONS)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
    assert chip.flash.read(OFFSET, len(IMAGE)) == IMAGE
    assert DEFL_DATA in chip.requests
    assert "download" in chip.boots
    assert chip.boots[-1] == "flash"
    junit = (folder / "junit.xml").read_text()
    assert junit.count("flashed as desk-esp32 with image.bin") == 1
    assert "it runs MicroPython 1.26.1, build sim-esp32" in junit


def test_an_image_for_another_chip_is_not_written_and_the_board_set_aside(
    folder: Path, chip: ChipWithApplication
) -> None:
    (folder / "image.bin").write_bytes(esp_content("ESP32-S3", 40_001))
    done = run_pytest(folder, *OPTIONS)
    assert done.returncode == 1, done.stdout
    assert "is built for esp32s3, the board has esp32" in done.stdout
    assert not chip.flash.read(0, FLASH_BYTES).strip(b"\xff")
    assert "download" not in chip.boots
