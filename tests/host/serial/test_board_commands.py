"""``handfast board console|shell|run`` on a simulated board, as processes of their own."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard

_DEADLINE_S = 60


def handfast(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "handfast", "board", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )


def start(*arguments: object, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "handfast", "board", *map(str, arguments)]
    return subprocess.Popen(command, text=True, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def application(board: SimulatedBoard) -> SimulatedBoard:
    """A board whose application counts."""
    with SerialLink.open(board.serial_url) as link:
        program = (
            "import time\nn = 0\nwhile True:\n print('count', n)\n n += 1\n time.sleep_ms(50)\n"
        )
        link.push({"/main.py": program.encode()})
        link.soft_reset(run_main=True)
    return board


# run


def test_run_prints_what_the_program_prints(board: SimulatedBoard, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("print('größer')\nfor i in range(300):\n print(i, 'x' * 50)\n")
    done = handfast("run", "--board", board.serial_url, program)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["größer", *(f"{i} {'x' * 50}" for i in range(300))]


def test_run_reads_stdin_and_gives_a_traceback_with_the_boards_exit_code(
    board: SimulatedBoard,
) -> None:
    done = handfast("run", "--board", board.serial_url, "-", stdin="print('before')\n1 / 0\n")
    assert (done.returncode, done.stdout) == (6, "before\n")
    assert "ZeroDivisionError" in done.stderr


def test_run_shows_output_while_the_program_runs_and_ctrl_c_stops_it(
    board: SimulatedBoard, tmp_path: Path
) -> None:
    program = tmp_path / "endless.py"
    program.write_text("print('begun')\nwhile True:\n pass\n")
    asked = ("run", "--board", board.serial_url, program)
    with start(*asked, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "begun\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(_DEADLINE_S) == 130
    with SerialLink.open(board.serial_url) as link:
        assert link.exec("print(1)") == "1\n"


def test_a_run_that_takes_too_long_is_stopped_on_the_board(board: SimulatedBoard) -> None:
    done = handfast(
        "run", "--board", board.serial_url, "--timeout-s", 0.5, "-", stdin="while True: pass"
    )
    assert (done.returncode, "did not finish" in done.stderr) == (6, True)


def test_a_program_that_cannot_be_read_is_named(board: SimulatedBoard, tmp_path: Path) -> None:
    done = handfast("run", "--board", board.serial_url, tmp_path / "none.py")
    assert (done.returncode, "none.py" in done.stderr) == (2, True)


# console


def test_console_prints_whole_lines_until_one_matches(application: SimulatedBoard) -> None:
    done = handfast("console", "--board", application.serial_url, "--until", "count .*5$")
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    assert last.startswith("count ")
    assert last.endswith("5")


def test_console_does_not_disturb_the_application_unless_told(application: SimulatedBoard) -> None:
    def first_count(*options: str) -> int:
        asked = ("console", "--board", application.serial_url, "--until", "^count [0-9]+$")
        done = handfast(*asked, *options)
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    assert first_count() < first_count()
    assert first_count("--restart") == 0


def test_console_stamps_lines_with_the_time(application: SimulatedBoard) -> None:
    done = handfast("console", "--board", application.serial_url, "--time", "--until", "count")
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{6} count \d+$", done.stdout, re.MULTILINE)


def test_console_gives_up_on_a_line_that_does_not_come(application: SimulatedBoard) -> None:
    asked = ("console", "--board", application.serial_url, "--until", "never", "--timeout-s", 0.5)
    done = handfast(*asked)
    assert (done.returncode, "'never'" in done.stderr) == (6, True)


@pytest.mark.parametrize("options", [("--timeout-s", "1"), ("--until", "(")])
def test_console_options_that_make_no_sense_are_refused(options: tuple[str, ...]) -> None:
    assert handfast("console", "--board", "/dev/null", *options).returncode == 2


# shell


class Terminal:
    """A person's terminal, with a shell in it."""

    def __init__(self, board: SimulatedBoard, *options: str) -> None:
        self._person, self.terminal = os.openpty()
        self.before = termios.tcgetattr(self.terminal)
        asked = ("shell", "--board", board.serial_url, *options)
        self.process = start(*asked, stdin=self.terminal, stdout=self.terminal)
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self._person, keys.encode())

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while text not in self.seen:
            left_s = deadline - time.monotonic()
            assert select.select([self._person], [], [], max(0, left_s))[0], self.seen
            self.seen += os.read(self._person, 4096).decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._person)
        os.close(self.terminal)


@pytest.fixture
def terminal(board: SimulatedBoard) -> Iterator[Terminal]:
    opened = Terminal(board)
    yield opened
    opened.close()


def test_shell_talks_to_the_prompt_and_gives_the_terminal_back(terminal: Terminal) -> None:
    terminal.wait_for(">>> ")
    terminal.type("print(6 * 7000)\r")
    terminal.wait_for("42000\r\n>>> ")
    terminal.type("while not print('on'): pass\r\r")
    terminal.wait_for("on\r\non\r\n")
    terminal.type("\x03")  # the board's, not ours
    terminal.wait_for("KeyboardInterrupt")
    terminal.type("\x1d")
    assert terminal.process.wait(_DEADLINE_S) == 0
    assert termios.tcgetattr(terminal.terminal) == terminal.before


def test_shell_interrupts_an_application_when_told(application: SimulatedBoard) -> None:
    terminal = Terminal(application, "--interrupt")
    try:
        terminal.wait_for(">>> ")
        terminal.type("print('n is', n > 0)\r")
        terminal.wait_for("n is True")
    finally:
        terminal.close()


def test_shell_needs_a_terminal(board: SimulatedBoard) -> None:
    done = handfast("shell", "--board", board.serial_url)
    assert (done.returncode, "board run" in done.stderr) == (2, True)
