"""The bench around an emulated RP2040, with programs of one instruction: switches and cables."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from simulator_support import kill_its_bench

from handfast.boards.rp2040 import EmulatedRp2040
from handfast.boards.rp2040_build import build_emulator, node_of
from handfast.boards.serial_port import SerialPort, Unplugged
from handfast.errors import BoardProblem, Refused, UsageError

FOR_EVER = b"\xfe\xe7"  # b .
TRAP = b"\x2a\xbe"  # bkpt 42
FLASH_START = 0x10000000
DEADLINE_S = 30.0


def crc32_mpeg2(octets: bytes) -> int:
    crc = 0xFFFFFFFF
    for octet in octets:
        crc ^= octet << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
    return crc


def uf2_of(folder: Path, code: bytes, *, address: int = FLASH_START) -> Path:
    """Write a UF2 file whose program is a second stage of that code."""
    stage = code.ljust(252, b"\xff")
    stage += struct.pack("<I", crc32_mpeg2(stage))
    head = struct.pack("<8I", 0x0A324655, 0x9E5D5157, 0x2000, address, 256, 0, 1, 0xE48BFF56)
    file = folder / "program.uf2"
    file.write_bytes(head + stage.ljust(476, b"\0") + struct.pack("<I", 0x0AB16F30))
    return file


def wait_until(condition: Callable[[], bool], what: str) -> None:
    give_up = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < give_up, f"waited {DEADLINE_S} s for {what}"
        time.sleep(0.02)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[EmulatedRp2040]:
    with EmulatedRp2040(directory=tmp_path / "board", network=False) as board:
        yield board


def test_the_emulator_is_made_once_with_its_node() -> None:
    emulator = build_emulator()
    assert build_emulator() == emulator
    assert node_of(emulator).is_relative_to(emulator)
    assert not (emulator / "node_modules" / "typescript").exists()


def test_a_blank_board_shows_its_drive_until_the_power_goes(board: EmulatedRp2040) -> None:
    board.power_on()
    assert board.in_bootsel
    assert "RPI-RP2" in (board.drive / "INFO_UF2.TXT").read_text()
    board.power_off()
    assert not board.drive.exists()
    with pytest.raises(UsageError, match="no clock"):
        board.power_on(rtc=1_700_000_000)


def test_a_file_copied_to_the_drive_is_run(board: EmulatedRp2040, tmp_path: Path) -> None:
    board.power_on()
    content = uf2_of(tmp_path, FOR_EVER).read_bytes()
    (board.drive / "a.uf2").write_bytes(content)
    wait_until(lambda: not board.drive.exists(), "the drive to go away")
    assert board.is_running
    board.power_cycle()
    assert not board.in_bootsel
    assert board.flash_image.read_bytes()[:2] == FOR_EVER


def test_firmware_that_is_written_by_a_programmer_leaves_the_rest_alone(
    board: EmulatedRp2040, tmp_path: Path
) -> None:
    board.power_on()  # makes the chip
    board.power_off()
    chip = bytearray(board.flash_image.read_bytes())
    chip[256:512] = b"k" * 256
    board.flash_image.write_bytes(chip)
    board.install_firmware(uf2_of(tmp_path, FOR_EVER))
    assert board.flash_image.read_bytes()[:2] == FOR_EVER
    assert board.flash_image.read_bytes()[256:512] == b"k" * 256
    board.power_on()
    assert not board.in_bootsel
    with pytest.raises(BoardProblem, match="switch it off first"):
        board.install_firmware(uf2_of(tmp_path, FOR_EVER))


def test_what_is_no_firmware_for_it_is_refused(board: EmulatedRp2040, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not fit into the 2048 KB"):
        board.install_firmware(uf2_of(tmp_path, FOR_EVER, address=FLASH_START + (2 << 20)))
    (tmp_path / "no.uf2").write_bytes(b"no")
    with pytest.raises(Refused, match="not a UF2 file"):
        board.install_firmware(tmp_path / "no.uf2")
    assert not board.flash_image.exists()


def test_the_buttons_lead_to_the_drive_and_back(board: EmulatedRp2040, tmp_path: Path) -> None:
    with pytest.raises(BoardProblem, match="switched off"):
        board.reset()
    board.install_firmware(uf2_of(tmp_path, FOR_EVER))
    board.power_on()
    board.reset_to_bootsel()
    wait_until(lambda: board.in_bootsel, "the drive")
    board.reset()
    wait_until(lambda: not board.in_bootsel, "the program")
    assert board.is_running
    with pytest.raises(BoardProblem, match="already switched on"):
        board.power_on()


def test_a_program_that_faults_ends_the_board_and_says_where(
    board: EmulatedRp2040, tmp_path: Path
) -> None:
    board.install_firmware(uf2_of(tmp_path, TRAP))
    board.power_on()
    wait_until(lambda: not board.is_running, "the fault")
    assert not board.power_was_cut
    with pytest.raises(BoardProblem, match=r"breakpoint 42 at 0x20041f00"):
        board.reset()
    with pytest.raises(BoardProblem, match="ended with status 70"):
        board.wait_for_power_cut(1)


def test_a_client_sees_the_line_go_with_a_reset_and_with_the_cable(
    board: EmulatedRp2040, tmp_path: Path
) -> None:
    board.install_firmware(uf2_of(tmp_path, FOR_EVER))
    board.power_on()
    with SerialPort.open(board.serial_url) as port:
        board.reset_to_bootsel()
        with pytest.raises(Unplugged):
            wait_until(lambda: port.receive(0.1) != b"", "a hang-up")
    board.unplug()
    with pytest.raises(BoardProblem, match="nothing answers"):
        SerialPort.open(board.serial_url)
    with pytest.raises(BoardProblem, match="unplugged"):
        board.power_on()


def test_the_board_ends_with_its_bench(tmp_path: Path) -> None:
    kill_its_bench("rp2040", tmp_path)


def test_two_boards_have_lines_and_ids_of_their_own(tmp_path: Path) -> None:
    with (
        EmulatedRp2040(directory=tmp_path / "a", network=False) as first,
        EmulatedRp2040(directory=tmp_path / "b", network=False) as second,
    ):
        assert first.serial_url != second.serial_url
        assert first.unique_id != second.unique_id
        first.power_on()
        second.power_on()
        assert first.drive != second.drive
        address = first.serial_url.removeprefix("socket://").split(":")
        with socket.create_connection((address[0], int(address[1])), DEADLINE_S) as client:
            client.settimeout(DEADLINE_S)
            assert client.recv(1) == b""  # no line in BOOTSEL mode
