"""The pins of the parts that our diagrams use, by the names that Wokwi gives them.

Read in wokwi/wokwi-boards (boards/*/board.json, its key ``pins``) and in Wokwi's documentation of
wokwi-pushbutton. None of it was tried against the cloud.
"""

from __future__ import annotations


def _numbered(name: str, first: int, last: int) -> set[str]:
    return {f"{name}{number}" for number in range(first, last + 1)}


PINS: dict[str, set[str]] = {
    "board-esp32-devkit-c-v4": {
        *("3V3", "5V", "EN", "VP", "VN", "TX", "RX", "D0", "D1", "D2", "D3", "CMD", "CLK"),
        *(str(n) for n in (0, 2, 4, 5, *range(12, 20), 21, 22, 23, 25, 26, 27, *range(32, 36))),
        *_numbered("GND.", 1, 3),
    },
    "board-esp32-c3-devkitm-1": {
        *("3V3.1", "3V3.2", "5V.1", "5V.2", "RST", "TX", "RX"),
        *(str(n) for n in (*range(11), 18, 19)),
        *_numbered("GND.", 1, 10),
    },
    "board-pi-pico-w": {
        *("3V3", "3V3_EN", "VSYS", "VBUS", "ADC_VREF", "RUN", "TP4", "TP5"),
        *_numbered("GP", 0, 22),
        *_numbered("GP", 26, 28),
        *_numbered("GND.", 1, 8),
    },
    "wokwi-pushbutton": {"1.l", "1.r", "2.l", "2.r"},
}
# The two ends of the line that the API's serial monitor shows.
SERIAL_MONITOR = {"RX", "TX"}
# What a reset pin is called; pulled to ground it resets the chip.
RESET_PINS = {"board-esp32-devkit-c-v4": "EN", "board-esp32-c3-devkitm-1": "RST"}
# What Wokwi takes as firmware ("Configuring Your Project", its table of boards).
FIRMWARE_SUFFIXES = {"esp32": {".bin", ".uf2", ".elf"}, "rp2": {".hex", ".uf2", ".elf"}}
