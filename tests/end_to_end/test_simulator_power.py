"""A simulated board's flash, clock and power: what survives what."""

from __future__ import annotations

import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from simulator_support import SECTOR, Repl, filesystem, kill_its_bench, read

from handfast.boards import lifeline_board, simulator
from handfast.boards.builder import build_simulator
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem

PROFILES = ("sim-pico-w", "sim-esp32")

OLD, NEW = b"old" * 500, b"new" * 500
WRITE_OLD = "with open('/value', 'wb') as f: f.write(b'old' * 500)"
REPLACE = """
import os
with open('/value.new', 'wb') as f:
    f.write(b'new' * 500)
os.rename('/value.new', '/value')
"""


# ---- Flash ----


@pytest.mark.parametrize("profile", PROFILES)
def test_what_was_written_survives_reset_power_cycle_and_power_off(
    profile: str, tmp_path: Path
) -> None:
    with SimulatedBoard(profile, directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            repl.exec("with open('/kept', 'w') as f: f.write('kept')")
        board.reset()
        board.power_cycle()
        with Repl(board.serial_url) as repl:
            assert repl.exec("print(open('/kept').read())") == "kept"
        board.power_off()
        assert read(filesystem(board.flash_image), "/kept") == b"kept"
    with SimulatedBoard(profile, directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            assert repl.exec("print(open('/kept').read())") == "kept"


def test_erasing_sets_bits_and_programming_only_clears_them(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            out = repl.exec(
                "import _sim\nf = _sim.Flash()\nlast = f.ioctl(4, 0) - 1\nb = bytearray(256)\n"
                "f.ioctl(6, last)\nf.readblocks(last, b, 0)\nprint(set(b))\n"
                "f.writeblocks(last, b'\\xf0' * 256, 0)\nf.writeblocks(last, b'\\x3c' * 256, 0)\n"
                "f.readblocks(last, b, 0)\nprint(set(b))\n"
                "for bad in ((last, b'x', 0), (last, b'x' * 256, 1), (last + 1, b'x' * 256, 0),\n"
                "  (1 << 52, b'x' * 256, 0)):\n"  # times 4096 it would wrap round to 0
                "  try: f.writeblocks(*bad)\n  except OSError as e: print(e.errno)"
            )
    assert out.split("\r\n") == ["{255}", "{48}", "22", "22", "22", "22"]


def test_a_power_cut_at_every_operation_leaves_the_old_file_or_the_new(tmp_path: Path) -> None:
    operations = _operations_of_a_replacement(tmp_path / "counted")
    assert 4 <= operations <= 40
    outcomes = []
    with SimulatedBoard(directory=tmp_path / "cut") as board:
        for cut in range(operations):
            board.power_on()
            with Repl(board.serial_url) as repl:
                repl.exec(WRITE_OLD)
                repl.interrupt()
                repl.start(f"import _sim\n_sim.cut_after({cut})" + REPLACE + "print('survived')")
                board.wait_for_power_cut()
            assert board.power_was_cut
            assert not board.is_running
            outcomes.append(read(filesystem(board.flash_image), "/value"))
            assert outcomes[-1] in (OLD, NEW)
    assert OLD in outcomes


def _operations_of_a_replacement(directory: Path) -> int:
    with SimulatedBoard(directory=directory) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            repl.exec(WRITE_OLD)
            count = "import _sim\nn = _sim.flash_ops()\n" + REPLACE + "print(_sim.flash_ops() - n)"
            return int(repl.exec(count))


def test_the_operation_that_is_cut_is_half_done(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            repl.exec(
                "import _sim\nf = _sim.Flash()\nlast = f.ioctl(4, 0) - 1\nf.ioctl(6, last)\n"
                "f.writeblocks(last, bytes(4096), 0)"
            )
            assert board.flash_image.read_bytes()[-SECTOR:] == bytes(SECTOR)
            repl.interrupt()
            repl.start("import _sim\n_sim.cut_after(0)\nf.ioctl(6, last)")
            board.wait_for_power_cut()
        half = SECTOR // 2
        assert board.flash_image.read_bytes()[-SECTOR:] == b"\xff" * half + bytes(half)


def test_power_can_be_cut_during_the_first_boot(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on(cut_after=1)
        board.wait_for_power_cut()
        board.power_on()
        with Repl(board.serial_url) as repl:
            assert repl.exec("import os; print(os.listdir('/'))") == "[]"


def test_a_cut_that_does_not_come_is_told(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on(cut_after=10_000)
        with pytest.raises(BoardProblem, match="still has power"):
            board.wait_for_power_cut(timeout_s=0.2)


def test_a_pending_cut_outlives_a_reset(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            repl.exec("import _sim; _sim.cut_after(0)")
            repl.port.write(b"import machine; machine.reset()\x04")
            repl.read_until(b">>> ")
            repl.interrupt()
            repl.start("open('/x', 'w').close()")
            board.wait_for_power_cut()


def test_a_full_flash_is_an_error_of_the_board(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            out = repl.exec(
                "block = bytes(4096)\ntry:\n"
                " with open('/big', 'wb') as f:\n  while True: f.write(block)\n"
                "except OSError as e: print(e.errno)"
            )
    assert out == "28"


def test_two_boards_cannot_share_a_flash_image(tmp_path: Path) -> None:
    with (
        SimulatedBoard(directory=tmp_path) as first,
        SimulatedBoard(directory=tmp_path) as second,
    ):
        first.power_on()
        with pytest.raises(BoardProblem, match="another board is running on it"):
            second.power_on()
        first.power_off()
        second.power_on()


@pytest.mark.parametrize("size", [5000, SECTOR])
def test_a_flash_image_of_no_sense_is_refused(size: int, tmp_path: Path) -> None:
    (tmp_path / "flash.img").write_bytes(b"x" * size)
    with (
        SimulatedBoard(directory=tmp_path) as board,
        pytest.raises(BoardProblem, match=f"{size} bytes is not a number of 4096-byte sectors"),
    ):
        board.power_on()


def test_a_flash_image_that_finds_no_room_is_told_and_not_left_half_made(tmp_path: Path) -> None:
    image = tmp_path / "flash.img"
    command = [
        build_simulator("sim-pico-w"),
        "--board",
        "--flash",
        image,
        "--flash-kb",
        str(10**13),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 2
    assert f"flash file {image}: allocate: " in done.stderr
    assert "Success" not in done.stderr
    assert not image.exists()


def test_a_damaged_filesystem_is_formatted_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "flash.img").write_bytes(b"\x00" * SECTOR * 64)
    with SimulatedBoard(directory=tmp_path) as board, Repl(board.serial_url) as repl:
        board.power_on()
        assert b"no filesystem found on the flash" in repl.read_until(b">>> ")
        assert repl.exec("import os; print(os.listdir('/'))") == "[]"


# ---- Clock ----


@pytest.mark.parametrize(("profile", "year"), [("sim-pico-w", 1970), ("sim-esp32", 2000)])
def test_a_fresh_board_wakes_at_its_epoch(profile: str, year: int, tmp_path: Path) -> None:
    with SimulatedBoard(profile, directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            out = repl.exec(
                "import time, machine\nprint(time.time() < 60, len(time.localtime()))\n"
                "print(time.gmtime(0), time.mktime((2026, 1, 2, 3, 4, 5, 0, 0)))\n"
                "print(machine.RTC().datetime()[:3], type(time.time()))"
            ).split("\r\n")
    weekday = {1970: 3, 2000: 5}[year]
    unix = 1767323045 - {1970: 0, 2000: 946684800}[year]
    assert out == [
        "True 8",
        f"({year}, 1, 1, 0, 0, 0, {weekday}, 1) {unix}",
        f"({year}, 1, 1) <class 'int'>",
    ]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_set_clock_runs_and_survives_a_reset_but_not_a_power_cycle(
    profile: str, tmp_path: Path
) -> None:
    year = "import time; print(time.localtime()[0])"
    with SimulatedBoard(profile, directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            out = repl.exec(
                "import machine, time\nr = machine.RTC()\n"
                "r.datetime((2031, 12, 31, 0, 23, 59, 59, 0))\nprint(r.datetime()[:7])\n"
                "t = time.time()\nwhile time.time() == t: pass\nprint(time.localtime())"
            )
            assert out.split("\r\n") == [
                "(2031, 12, 31, 2, 23, 59, 59)",
                "(2032, 1, 1, 0, 0, 0, 3, 1)",
            ]
            repl.interrupt()
            repl.start("machine.reset()")
            repl.read_until(b">>> ")
            assert repl.exec(year) == "2032"
            assert repl.exec("import machine; print(machine.reset_cause() != 1)") == "True"
            board.reset()
            repl.read_until(b">>> ")
            assert repl.exec(year) == "2032"
            board.power_cycle()
            repl.read_until(b">>> ")
            assert repl.exec(year) == {"sim-pico-w": "1970", "sim-esp32": "2000"}[profile]


def test_the_clock_at_power_on_can_be_chosen(tmp_path: Path) -> None:
    with SimulatedBoard("sim-esp32", directory=tmp_path) as board:
        board.power_on(rtc=1767323045)
        with Repl(board.serial_url) as repl:
            assert repl.exec("import time; print(time.localtime()[:5])") == "(2026, 1, 2, 3, 4)"


@pytest.mark.parametrize("profile", PROFILES)
def test_files_carry_the_boards_time(profile: str, tmp_path: Path) -> None:
    with SimulatedBoard(profile, directory=tmp_path) as board:
        board.power_on(rtc=1767323045)
        with Repl(board.serial_url) as repl:
            out = repl.exec(
                "import os, time\nopen('/f', 'w').close()\n"
                "print(0 <= time.time() - os.stat('/f')[8] < 5)"
            )
    assert out == "True"


# ---- Power ----


def test_a_reset_loses_ram_and_keeps_the_line(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        pid, url = board.pid, board.serial_url
        with Repl(url) as repl:
            repl.exec("x = 1")
            repl.interrupt()
            repl.start("import machine; print('last words'); machine.reset()")
            assert b"last words" in repl.read_until(b">>> ")
            assert repl.exec("print('x' in globals())") == "False"
        assert (board.pid, board.serial_url) == (pid, url)


def test_the_line_keeps_its_path_while_the_power_is_off(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        url = board.serial_url
        board.power_on()
        with Repl(url) as repl:
            repl.interrupt()
            board.power_off()
            repl.port.write(b"nobody hears this\r")
            board.power_on()
            assert b"nobody" not in repl.read_until(b">>> ")
            assert repl.exec("print(1)") == "1"
        assert board.serial_url == url


def test_a_burst_of_resets_and_power_cycles_ends_in_a_working_board(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        for _ in range(20):
            board.reset()
        with Repl(board.serial_url) as repl:
            assert repl.exec("print(1)") == "1"


def test_ctrl_c_on_its_way_does_not_end_a_board_that_resets(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            code = "import machine\\nmachine.reset()\\n"
            repl.exec(f"with open('/main.py', 'w') as f: f.write('{code}')")
            repl.port.timeout = 0.002
            for _ in range(400):
                repl.port.write(b"\x03\x02\x04")  # and soft-reset, where main.py was stopped
                repl.port.read(4096)
            assert board.is_running


def test_a_board_that_hangs_before_it_runs_is_told_and_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setattr(simulator, "build_simulator", lambda *_, **__: program)
    monkeypatch.setattr(lifeline_board, "START_S", 0.2)
    with SimulatedBoard(directory=tmp_path / "board") as board:
        with pytest.raises(BoardProblem, match="did not start"):
            board.power_on()
        assert not board.is_running


def test_power_on_twice_and_reset_without_power_are_refused(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        with pytest.raises(BoardProblem, match="switched off"):
            board.reset()
        board.power_on()
        with pytest.raises(BoardProblem, match="already switched on"):
            board.power_on()


def test_from_power_on_to_the_repl_is_quick(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            repl.interrupt()  # the flash is formatted now
            board.power_off()
            before = time.monotonic()
            board.power_on()
            repl.interrupt()
            assert time.monotonic() - before < 0.5


def test_a_board_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    kill_its_bench("sim-pico-w", tmp_path)


def test_a_board_may_be_closed_while_another_thread_switches_it(tmp_path: Path) -> None:
    for number in range(20):
        board = SimulatedBoard(directory=tmp_path / str(number))
        switching = threading.Thread(target=_switch_until_closed, args=(board,))
        switching.start()
        time.sleep(number / 1000)  # each time at another moment of power_on or power_off
        board.close()
        switching.join(20)
        assert not switching.is_alive()
        assert not board.is_running


def _switch_until_closed(board: SimulatedBoard) -> None:
    with suppress(BoardProblem):  # it is unplugged; any other error fails the test
        while True:
            board.power_on()
            board.power_off()
