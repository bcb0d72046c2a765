"""The oldest MicroPython that is supported, as a board: what other versions are tested for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulator_support import Repl

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard

OLDEST = "1.25.0"
CTRL_C_IN = {
    "asyncio": "import asyncio\nasync def f():\n print('ready')\n await asyncio.sleep(60)\n"
    "asyncio.run(f())",
    "sleep": "import time\nprint('ready')\ntime.sleep(60)",
    "busy loop": "print('ready')\nwhile True: pass",
}


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard(directory=tmp_path, micropython=OLDEST) as board:
        board.power_on()
        yield board


def test_it_is_that_version_and_its_clock_is_set_at_its_epoch(board: SimulatedBoard) -> None:
    with Repl(board.serial_url) as repl:
        told = repl.exec(
            "import sys, time, machine\nprint(sys.implementation.version[:3], time.gmtime(0)[0])\n"
            "machine.RTC().datetime((2026, 1, 2, 0, 3, 4, 5, 0))\n"
            "print(len(time.localtime()), time.time() - 1767323045 < 5)"
        )
        assert told.split("\r\n") == ["(1, 25, 0) 1970", "8 True"]
        board.reset()
        repl.read_until(b">>> ")
        assert repl.exec("import time; print(time.localtime()[0])") == "2026"
        board.power_cycle()
        repl.read_until(b">>> ")
        assert repl.exec("import time; print(time.localtime()[0])") == "1970"


@pytest.mark.parametrize("code", CTRL_C_IN.values(), ids=CTRL_C_IN.keys())
def test_ctrl_c_stops_what_runs(board: SimulatedBoard, code: str) -> None:
    with Repl(board.serial_url) as repl:
        repl.interrupt()
        repl.start(code)
        repl.read_until(b"ready\r\n")
        before = time.monotonic()
        repl.port.write(b"\x03")
        assert repl.finish()[1].rstrip().endswith("KeyboardInterrupt:")
        assert time.monotonic() - before < 10  # of the 60 that it would have slept


def test_files_come_by_raw_paste_and_survive_a_power_cut(board: SimulatedBoard) -> None:
    content = bytes(range(256)) * 64
    with SerialLink.open(board.serial_url) as link:
        link.push({"/lib/kept.bin": content})
    with Repl(board.serial_url) as repl:
        repl.interrupt()
        repl.start("import _sim\n_sim.cut_after(1)\nopen('/lib/cut', 'wb').write(bytes(9000))")
        board.wait_for_power_cut()
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        assert link.read_file("/lib/kept.bin") == content
