"""To the bootloader and back: what a board is asked before and after it is flashed."""

from __future__ import annotations

import os
import termios
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards.definition import load_board, load_boards
from handfast.boards.flash.bootloader import enter_bootloader
from handfast.boards.flash.running import Running, ask_running, compare_board, compare_running
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem, CheckFailed

_BOOTLOADER = """
import machine, sys
class Machine:
    @staticmethod
    def bootloader():
        open('/asked', 'w').close()
        machine.reset()
sys.modules['machine'] = Machine
"""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard("sim-pico-w", directory=tmp_path / "board") as board:
        board.power_on()
        yield board


def test_a_board_says_what_it_runs(board):
    running = ask_running(lambda: board.serial_url, timeout_s=20)
    assert (running.name, running.version) == ("micropython", "1.26.1")
    compare_running(running, version="1.26.1", build=None)


def test_a_board_that_comes_late_is_waited_for(board, tmp_path):
    port = tmp_path / "late"
    timer = threading.Timer(0.5, lambda: port.symlink_to(board.serial_url))
    timer.start()
    assert ask_running(lambda: str(port), timeout_s=20).name == "micropython"


def test_a_board_that_never_comes_is_said_so(tmp_path):
    with pytest.raises(BoardProblem):
        ask_running(lambda: str(tmp_path / "none"), timeout_s=0.3)


@pytest.mark.parametrize(
    ("running", "said"),
    [
        (Running("circuitpython", "9.2.0", "", ""), "circuitpython"),
        (Running("micropython", "1.25.0", "", "RPI_PICO_W"), "1.25.0, not 1.26.1"),
        (Running("micropython", "1.26.1", "", "RPI_PICO"), "RPI_PICO, not RPI_PICO_W"),
        (Running("micropython", "1.26.1", "", ""), "without name"),
    ],
)
def test_another_program_is_found_out(running, said):
    with pytest.raises(CheckFailed, match=said):
        compare_running(running, version="1.26.1", build="RPI_PICO_W")


@pytest.mark.parametrize(
    ("version", "build", "published", "said"),
    [
        ("1.26.1", "RPI_PICO_W", True, ""),
        ("1.26.1", "RPI_PICO_W-VARIANT", True, ""),
        ("1.25.0", "RPI_PICO_W", False, ""),
        ("1.25.0", "RPI_PICO_W", True, "1.25.0, not 1.26.1"),
        ("1.26.1", "RPI_PICO", False, "pico's, not pico-w's"),
        ("1.26.1", "MY_OWN", False, ""),
        ("1.26.1", "MY_OWN", True, "no board's, not pico-w's"),
    ],
)
def test_what_was_made_for_another_board_is_found_out(version, build, published, said):
    running = Running("micropython", version, "", build)

    def compare():
        compare_board(running, load_board("pico-w"), load_boards(), published=published)

    if not said:
        compare()
        return
    with pytest.raises(CheckFailed, match=said):
        compare()


def test_micropython_is_asked_for_its_bootloader(board):
    with SerialLink.open(board.serial_url) as link:
        link.exec(_BOOTLOADER)
    enter_bootloader(board.serial_url)
    with SerialLink.open(board.serial_url) as link:
        assert link.read_file("/asked") == b""


def baud_left_at(slave: int) -> int:
    return termios.tcgetattr(slave)[5]


def test_a_board_without_a_bootloader_call_gets_the_touch(board):
    """The simulated board's ``machine`` has no ``bootloader``."""
    slave = os.open(board.serial_url, os.O_RDWR | os.O_NOCTTY)
    try:
        enter_bootloader(board.serial_url)
        assert baud_left_at(slave) == termios.B1200
    finally:
        os.close(slave)


def test_a_board_that_says_nothing_gets_the_touch(monkeypatch):
    monkeypatch.setattr(SerialLink, "interrupt", quick(SerialLink.interrupt))
    master, slave = os.openpty()
    tty.setraw(slave)
    try:
        enter_bootloader(os.ttyname(slave))
        assert baud_left_at(slave) == termios.B1200
    finally:
        os.close(master)
        os.close(slave)


def quick(interrupt):
    return lambda self, **_: interrupt(self, timeout_s=0.3)
