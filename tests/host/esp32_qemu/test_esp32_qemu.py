"""esp32-qemu without its emulator: what is asked of QEMU, and what a model of it does with that."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from esp32_qemu_support import Installed, esp_image, uplink_on, with_silent_slirp

from handfast.boards.definition import load_board
from handfast.boards.esp32_qemu import (
    DOWNLOAD,
    EMULATOR_VARIABLE,
    FIRMWARE_VARIABLE,
    FLASH_BOOT,
    NETWORK_VARIABLE,
    Esp32QemuBoard,
    emulator_arguments,
    find_network,
    fuses,
    why_missing,
)
from handfast.boards.flash.flash_image import whole_flash
from handfast.boards.serial_link import SerialLink
from handfast.boards.virtual import virtual_board
from handfast.errors import BoardProblem, EnvironmentProblem, Refused, UsageError

MAC = bytes.fromhex("0211223344ff")
FLASH_BYTES = 4 << 20


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    file = tmp_path / "ESP32_GENERIC.bin"
    file.write_bytes(esp_image())
    return file


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    return Installed(tmp_path, monkeypatch)


@pytest.fixture
def board(emulator: Installed, firmware: Path, tmp_path: Path) -> Iterator[Esp32QemuBoard]:
    emulator("wifi")
    with Esp32QemuBoard(directory=tmp_path / "board, 1", firmware=firmware) as board:
        yield board


# ---- What QEMU is asked for ----


def arguments(**changes: object) -> list[str]:
    given: dict[str, object] = {
        "flash": Path("/b/flash.img"),
        "efuse": Path("/b/efuse.img"),
        "strap": FLASH_BOOT,
        "line": 7,
        "network": "none",
    }
    return emulator_arguments(**(given | changes))  # type: ignore[arg-type]


def pairs(listed: list[str]) -> set[tuple[str, str]]:
    return set(pairwise(listed))


def test_the_command_line_is_that_of_espressif_s_guide() -> None:
    given = pairs(arguments())
    assert {
        ("-machine", "esp32"),
        ("-display", "none"),
        ("-drive", "file=/b/flash.img,if=mtd,format=raw"),
        ("-drive", "file=/b/efuse.img,if=none,format=raw,id=efuse"),
        ("-global", "driver=nvram.esp32.efuse,property=drive,value=efuse"),
        ("-global", "driver=timer.esp32.timg,property=wdt_disable,value=true"),
        ("-add-fd", "fd=7,set=1"),
        ("-chardev", "serial,id=line,path=/dev/fdset/1"),
        ("-serial", "chardev:line"),
        ("-nic", "none"),
        ("-qmp", "stdio"),
    } <= given


@pytest.mark.parametrize(("strap", "value"), [(FLASH_BOOT, "0x12"), (DOWNLOAD, "0x0f")])
def test_the_strapping_pins_decide_what_it_starts(strap: int, value: str) -> None:
    straps = [one for one in arguments(strap=strap) if "strap_mode" in one]
    assert straps == [f"driver=esp32.gpio,property=strap_mode,value={value}"]


@pytest.mark.parametrize(
    ("network", "nic"),
    [
        ("wifi", "user,model=esp32_wifi"),
        ("openeth", "user,model=open_eth"),
        ("ppp", "none"),
        ("none", "none"),
    ],
)
def test_each_network_is_a_nic_or_none(network: str, nic: str) -> None:
    given = arguments(network=network)
    assert given[given.index("-nic") + 1] == nic


def test_ppp_has_the_second_uart() -> None:
    given = arguments(network="ppp", uart=9)
    assert [b for a, b in pairwise(given) if a == "-serial"] == [
        "chardev:line",
        "chardev:uart",
    ]
    assert ("-chardev", "socket,id=uart,fd=9") in pairs(given)


def test_a_comma_in_a_path_is_quoted_as_qemu_wants_it() -> None:
    assert ("-drive", "file=/a,,b/f.img,if=mtd,format=raw") in pairs(
        arguments(flash=Path("/a,b/f.img"))
    )


# ---- Fuses ----


def test_the_fuses_hold_a_mac_that_espefuse_takes() -> None:
    from espefuse.efuse.esp32.fields import EfuseMacField

    content = fuses(MAC)
    assert len(content) == 124
    words = struct.unpack("<31I", content)
    # As esptool's read_mac() has it (targets/esp32.py).
    assert struct.pack(">II", words[2], words[1])[2:] == MAC
    checked = EfuseMacField.get_and_check(MAC, words[2] >> 16 & 0xFF)
    assert checked.endswith("OK)")
    assert words[3] & 1 << 15  # revision 1 or newer
    assert words[5] & 1 << 20
    assert sum(bool(word) for word in words) == 4


# ---- The flash image ----


def test_the_image_is_the_one_that_esptool_merges(firmware: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged.bin"
    command = [sys.executable, "-m", "esptool", "--chip", "esp32", "merge-bin", "-o", str(merged)]
    subprocess.run(
        [*command, "--pad-to-size", "4MB", "0x1000", str(firmware)],
        check=True,
        capture_output=True,
        timeout=120,
    )
    content = whole_flash(load_board("esp32-qemu"), firmware)
    assert content == merged.read_bytes()
    assert len(content) == FLASH_BYTES
    assert content[0x1000 : 0x1000 + len(esp_image())] == esp_image()
    assert set(content[:0x1000]) == {0xFF}


def test_a_whole_flash_chip_is_taken_as_it_is(firmware: Path, tmp_path: Path) -> None:
    definition = load_board("esp32-qemu")
    whole = tmp_path / "whole.bin"
    whole.write_bytes(whole_flash(definition, firmware))
    assert whole_flash(definition, whole) == whole.read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (esp_image(chip_id=5), "built for esp32c3"),
        (b"UF2\n" + bytes(100), "not an image for an ESP32"),
        (esp_image(size=FLASH_BYTES - 0x1000 + 256), "larger than the flash"),
    ],
)
def test_what_is_not_for_it_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "other.bin"
    file.write_bytes(content)
    with pytest.raises(Refused, match=says):
        whole_flash(load_board("esp32-qemu"), file)


def test_a_board_without_such_a_flash_has_no_image(firmware: Path) -> None:
    with pytest.raises(UsageError, match="no flash that esptool writes"):
        whole_flash(load_board("pico-w"), firmware)


# ---- What is missing ----


def test_each_thing_that_is_missing_is_said(
    emulator: Installed,
    firmware: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = emulator("debian")
    assert "has no machine esp32" in why_missing()
    emulator("openeth")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "would have no network" in why_missing()
    with_silent_slirp(tmp_path, monkeypatch)
    assert "needs a MicroPython image" in why_missing()
    monkeypatch.setenv(FIRMWARE_VARIABLE, str(firmware))
    assert why_missing() == ""
    monkeypatch.setenv(EMULATOR_VARIABLE, str(program) + "-other")
    assert "which is not here" in why_missing()
    with pytest.raises(EnvironmentProblem, match=EMULATOR_VARIABLE):
        Esp32QemuBoard(directory=tmp_path / "b")


@pytest.mark.parametrize(
    ("build", "network"),
    [("wifi", "wifi"), ("openeth", "ppp"), ("without-nic", "ppp")],
)
def test_the_network_is_one_that_micropython_has_a_driver_for(
    emulator: Installed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: str,
    network: str,
) -> None:
    program = emulator(build)
    with_silent_slirp(tmp_path, monkeypatch)
    assert find_network(str(program)) == network


@pytest.mark.parametrize("build", ["openeth", "without-nic"])
def test_a_board_that_would_have_no_network_is_an_error_unless_one_asks_for_it(
    emulator: Installed,
    firmware: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    build: str,
) -> None:
    """OpenETH is none by default: MicroPython has no driver for it."""
    program = str(emulator(build))
    monkeypatch.setenv(FIRMWARE_VARIABLE, str(firmware))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem) as raised:
        Esp32QemuBoard(directory=tmp_path / "b")
    said = str(raised.value)
    assert why_missing() == said
    for way_out in ("apt install slirp", f"{NETWORK_VARIABLE}=none", "=openeth"):
        assert way_out in said
    for chosen in ("none", "openeth"):
        monkeypatch.setenv(NETWORK_VARIABLE, chosen)
        assert why_missing() == ""
        assert find_network(program) == chosen


def test_a_network_that_is_set_is_taken(
    emulator: Installed, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = str(emulator("wifi"))
    for network in ("wifi", "openeth", "ppp", "none"):
        monkeypatch.setenv(NETWORK_VARIABLE, network)
        assert find_network(program) == network
    monkeypatch.setenv(NETWORK_VARIABLE, "token-ring")
    with pytest.raises(UsageError, match="wifi, openeth, ppp or none"):
        find_network(program)


def test_ppp_without_slirp_is_an_error_and_not_a_board_without_a_network(
    emulator: Installed, firmware: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator("openeth")
    monkeypatch.setenv(FIRMWARE_VARIABLE, str(firmware))
    monkeypatch.setenv(NETWORK_VARIABLE, "ppp")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt install slirp" in why_missing()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(EnvironmentProblem, match="apt install slirp"):
        Esp32QemuBoard(directory=tmp_path / "b")
    assert len(list(Path("/proc/self/fd").iterdir())) == before, "its line was closed"


# ---- With a model of the emulator ----


def test_it_boots_from_flash_and_answers_on_its_line(board: Esp32QemuBoard) -> None:
    board.power_on()
    assert board.network == "wifi"
    assert board.flash_image.read_bytes() == whole_flash(board.definition, board._firmware)
    with SerialLink.open(board.serial_url) as link:
        told = link.exec("import machine, sys\nprint(sys.platform, machine.unique_id().hex())")
    assert told.split() == ["esp32", board.unique_id.hex()]
    assert board.unique_id[0] & 0x03 == 0x02  # locally administered, of one card


def test_reset_and_power_cycle_keep_the_flash(board: Esp32QemuBoard) -> None:
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        for again in (board.reset, board.power_cycle):
            link.exec("kept = 1\nopen('/kept', 'w').close()")
            again()
            link.interrupt()
            told = link.exec("import os\nprint('kept' in os.listdir('/'), 'kept' in dir())")
            assert told == "True False\n"


def test_esptool_flashes_it_in_download_mode(board: Esp32QemuBoard) -> None:
    board.flash()
    assert not board.is_running
    content = board.flash_image.read_bytes()
    assert len(content) == FLASH_BYTES
    assert content[0x1000 : 0x1000 + len(esp_image())] == esp_image()
    assert set(content[:0x1000]) == {0xFF}
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        assert link.exec("print(1)") == "1\n"
    with pytest.raises(BoardProblem, match="switch it off to flash it"):
        board.flash()


def test_a_blank_chip_does_not_boot(board: Esp32QemuBoard) -> None:
    board.flash_image.write_bytes(b"\xff" * FLASH_BYTES)
    with SerialLink.open(board.serial_url) as link:
        board.power_on()
        assert "invalid header" in link.read_console(20)


def test_an_emulator_that_does_not_start_says_why(
    emulator: Installed, firmware: Path, tmp_path: Path
) -> None:
    emulator("openeth")
    with Esp32QemuBoard(directory=tmp_path / "b", firmware=firmware, network="wifi") as board:
        with pytest.raises(BoardProblem, match="Unsupported NIC model: esp32_wifi"):
            board.power_on()
        assert not board.is_running


def test_what_it_cannot_do_is_refused(board: Esp32QemuBoard) -> None:
    with pytest.raises(BoardProblem, match="neither cuts power nor sets time"):
        board.power_on(cut_after=1)
    with pytest.raises(BoardProblem, match="switched off"):
        board.reset()


def test_it_is_a_virtual_board_as_the_others(
    emulator: Installed,
    firmware: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emulator("wifi")
    monkeypatch.setenv(FIRMWARE_VARIABLE, str(firmware))
    with virtual_board("esp32-qemu", directory=tmp_path / "b") as board:
        assert isinstance(board, Esp32QemuBoard)
        board.power_on()
        assert board.pid is not None
    assert not board.is_running
    with pytest.raises(UsageError, match="random source"):
        virtual_board("esp32-qemu", directory=tmp_path / "b", entropy="stuck")


# ---- PPP, with a slirp that carries nothing: tests/emulated has one that does ----


@pytest.fixture
def wired(
    emulator: Installed, firmware: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Esp32QemuBoard]:
    emulator("openeth")
    with_silent_slirp(tmp_path, monkeypatch)
    with Esp32QemuBoard(directory=tmp_path / "wired", firmware=firmware) as board:
        yield board


def until(happened: Callable[[], bool], within_s: float = 20.0) -> None:
    give_up = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_it_dials_at_each_start_by_its_uart(wired: Esp32QemuBoard, emulator: Installed) -> None:
    assert wired.uart1 is not None
    network = wired.uart1.network
    assert network is not None
    with emulator.lends_uart1() as uart1:
        for count, start in enumerate((wired.power_on, wired.reset, wired.power_cycle), 1):
            start()
            with uart1.take() as line:
                uplink, _ = uplink_on(line)
                assert uplink.up()[0] == "10.0.2.15"
                until(lambda expected=count: network.bring_ups == expected)
        assert network.damaged == 0


def test_what_came_while_it_was_off_is_not_there_when_it_starts(
    wired: Esp32QemuBoard, emulator: Installed
) -> None:
    assert wired.uart1 is not None
    assert wired.uart1.network is not None
    wired.uart1.network._to_board(b"stale")
    with emulator.lends_uart1() as uart1:
        wired.power_on()
        with uart1.take() as line, pytest.raises(BlockingIOError):
            line.recv(100, socket.MSG_DONTWAIT)


def test_flashing_leaves_the_network_for_the_next_start(
    wired: Esp32QemuBoard, emulator: Installed
) -> None:
    wired.flash()
    with emulator.lends_uart1() as uart1:
        wired.power_on()
        with uart1.take() as line:
            assert uplink_on(line)[0].up()[0] == "10.0.2.15"


def test_its_network_ends_with_it(wired: Esp32QemuBoard) -> None:
    assert wired.uart1 is not None
    assert wired.uart1.network is not None
    slirp = wired.uart1.network._process
    wired.power_on()
    wired.close()
    assert slirp.poll() is not None
    wired.close()
