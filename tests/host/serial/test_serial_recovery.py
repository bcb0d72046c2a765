"""The raw REPL is reached from whatever state a board is in."""

from __future__ import annotations

import os
import time

import pytest
from cable import CutCable

from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import NoAnswer
from handfast.boards.simulator import SimulatedBoard

PROGRAMS = {
    "computes": "while True: pass",
    "sleeps": "import time\ntime.sleep(1000)",
    "prints without a pause": "while True: print('x' * 70)",
    "runs asyncio": (
        "import asyncio\n"
        "async def main():\n while True:\n  print('tick')\n  await asyncio.sleep(0.001)\n"
        "asyncio.run(main())"
    ),
    "waits for input": "input('name? ')",
    "reads stdin": "import sys\nsys.stdin.buffer.read(1000)",
    "shrugs off some interrupts": (
        "import time\nfor _ in range(3):\n try:\n  time.sleep(1000)\n"
        " except KeyboardInterrupt:\n  print('again')"
    ),
}

INPUTS = {
    "half a line": b"\x02x = (1, 2",
    "half a command that must not run": b"\x02open('/ran', 'w').close()",
    "paste mode": b"\x02\x05for i in range(3):",
    "half a raw command": b"while True:",
    "a raw-paste transfer": b"\x05A\x01print(1",
    "a raw-paste transfer with a syntax error": b"\x05A\x01)))(((",
    "ended raw mode": b"\x02",
    "bytes that are not text": bytes(range(128, 256)),
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_board_whose_program_runs_is_interrupted(link: SerialLink, program: str) -> None:
    with pytest.raises(NoAnswer):
        link.exec(program, timeout_s=0.1)
    assert link.exec("print(6 * 7)") == "42\n"


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_board_that_starts_such_a_program_by_itself_is_interrupted(
    board: SimulatedBoard, link: SerialLink, program: str
) -> None:
    link.push({"/main.py": b"print('started')\n" + program.encode()})
    with link.start_application() as console:
        console.wait_for("started", 5)
    with pytest.raises(RuntimeError):
        _use_while_a_console_reads(link)
    assert link.exec("print(6 * 7)") == "42\n"
    assert board.is_running


def _use_while_a_console_reads(link: SerialLink) -> None:
    with link.console():
        link.exec("print(1)")


@pytest.mark.parametrize("sent", INPUTS.values(), ids=INPUTS)
def test_board_in_the_middle_of_input_is_brought_back(
    board: SimulatedBoard, link: SerialLink, sent: bytes
) -> None:
    link.exec("pass")  # it is in the raw REPL
    link.close()
    handle = os.open(board.serial_url, os.O_RDWR | os.O_NOCTTY)
    os.write(handle, sent)
    os.close(handle)
    with SerialLink.open(board.serial_url) as again:
        assert again.exec("print(6 * 7)") == "42\n"
        assert "/ran" not in again.hashes("/")


def test_board_that_never_stops_its_program_is_given_up_in_time(link: SerialLink) -> None:
    stubborn = "while True:\n try:\n  while True: pass\n except KeyboardInterrupt: pass"
    with pytest.raises(NoAnswer, match="did not finish"):
        link.exec(stubborn, timeout_s=0.1)
    started = time.monotonic()
    with pytest.raises(NoAnswer, match="reset button"):
        link.interrupt(timeout_s=1)
    assert time.monotonic() - started < 3


def test_answers_that_come_late_are_not_taken_for_later_ones(board: SimulatedBoard) -> None:
    # So late that the link has asked again by then.
    with CutCable(board.serial_url, delay_s=0.3) as cable, SerialLink.open(cable.url) as link:
        for number in range(3):
            link.interrupt()
            assert link.exec(f"print({number})") == f"{number}\n"


def test_board_without_power_is_given_up_in_time(board: SimulatedBoard, link: SerialLink) -> None:
    board.power_off()
    started = time.monotonic()
    with pytest.raises(NoAnswer, match="prompt"):
        link.interrupt(timeout_s=1)
    assert time.monotonic() - started < 3


def test_boot_script_that_hangs_is_interrupted_by_a_soft_reset(link: SerialLink) -> None:
    link.push({"/boot.py": b"while True: pass\n"})
    link.soft_reset(timeout_s=1)
    assert link.exec("print(6 * 7)") == "42\n"


def test_soft_reset_gives_a_fresh_heap_and_does_not_run_the_application(link: SerialLink) -> None:
    link.push({"/boot.py": b"booted = True\n", "/main.py": b"ran = True\n"})
    link.exec("left_over = 1")
    link.soft_reset()
    assert link.exec("print('left_over' in dir(), 'booted' in dir(), 'ran' in dir())") == (
        "False True False\n"
    )


def test_hard_reset_runs_the_application_and_the_link_goes_on(link: SerialLink) -> None:
    link.push({"/main.py": b"open('/ran', 'w').close()\n"})
    link.hard_reset()
    assert "/ran" in link.hashes("/")
