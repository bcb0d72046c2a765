"""Boards in Wokwi's own cloud; skipped without a token. No run of these was seen yet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards.serial_link import SerialLink
from handfast.boards.wokwi import NETWORK, TOKEN_VARIABLE, WokwiBoard

pytestmark = [
    pytest.mark.skipif(not os.environ.get(TOKEN_VARIABLE), reason=f"needs {TOKEN_VARIABLE}"),
    pytest.mark.timeout(600),
]
BOARDS = ("wokwi-esp32", "wokwi-esp32-c3", "wokwi-pico-w")
_BOOT_S = 60
_JOIN_S = 60


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[WokwiBoard]:
    with WokwiBoard(request.param, directory=tmp_path) as board:
        board.power_on()
        yield board


def test_it_answers_keeps_files_and_is_reset(board: WokwiBoard) -> None:
    with SerialLink.open(board.serial_url) as link:
        link.interrupt(timeout_s=_BOOT_S)
        firmware = board.definition.firmware
        assert firmware is not None
        assert firmware.build in link.exec("import sys\nprint(sys.implementation._build)")
        link.push({"/kept.bin": bytes(range(256))})
        link.soft_reset()
        assert link.read_file("/kept.bin") == bytes(range(256))
        link.exec("kept = 1")
        board.reset()
        link.interrupt(timeout_s=_BOOT_S)
        assert link.exec("print('kept' in dir())") == "False\n"


def test_it_joins_the_network(board: WokwiBoard) -> None:
    with SerialLink.open(board.serial_url) as link:
        link.interrupt(timeout_s=_BOOT_S)
        link.exec(
            "import network, time\nw = network.WLAN(network.STA_IF)\nw.active(True)\n"
            f"w.connect({NETWORK['ssid']!r}, {NETWORK['password']!r})\n"
            f"end = time.ticks_add(time.ticks_ms(), {_JOIN_S * 1000})\n"
            "while not w.isconnected():\n"
            " assert time.ticks_diff(end, time.ticks_ms()) > 0, 'not joined'\n"
            " time.sleep_ms(200)",
            _JOIN_S + 30,
        )
        assert link.exec("print(w.ifconfig()[0])").strip() != "0.0.0.0"  # noqa: S104
