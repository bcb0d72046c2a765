"""esp32-qemu in the user's own emulator, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards.esp32_qemu import Esp32QemuBoard, why_missing
from handfast.boards.serial_link import SerialLink

_BOOT_S = 60.0


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Esp32QemuBoard]:
    if reason := why_missing():
        pytest.skip(reason)
    with Esp32QemuBoard(directory=tmp_path) as board:
        yield board


def test_it_boots_keeps_its_files_and_is_who_it_is(board: Esp32QemuBoard) -> None:
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.interrupt(timeout_s=_BOOT_S)
        told = link.exec("import machine, sys\nprint(sys.platform, machine.unique_id().hex())")
        assert told.split() == ["esp32", board.unique_id.hex()]
        link.push({"/kept.bin": bytes(range(256))})
        for again in (board.reset, board.power_cycle):
            link.exec("kept = 1")
            again()
            link.interrupt(timeout_s=_BOOT_S)
            assert link.exec("print('kept' in dir())") == "False\n"
            assert link.read_file("/kept.bin") == bytes(range(256))


def test_esptool_flashes_it(board: Esp32QemuBoard) -> None:
    board.flash()
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.interrupt(timeout_s=_BOOT_S)
        assert link.exec("print(6 * 7)") == "42\n"
