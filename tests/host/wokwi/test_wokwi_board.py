"""A board of Wokwi's, by the real wokwi-client against a model of its server."""

from __future__ import annotations

import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from wokwi_model import TOKEN, WokwiModel

from handfast.boards import wokwi_session
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import Unplugged
from handfast.boards.wokwi import FIRMWARE_VARIABLE, TOKEN_VARIABLE, WokwiBoard, find_token
from handfast.errors import BoardProblem, EnvironmentProblem, Refused, Unreachable, UsageError

CHIP_IDS = {"wokwi-esp32": 0, "wokwi-esp32-c3": 5}


def esp_image(chip_id: int, size: int = 8192) -> bytes:
    """An image's header as far as its chip, and something behind it (esp_image_header_t)."""
    header = struct.pack("<BBBBI", 0xE9, 1, 2, 0x20, 0) + bytes(4) + struct.pack("<H", chip_id)
    return header + b"\x5a" * (size - len(header))


@pytest.fixture
def model(tmp_path: Path) -> Iterator[WokwiModel]:
    with WokwiModel(tmp_path / "chips") as model:
        yield model


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    file = tmp_path / "ESP32_GENERIC.bin"
    file.write_bytes(esp_image(0))
    return file


@pytest.fixture
def board(model: WokwiModel, firmware: Path, tmp_path: Path) -> Iterator[WokwiBoard]:
    with WokwiBoard(
        "wokwi-esp32", directory=tmp_path, firmware=firmware, token=TOKEN, server=model.url
    ) as board:
        yield board


def test_its_serial_line_is_mpremote_s(board: WokwiBoard, model: WokwiModel) -> None:
    board.power_on()
    assert re.match(r"/dev/pts/\d+$", board.serial_url)
    content = bytes(range(256)) * 40
    with SerialLink.open(board.serial_url) as link:
        assert link.exec("print(6 * 7)") == "42\n"
        link.push({"/lib/some.bin": content})
        assert link.read_file("/lib/some.bin") == content
    commands = model.commands
    assert commands[:4] == ["file:upload", "file:upload", "sim:start", "serial-monitor:listen"]
    assert model.session.started["pause"] is True  # nothing is said before someone listens
    assert model.session.started["elf"] == model.session.started["firmware"] == "flash.bin"


def test_it_starts_from_a_whole_flash_chip_and_its_own_diagram(
    board: WokwiBoard, model: WokwiModel
) -> None:
    board.power_on()
    flash = model.session.files["flash.bin"]
    assert len(flash) == 4 << 20
    assert flash[0x1000:0x3000] == esp_image(0)
    assert set(flash[:0x1000]) == set(flash[0x3000:]) == {0xFF}
    assert model.session.files["diagram.json"].decode() == board.project.diagram


def test_what_it_says_at_its_start_is_not_lost(board: WokwiBoard) -> None:
    with SerialLink.open(board.serial_url) as link:
        board.power_on()
        said = ""
        while "MicroPython v1.26.1" not in said:
            more = link.read_console(20)
            assert more, said
            said += more


def test_a_reset_keeps_the_flash_and_loses_the_rest(board: WokwiBoard, model: WokwiModel) -> None:
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.exec("kept = 1\nopen('/kept', 'w').close()")
        board.reset()
        link.interrupt()
        assert link.exec("import os\nprint('kept' in os.listdir('/'), 'kept' in dir())") == (
            "True False\n"
        )
    assert model.session.pressed == ["reset"]


def test_a_power_cycle_gives_a_board_as_new(board: WokwiBoard, model: WokwiModel) -> None:
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.exec("open('/lost', 'w').close()")
        board.power_cycle()
        link.interrupt()
        assert link.exec("import os\nprint('lost' in os.listdir('/'))") == "False\n"
    assert len(model.sessions) == 2
    assert board.is_running
    board.power_off()
    assert not board.is_running


def test_a_pico_w_gets_its_uf2_and_is_reset_by_a_restart(tmp_path: Path) -> None:
    firmware = tmp_path / "RPI_PICO_W.uf2"
    firmware.write_bytes(b"UF2\n and more")
    with (
        WokwiModel(tmp_path / "chips", "sim-pico-w") as model,
        WokwiBoard(
            "wokwi-pico-w", directory=tmp_path, firmware=firmware, token=TOKEN, server=model.url
        ) as board,
    ):
        board.power_on()
        assert model.session.files["firmware.uf2"] == firmware.read_bytes()
        board.reset()
        with SerialLink.open(board.serial_url) as link:
            assert link.exec("import sys\nprint(sys.platform)") == "rp2\n"
        assert model.commands.count("sim:restart") == 1


def test_files_go_to_the_simulation_and_come_back(board: WokwiBoard) -> None:
    with pytest.raises(BoardProblem, match="switched off"):
        board.upload("data.bin", b"")
    board.power_on()
    board.upload("data.bin", b"\x00\xff")
    assert board.download("data.bin") == b"\x00\xff"
    with pytest.raises(BoardProblem, match=r"Wokwi refused: .*no file other"):
        board.download("other")
    assert not board.is_running  # its client hangs up at the first refusal


