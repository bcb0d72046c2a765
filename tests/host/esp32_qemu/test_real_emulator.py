"""esp32-qemu in the user's own emulator, where there is one."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from esp32_qemu_support import UPLINK, skip_where_left_out

from handfast.boards import slirp
from handfast.boards.esp32_qemu import Esp32QemuBoard
from handfast.boards.serial_link import SerialLink

_BOOT_S = 60.0


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Esp32QemuBoard]:
    skip_where_left_out()
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


def test_it_reaches_this_machine_by_ppp(tmp_path: Path) -> None:
    skip_where_left_out(by_ppp=True)
    with (
        Esp32QemuBoard(directory=tmp_path, network="ppp") as board,
        socket.create_server(("127.0.0.1", 0)) as server,
        SerialLink.open(board.serial_url) as link,
    ):
        server.settimeout(_BOOT_S)
        board.power_on()
        link.interrupt(timeout_s=_BOOT_S)
        link.push({"/lib/uplink.py": UPLINK.read_bytes()})
        link.exec(f"import uplink\nuplink.up({int(_BOOT_S * 1000)})", 2 * _BOOT_S)
        place = (slirp.HOST_ADDRESS, server.getsockname()[1])
        link.exec(f"import socket\ns = socket.socket()\ns.connect({place})", _BOOT_S)
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"to the board")
            assert link.exec("print(s.recv(12))", _BOOT_S) == "b'to the board'\n"
