"""Boards on serial ports: found by USB ids, known by what they say, named so that it lasts."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import list_ports_model as usb
import pytest
from cable import CutCable, SerialServer
from click.testing import CliRunner

from handfast.boards import local_ports as local_ports_module
from handfast.boards.definition import BoardDefinition, load_board, load_boards
from handfast.boards.discovery import Port, find, place, recognise, scan, stable_name
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import SerialPort
from handfast.boards.simulator import SimulatedBoard
from handfast.cli import handfast
from handfast.cli.provision import serial_url
from handfast.errors import BoardProblem

BOARDS = load_boards()
PICO_ID = bytes.fromhex("e6614c311b7e6f35")
PICO = "sim-pico-w@E6614C311B7E6F35"


# Pure: what USB ids and builds say


@pytest.mark.parametrize(
    ("row", "state", "candidates"),
    [
        (usb.rp2("/dev/ttyACM0", PICO_ID), "listed", {"pico", "pico-w", "pico2-w"}),
        (
            usb.cp210x("/dev/ttyUSB0"),
            "listed",
            {"esp32", "esp32-s3", "esp32-c3", "esp32-c6"},
        ),
        # Both a running C3 or C6 and an S3 that waits for esptool: it has to be asked.
        (usb.serial_jtag("/dev/ttyACM1"), "listed", {"esp32-c3", "esp32-c6"}),
        (usb.port_info("/dev/ttyACM2", (0x2341, 0x056B)), "listed", {"arduino-nano-esp32"}),
        (usb.port_info("/dev/ttyACM3", (0x2341, 0x0070)), "bootloader", {"arduino-nano-esp32"}),
        (usb.port_info("/dev/ttyACM4", (0x2341, 0x8054)), "csr", {"arduino-mkr"}),
        (usb.port_info("/dev/ttyACM5", (0x2341, 0x0059)), "bootloader", {"arduino-mkr"}),
        (usb.modem("/dev/ttyUSB1"), "foreign", set()),
        (usb.console("/dev/pts/7"), "listed", set()),
    ],
)
def test_usb_ids_say_which_boards_a_port_may_be(row: Any, state: str, candidates: set[str]) -> None:
    found = place(Port.of(row), BOARDS)
    assert (found.state, set(found.candidates)) == (state, candidates)
    assert (found.problem is None) == (state == "listed")


@pytest.mark.parametrize(
    ("build", "board"),
    [
        ("RPI_PICO", "pico"),
        ("RPI_PICO_W", "pico-w"),
        ("RPI_PICO2_W-RISCV", "pico2-w"),
        ("ESP32_GENERIC-SPIRAM", "esp32"),
        ("ESP32_GENERIC_S3", "esp32-s3"),
        ("sim-pico-w", "sim-pico-w"),
        ("RPI_PICO2", None),
        ("ESP32", None),
        ("", None),
    ],
)
def test_a_build_is_known_with_its_variants_and_no_other(build: str, board: str | None) -> None:
    assert recognise(build, BOARDS) == board


def test_a_definition_of_a_variant_comes_before_its_boards() -> None:
    variant = _as_build(load_board("esp32"), "ESP32_GENERIC-SPIRAM", name="esp32-spiram")
    boards = [*BOARDS, variant]
    assert recognise("ESP32_GENERIC-SPIRAM", boards) == "esp32-spiram"
    assert recognise("ESP32_GENERIC-OTA", boards) == "esp32"


def test_no_two_boards_claim_the_same_build() -> None:
    """An emulated board may run what a real one does: that one is meant, then."""
    desk = [board for board in BOARDS if board.kind == "hardware"]
    builds = [board.firmware.build for board in desk if board.firmware is not None]
    assert len(set(builds)) == len(builds) == len(desk) - 1  # an MKR has none


def _as_build(board: BoardDefinition, build: str, **changes: Any) -> BoardDefinition:
    assert board.firmware is not None
    firmware = dataclasses.replace(board.firmware, build=build)
    return dataclasses.replace(board, firmware=firmware, **changes)


# With boards


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., SimulatedBoard]]:
    started: list[SimulatedBoard] = []

    def run(profile: str = "sim-pico-w", unique_id: bytes = PICO_ID) -> SimulatedBoard:
        folder = tmp_path / f"board-{len(started)}"
        started.append(SimulatedBoard(profile, directory=folder, unique_id=unique_id))
        started[-1].power_on()
        return started[-1]

    yield run
    for board in started:
        board.close()


def test_boards_get_names_that_survive_another_port_and_another_order(
    start: Callable[..., SimulatedBoard],
) -> None:
    pico, esp32 = start(), start("sim-esp32", bytes.fromhex("a1b2c3d4e5f6"))
    first = scan([Port(pico.serial_url), Port(esp32.serial_url)], BOARDS)
    assert [found.name for found in first] == [PICO, "sim-esp32@A1B2C3D4E5F6"]
    assert {found.micropython for found in first} == {"1.26.1"}
    with CutCable(pico.serial_url) as cable:
        again = scan([Port(esp32.serial_url), Port(cable.url)], BOARDS)
    assert cable.url != pico.serial_url
    assert [found.name for found in again] == ["sim-esp32@A1B2C3D4E5F6", PICO]


@pytest.mark.parametrize("kind", ["socket", "rfc2217"])
def test_a_board_behind_a_serial_server_has_the_same_name(
    start: Callable[..., SimulatedBoard], kind: str
) -> None:
    with SerialServer(start().serial_url, kind) as server:
        (found,) = scan([Port(server.url)], BOARDS)
    assert (found.state, found.name) == ("found", PICO), found.problem


def test_an_application_is_interrupted_for_the_question_and_started_again(
    start: Callable[..., SimulatedBoard],
) -> None:
    board = start()
    main = b"import time\nwhile True:\n print('alive')\n time.sleep_ms(5)\n"
    with SerialLink.open(board.serial_url) as link:
        link.push({"/main.py": main, "/mtls/config.json": b'{"device_id": "greenhouse-1"}'})
        link.start_application().close()
    (found,) = scan([Port(board.serial_url)], BOARDS)
    assert (found.name, found.device_id) == (PICO, "greenhouse-1")
    with SerialPort.open(board.serial_url) as port:
        port.expect_within(20)
        port.read_until(b"alive")


def test_a_silent_port_costs_its_deadline_and_no_other_board_waits_for_it(
    start: Callable[..., SimulatedBoard],
) -> None:
    board = start()
    master, client = os.openpty()
    silent = os.ttyname(client)
    try:
        began = time.monotonic()
        ports = [Port(silent), Port(board.serial_url), Port(silent + "0000")]
        found = scan(ports, BOARDS, timeout_s=0.5)
        assert time.monotonic() - began < 30  # not the minutes of a port that is waited on
    finally:
        os.close(master)
        os.close(client)
    assert [one.state for one in found] == ["silent", "found", "failed"]
    assert "does not give a MicroPython prompt within 0.5 s" in (found[0].problem or "")
    assert "there is no board at" in (found[2].problem or "")


def test_a_port_in_use_is_left_alone(start: Callable[..., SimulatedBoard]) -> None:
    board = start()
    with SerialLink.open(board.serial_url) as link:
        link.exec("kept = 7")
        (found,) = scan([Port(board.serial_url)], BOARDS)
        assert (found.state, found.name) == ("busy", None)
        assert "another program holds" in (found.problem or "")
        assert link.exec("print(kept)") == "7\n"


def test_ports_that_are_no_boards_are_not_opened(start: Callable[..., SimulatedBoard]) -> None:
    board = start()
    ports = [
        Port.of(usb.modem(board.serial_url)),
        Port.of(usb.port_info(board.serial_url, (0x2341, 0x0070))),
    ]
    # A bootloader and a foreigner on the line of a real board: asked, it would have answered.
    assert [found.state for found in scan(ports, BOARDS)] == ["foreign", "bootloader"]


def test_a_build_without_a_definition_is_said_with_what_to_do(
    start: Callable[..., SimulatedBoard],
) -> None:
    others = [board for board in BOARDS if board.name != "sim-pico-w"]
    (found,) = scan([Port(start().serial_url)], others)
    assert (found.state, found.name, found.build) == ("unknown", None, "sim-pico-w")
    assert "add-a-board.md" in (found.problem or "")


def test_a_board_is_found_by_name_and_the_one_that_shows_its_id_is_asked_alone(
    start: Callable[..., SimulatedBoard],
) -> None:
    wanted, other = start(), start(unique_id=bytes(8))
    with SerialLink.open(other.serial_url) as link:
        link.exec("kept = 7")
    rows = [usb.rp2(other.serial_url, bytes(8)), usb.rp2(wanted.serial_url, PICO_ID)]
    port = find(PICO.replace("E66", "e66"), map(Port.of, rows), BOARDS)
    assert port.url == wanted.serial_url
    with SerialLink.open(other.serial_url) as link:
        assert link.exec("print(kept)") == "7\n"  # a question would have reset it


def test_a_board_behind_a_bridge_is_found_among_the_others(
    start: Callable[..., SimulatedBoard],
) -> None:
    wanted, other = start(), start(unique_id=bytes(8))
    rows = [usb.ch340(other.serial_url), usb.cp210x(wanted.serial_url)]
    assert find(PICO, map(Port.of, rows), BOARDS).url == wanted.serial_url


def test_a_missing_board_is_said_with_those_that_are_there(
    start: Callable[..., SimulatedBoard],
) -> None:
    board = start()
    with pytest.raises(BoardProblem, match=rf"no board pico-w@FF: .*{PICO} at {board.serial_url}"):
        find("pico-w@ff", [Port.of(usb.ch340(board.serial_url))], BOARDS)


# The command


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    rows: list[Any] = []
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(local_ports_module.list_ports, "comports", lambda: rows)
    return rows


def test_scan_prints_a_table_of_what_is_plugged_in(
    start: Callable[..., SimulatedBoard], plugged: list[Any]
) -> None:
    board = start()
    plugged += [
        usb.modem("/dev/ttyUSB9"),
        usb.rp2(board.serial_url, PICO_ID),
        usb.console("/dev/ttyAMA0"),
    ]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(handfast, ["board", "scan"])
    assert shown.exit_code == 0, shown.output
    (row,) = (line for line in shown.output.splitlines() if PICO in line)
    for part in (board.serial_url, "2e8a:0005", "1.26.1", "found"):
        assert part in row
    assert "/dev/ttyUSB9: no board.toml has its USB ids: not asked" in shown.output
    assert "ttyAMA0" not in shown.output


def test_scan_as_json(start: Callable[..., SimulatedBoard], plugged: list[Any]) -> None:
    board = start()
    plugged.append(usb.rp2(board.serial_url, PICO_ID))
    shown = CliRunner().invoke(handfast, ["board", "scan", "--json"])
    (found,) = json.loads(shown.stdout)["ports"]
    assert found == {
        "port": board.serial_url,
        "usb": "2e8a:0005",
        "usb_serial": "E6614C311B7E6F35",
        "state": "found",
        "candidates": ["pico", "pico-w", "pico2-w"],
        "board": "sim-pico-w",
        "name": PICO,
        "build": "sim-pico-w",
        "micropython": "1.26.1",
        "device_id": None,
        "problem": None,
    }


def test_scan_asks_only_the_port_that_is_named(plugged: list[Any]) -> None:
    plugged.append(usb.cp210x("/dev/ttyUSB0"))
    command = ["board", "scan", "--port", "/dev/no-such-port", "--json"]
    (found,) = json.loads(CliRunner().invoke(handfast, command).stdout)["ports"]
    assert (found["port"], found["state"]) == ("/dev/no-such-port", "failed")


def test_nothing_plugged_in_is_said(plugged: list[Any]) -> None:
    assert not plugged
    assert "No USB serial port" in CliRunner().invoke(handfast, ["board", "scan"]).output


def test_a_name_from_the_scan_works_where_a_port_does(
    start: Callable[..., SimulatedBoard], plugged: list[Any]
) -> None:
    board = start()
    plugged.append(usb.cp210x(board.serial_url))
    assert serial_url(PICO) == board.serial_url
    with pytest.raises(BoardProblem, match="there is no board sim-pico-w@00"):
        serial_url("sim-pico-w@00")


def test_no_permission_is_not_a_port_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import serial

    def refuse(_self: object) -> None:
        raise serial.SerialException(errno.EACCES, "denied")

    monkeypatch.setattr(serial.Serial, "open", refuse)
    (found,) = scan([Port("/dev/ttyUSB0")], BOARDS)
    assert found.state == "failed"
    assert "no permission" in (found.problem or "")


def test_the_name_is_in_the_digits_that_usb_shows() -> None:
    row = usb.rp2("/dev/ttyACM0", PICO_ID)
    assert stable_name("pico-w", PICO_ID.hex()) == f"pico-w@{row.serial_number}"
