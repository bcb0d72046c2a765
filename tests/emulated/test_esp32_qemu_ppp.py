"""esp32-qemu's network by PPP, with a model of its emulator and a real slirp."""

from __future__ import annotations

from pathlib import Path

import pytest
from esp32_qemu_support import Installed, esp_image, uplink_on

from handfast.boards.esp32_qemu import Esp32QemuBoard
from handfast.boards.slirp import HOST_ADDRESS
from ppp_client_model import DialledLine


def test_it_fetches_from_this_machines_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: tuple[int, bytes]
) -> None:
    port, content = served
    firmware = tmp_path / "ESP32_GENERIC.bin"
    firmware.write_bytes(esp_image())
    emulator = Installed(tmp_path, monkeypatch)
    emulator("openeth")
    with (
        Esp32QemuBoard(directory=tmp_path / "board", firmware=firmware) as board,
        emulator.lends_uart1() as uart1,
    ):
        assert board.network == "ppp"
        for start in (board.power_on, board.reset, board.power_cycle):
            start()
            with uart1.take() as line:
                uplink, links = uplink_on(line)
                assert uplink.up()[0] == "10.0.2.15"
                assert DialledLine(line, links[-1].client).get(HOST_ADDRESS, port) == content
