"""What an application prints while a command begins: it is stopped, and its lines are kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import NoAnswer
from handfast.boards.simulator import SimulatedBoard
from handfast.lab.pytest_plugin.board import Board
from handfast.lab.pytest_plugin.power import VirtualBench

ENOUGH_S = 60.0
# How far it has counted stays in `n`, whichever of our Ctrl-Cs ends it.
FLOOD = b"""
n = 0
try:
    while True:
        n += 1
        print('line', n)
except KeyboardInterrupt:
    pass
"""


def numbers(lines: list[str]) -> list[int]:
    """A line that an interrupt has cut short is none."""
    return [int(found[1]) for line in lines if (found := re.fullmatch(r"line (\d+)", line))]


def check_whole(lines: list[str], counted: int) -> None:
    found = numbers(lines)
    assert found == list(range(found[0], found[-1] + 1))
    assert found[-1] in (counted - 1, counted)  # it may have been stopped before it printed


def test_a_console_has_what_a_board_printed_until_a_command_stopped_it(link: SerialLink) -> None:
    link.push({"/main.py": FLOOD})
    for _ in range(3):
        with link.start_application() as console:
            console.wait_for("line 500", ENOUGH_S)
        counted = int(link.exec("print(n)"))
        check_whole([line.text for line in console.lines], counted)
        assert console.last_number == console.lines[-1].number


def test_whoever_opened_the_link_is_told_if_they_want_to_be(board: SimulatedBoard) -> None:
    told: list[str] = []
    with SerialLink.open(board.serial_url, overheard=told.append) as link:
        link.push({"/main.py": FLOOD})
        link.soft_reset(run_main=True)
        counted = int(link.exec("print(n)"))
    check_whole("".join(told).splitlines(), counted)


def test_what_a_boot_script_prints_is_overheard(board: SimulatedBoard) -> None:
    told: list[str] = []
    with SerialLink.open(board.serial_url, overheard=told.append) as link:
        link.push({"/boot.py": b"print('from boot')\nprint()\nprint('> not a prompt')\n"})
        told.clear()
        link.soft_reset()
        assert "".join(told) == "from boot\n\n> not a prompt\n"


def test_what_the_prompt_says_and_our_own_interrupt_is_nobodys_line(board: SimulatedBoard) -> None:
    told: list[str] = []
    with SerialLink.open(board.serial_url, overheard=told.append) as link:
        link.push({"/main.py": b"print('begun')\nimport time\ntime.sleep(1000)\n"})
        told.clear()
        with link.start_application() as console:
            console.wait_for("begun", ENOUGH_S)
        link.interrupt()
        link.interrupt()
        link.send(b"\x02")  # to the friendly prompt
        link.interrupt()
        assert "".join(told) == ""


def test_what_a_command_that_did_not_end_prints_is_overheard(board: SimulatedBoard) -> None:
    told: list[str] = []
    with SerialLink.open(board.serial_url, overheard=told.append) as link:
        with pytest.raises(NoAnswer):
            link.exec(FLOOD.decode(), timeout_s=0.3)
        counted = int(link.exec("print(n)"))
    check_whole("".join(told).splitlines()[1:], counted)


@pytest.fixture
def leased(tmp_path: Path) -> Iterator[Board]:
    board = Board("one", frozenset(), VirtualBench("sim-pico-w", tmp_path / "board", "one"))
    yield board
    board.close()


def test_the_report_of_a_test_has_them_in_their_place(leased: Board) -> None:
    leased.exec(f"with open('/main.py', 'w') as file:\n file.write({FLOOD.decode()!r})")
    leased.start()
    leased.expect("line 500", timeout_s=ENOUGH_S)
    assert leased.answers(ENOUGH_S)
    counted = int(leased.exec("print(n)"))
    lines = [entry.text for entry in leased.transcript.entries]
    check_whole(lines, counted)
    assert lines[-1] == str(counted)
    assert not [line for line in lines if "KeyboardInterrupt" in line or line.startswith(">")]
