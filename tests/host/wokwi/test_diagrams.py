"""The boards' files for Wokwi say nothing that Wokwi does not know."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import pytest
from known_parts import FIRMWARE_SUFFIXES, PINS, RESET_PINS, SERIAL_MONITOR

from handfast.boards.definition import BoardDefinition, list_boards, load_board, load_boards
from handfast.boards.discovery import recognise
from handfast.boards.virtual import boards_at
from handfast.boards.wokwi import NETWORK, is_wokwi_board, read_project

Diagram = dict[str, Any]
BOARDS = [name for name in list_boards(kind="emulated") if is_wokwi_board(load_board(name))]


def diagram_of(definition: BoardDefinition) -> Diagram:
    read: Diagram = json.loads(read_project(definition).diagram)
    return read


def machine_of(definition: BoardDefinition) -> str:
    assert definition.emulator is not None
    return definition.emulator.machine


def problems(diagram: Diagram, machine: str) -> list[str]:
    """Return what is wrong with a circuit of ours."""
    parts = {part["id"]: part["type"] for part in diagram["parts"]}
    found = [f"unknown part {kind}" for kind in parts.values() if kind not in PINS]
    if len(parts) != len(diagram["parts"]):
        found.append("two parts have one id")
    if [kind for kind in parts.values() if kind.startswith("board-")] != [machine]:
        found.append(f"the board is not one {machine}")
    if diagram["version"] != 1 or not isinstance(diagram["connections"], list):
        found.append("not version 1 of the format")
    for end in [end for wire in diagram["connections"] for end in wire[:2]]:
        part, _, pin = end.partition(":")
        known = SERIAL_MONITOR if part == "$serialMonitor" else PINS.get(parts.get(part, ""), set())
        if pin not in known:
            found.append(f"no pin {end}")
    return found + _serial_problems(diagram) + _reset_problems(diagram, parts, machine)


def _wires(diagram: Diagram) -> set[frozenset[str]]:
    return {frozenset(wire[:2]) for wire in diagram["connections"]}


def _serial_problems(diagram: Diagram) -> list[str]:
    serial = {wire for wire in _wires(diagram) if any("$serialMonitor" in end for end in wire)}
    crossed = {
        frozenset({"board:TX", "$serialMonitor:RX"}),
        frozenset({"board:RX", "$serialMonitor:TX"}),
    }
    # Without a wire the monitor is on the board's USB.
    return [] if serial in (set(), crossed) else ["the serial monitor is not wired crosswise"]


def _reset_problems(diagram: Diagram, parts: dict[str, str], machine: str) -> list[str]:
    if "reset" not in parts:
        return []
    ends = {end for wire in _wires(diagram) for end in wire if "reset:" in "".join(wire)}
    if f"board:{RESET_PINS.get(machine, '?')}" not in ends or "board:GND.1" not in ends:
        return ["the reset button does not pull the reset pin to ground"]
    sides = {end.partition(".")[0] for end in ends if end.startswith("reset:")}
    return [] if sides == {"reset:1", "reset:2"} else ["the button is wired on one side only"]


def test_there_are_boards_of_wokwi_s() -> None:
    assert {"wokwi-esp32", "wokwi-esp32-c3", "wokwi-pico-w"} <= set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_the_diagram_has_known_parts_and_pins(name: str) -> None:
    definition = load_board(name)
    assert problems(diagram_of(definition), machine_of(definition)) == []


@pytest.mark.parametrize("name", BOARDS)
def test_the_firmware_is_a_file_that_wokwi_takes_beside_wokwi_toml(name: str) -> None:
    definition = load_board(name)
    path = PurePosixPath(read_project(definition).firmware_name)
    assert path.parts == (path.name,)
    assert path.suffix in FIRMWARE_SUFFIXES[definition.port]
    settings = tomllib.loads((definition.folder / "wokwi.toml").read_text())
    assert settings["wokwi"]["version"] == 1
    assert settings["wokwi"]["elf"] == path.name
    assert settings["net"] == {"gateway": "ws://localhost:9011"}


@pytest.mark.parametrize("name", BOARDS)
def test_the_flash_is_as_large_as_board_toml_says(name: str) -> None:
    definition = load_board(name)
    assert definition.flash is not None
    [board] = [part for part in diagram_of(definition)["parts"] if part["id"] == "board"]
    if definition.port == "esp32":
        assert int(board["attrs"]["flashSize"]) * 1024 == definition.flash.size_kb
    elif definition.port == "rp2":
        assert definition.flash.size_kb == 2048  # what a Pico W has; the part has no attribute


def test_boards_reach_this_machine_by_the_private_gateway_s_name() -> None:
    for name in BOARDS:
        assert boards_at(name) == "host.wokwi.internal"
    assert NETWORK == {"ssid": "Wokwi-GUEST", "password": ""}


@pytest.mark.parametrize(
    ("build", "name"),
    [("ESP32_GENERIC", "esp32"), ("ESP32_GENERIC_C3", "esp32-c3"), ("RPI_PICO_W", "pico-w")],
)
def test_a_real_board_is_not_taken_for_the_emulated_one_of_its_image(build: str, name: str) -> None:
    assert recognise(build, load_boards()) == name
    assert recognise(build, load_boards()[::-1]) == name


def _renamed_pin(diagram: Diagram) -> None:
    diagram["connections"][0][0] = "board:TX0"


def _other_board(diagram: Diagram) -> None:
    diagram["parts"][0]["type"] = "board-esp32-c3-devkitm-1"


def _unknown_part(diagram: Diagram) -> None:
    diagram["parts"].append({"type": "wokwi-teapot", "id": "tea"})


def _one_id(diagram: Diagram) -> None:
    diagram["parts"][1]["id"] = "board"


def _no_crossing(diagram: Diagram) -> None:
    diagram["connections"][0][1], diagram["connections"][1][1] = (
        diagram["connections"][1][1],
        diagram["connections"][0][1],
    )


def _reset_elsewhere(diagram: Diagram) -> None:
    diagram["connections"][2][1] = "board:23"


def _one_side(diagram: Diagram) -> None:
    diagram["connections"][3][0] = "reset:1.l"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_renamed_pin, "no pin board:TX0"),
        (_other_board, "the board is not one"),
        (_unknown_part, "unknown part wokwi-teapot"),
        (_one_id, "two parts have one id"),
        (_no_crossing, "not wired crosswise"),
        (_reset_elsewhere, "does not pull the reset pin"),
        (_one_side, "on one side only"),
    ],
)
def test_a_wrong_diagram_is_found_out(change: Callable[[Diagram], None], says: str) -> None:
    definition = load_board("wokwi-esp32")
    diagram = copy.deepcopy(diagram_of(definition))
    change(diagram)
    assert says in "\n".join(problems(diagram, machine_of(definition)))