def test_a_board_that_nobody_reads_does_not_fill_the_memory(
    board: WokwiBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wokwi_session, "_MOST_UNREAD", 2000)
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.exec(
            "import machine, sys\nopen('/main.py', 'w').write('for i in range(2000): print(i)')"
        )
        board.reset()
        time.sleep(2)
        said = b""
        while more := link.read_console(1).encode():
            said += more
        # The kernel's buffer from the beginning, and of the rest the newest.
        assert said.rstrip().endswith((b"1999", b">>>"))
        assert len(said) < 8000
        assert link.exec("print(1)") == "1\n"


# ---- What goes wrong ----


def test_a_token_that_is_not_taken(model: WokwiModel, firmware: Path, tmp_path: Path) -> None:
    with WokwiBoard(
        directory=tmp_path, firmware=firmware, token="other", server=model.url
    ) as board:
        with pytest.raises(Refused, match="does not take the token"):
            board.power_on()
        assert not board.is_running


def test_a_server_that_is_not_there(firmware: Path, tmp_path: Path) -> None:
    with (
        WokwiBoard(
            directory=tmp_path, firmware=firmware, token=TOKEN, server="ws://127.0.0.1:9"
        ) as board,
        pytest.raises(Unreachable),
    ):
        board.power_on()


@pytest.mark.parametrize("command", ["file:upload", "sim:start", "sim:resume"])
def test_a_server_that_is_silent(
    board: WokwiBoard, model: WokwiModel, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    model.mute.add(command)
    with monkeypatch.context() as patch:
        patch.setattr(wokwi_session, "_UPLOAD_S" if command == "file:upload" else "_CALL_S", 0.5)
        with pytest.raises(Unreachable, match="did not answer within"):
            board.power_on()
    assert model.commands[-1] == command
    assert not board.is_running
    model.mute.clear()
    board.power_on()


@pytest.mark.parametrize("command", ["file:upload", "sim:start", "sim:resume"])
def test_a_simulation_that_is_refused(board: WokwiBoard, model: WokwiModel, command: str) -> None:
    model.refused[command] = "no more minutes this month"
    with pytest.raises(BoardProblem, match=r"Wokwi refused: .*no more minutes this month"):
        board.power_on()
    assert not board.is_running
    model.refused.clear()
    board.power_on()  # and the next one is not refused


def test_a_connection_that_is_lost(board: WokwiBoard, model: WokwiModel) -> None:
    board.power_on()
    model.drop()
    with SerialLink.open(board.serial_url) as link, pytest.raises(BoardProblem):
        link.interrupt(timeout_s=1)
    with pytest.raises(BoardProblem):
        board.reset()
    assert not board.is_running
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        assert link.exec("print(1)") == "1\n"


def test_a_client_sees_a_hang_up_when_it_is_closed(board: WokwiBoard) -> None:
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        link.exec("pass")
        board.close()
        with pytest.raises(Unplugged):
            link.interrupt(timeout_s=2)
    with pytest.raises(BoardProblem, match="unplugged"):
        board.power_on()


def test_a_clock_that_is_refused_is_not_asked_for_again(board: WokwiBoard) -> None:
    with pytest.raises(BoardProblem, match="neither cuts power nor sets a clock"):
        board.power_on(rtc=1_700_000_000)
    board.power_on()
    assert board.is_running


def test_it_is_switched_on_once(board: WokwiBoard) -> None:
    with pytest.raises(BoardProblem, match="switched off"):
        board.reset()
    board.power_on()
    with pytest.raises(BoardProblem, match="already switched on"):
        board.power_on()


@pytest.mark.parametrize("name", ["sim-esp32", "esp32"])
def test_another_board_is_none_of_wokwi_s(name: str, firmware: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no wokwi\.toml"):
        WokwiBoard(name, directory=tmp_path, firmware=firmware, token=TOKEN)


def test_firmware_for_another_chip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "fw.bin"
    file.write_bytes(esp_image(CHIP_IDS["wokwi-esp32-c3"]))
    with pytest.raises(Refused, match="built for esp32c3"):
        WokwiBoard("wokwi-esp32", directory=tmp_path, firmware=file, token=TOKEN)
    WokwiBoard("wokwi-esp32-c3", directory=tmp_path, firmware=file, token=TOKEN).close()


def test_the_environment_names_firmware_and_token(
    firmware: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with pytest.raises(EnvironmentProblem, match="WOKWI_CLI_TOKEN"):
        WokwiBoard(directory=tmp_path, firmware=firmware)
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert find_token() == TOKEN
    monkeypatch.setenv(FIRMWARE_VARIABLE, str(firmware))
    WokwiBoard(directory=tmp_path).close()
    monkeypatch.setenv(FIRMWARE_VARIABLE, str(firmware) + ".not")
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        WokwiBoard(directory=tmp_path)
