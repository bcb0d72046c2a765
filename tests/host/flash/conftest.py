from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from esp_rom_model import ESP32, Chip, EspModel, Faults, NorFlash
from flash_support import FLASH_BYTES, Bench
from lines_model import PtyLine, Rfc2217Line

from handfast.boards.flash.esp import EspJob


@pytest.fixture(autouse=True)
def turn_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash beside other tests: what takes turns on one machine are the users of real drives."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "turn"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    lines: list[PtyLine | Rfc2217Line] = []

    def make(
        chip: Chip = ESP32,
        *,
        board: str = "",
        tcp: bool = False,
        native_usb: bool = False,
        faults: Faults | None = None,
        **job: object,
    ) -> Bench:
        flash = NorFlash(tmp_path / "flash.bin", FLASH_BYTES)
        model = EspModel(chip, flash, in_download_mode=not tcp, faults=faults)
        line = Rfc2217Line(model, native_usb=native_usb) if tcp else PtyLine(model, tmp_path)
        lines.append(line)
        settings = {"offset": 0x1000, "before": "default-reset" if tcp else "no-reset"}
        if not tcp:
            settings["after"] = "no-reset"
        url = line.url if isinstance(line, Rfc2217Line) else str(line.port)
        return Bench(
            model, line, EspJob(**({"url": url, "chip": board or chip.name} | settings | job))
        )

    yield make
    for line in lines:
        line.close()
