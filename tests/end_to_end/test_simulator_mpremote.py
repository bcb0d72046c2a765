"""The real mpremote program against a virtual board's serial line."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulator_support import DEADLINE_S, Repl

from handfast.boards.virtual import virtual_board
from handfast.boards.virtual_board import VirtualBoard

PROFILES = ("sim-pico-w", "sim-esp32", "qemu-mps2")
MPREMOTE = [sys.executable, "-m", "mpremote"]


@pytest.fixture(scope="module", params=PROFILES)
def board(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VirtualBoard]:
    with virtual_board(request.param, directory=tmp_path_factory.mktemp("board")) as board:
        board.power_on()
        yield board


def mpremote(board: VirtualBoard, *arguments: str | Path, status: int = 0) -> str:
    command = [*MPREMOTE, "connect", board.serial_url, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout.replace("\r\n", "\n")


def test_exec_and_eval(board: VirtualBoard) -> None:
    assert mpremote(board, "exec", "print(6 * 7)") == "42\n"
    assert mpremote(board, "eval", "'a' + 'b'") == "ab\n"


def test_an_exception_is_printed_and_ends_with_status_1(board: VirtualBoard) -> None:
    command = [*MPREMOTE, "connect", board.serial_url, "exec", "1 / 0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stdout + done.stderr


def test_folders_and_files_are_copied_both_ways_and_listed(
    board: VirtualBoard, tmp_path: Path
) -> None:
    (tmp_path / "up" / "deep").mkdir(parents=True)
    (tmp_path / "up" / "deep" / "a.py").write_text("A = 1\n")
    big = os.urandom(60_000)
    (tmp_path / "up" / "big.bin").write_bytes(big)
    mpremote(board, "fs", "cp", "-r", tmp_path / "up", ":")
    assert "a.py" in mpremote(board, "fs", "ls", ":up/deep")
    assert "60000 big.bin" in mpremote(board, "fs", "ls", ":up")
    assert "A = 1" in mpremote(board, "fs", "cat", ":up/deep/a.py")
    mpremote(board, "fs", "cp", ":up/big.bin", tmp_path / "back.bin")
    assert (tmp_path / "back.bin").read_bytes() == big
    assert "deep" in mpremote(board, "fs", "tree", ":up")
    mpremote(board, "fs", "rm", "-r", ":up")
    assert "up/" not in mpremote(board, "fs", "ls")
    assert "VfsLfs2" in mpremote(board, "df")


def test_run_a_script(board: VirtualBoard, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nfor i in range(3):\n    print(i, sys.implementation.name)\n")
    assert mpremote(board, "run", script) == "0 micropython\n1 micropython\n2 micropython\n"


def test_mount_a_folder_and_import_from_it(board: VirtualBoard, tmp_path: Path) -> None:
    (tmp_path / "mounted.py").write_text("print('from the host')\n")
    code = "import mounted; open('/remote/out', 'w').write('to the host')"
    assert "from the host" in mpremote(board, "mount", tmp_path, "exec", code)
    assert (tmp_path / "out").read_text() == "to the host"


def test_soft_reset_forgets_and_resume_does_not(board: VirtualBoard) -> None:
    mpremote(board, "exec", "x = 1")
    assert mpremote(board, "resume", "exec", "print('x' in globals())") == "True\n"
    assert mpremote(board, "soft-reset", "exec", "print('x' in globals())") == "False\n"


def test_reset_is_a_hard_reset(board: VirtualBoard) -> None:
    board.power_cycle()
    with Repl(board.serial_url) as repl:  # left open: mpremote does not wait for the reset
        mpremote(board, "reset")
        repl.read_until(b">>> ")
    code = "import machine; print(machine.reset_cause() == machine.PWRON_RESET)"
    assert mpremote(board, "resume", "exec", code) == "False\n"


def test_rtc_is_set_from_the_host(board: VirtualBoard) -> None:
    mpremote(board, "rtc", "--set")
    code = "import time; print(time.localtime()[0] >= 2025)"
    assert mpremote(board, "resume", "exec", code) == "True\n"


def test_ctrl_c_typed_at_mpremotes_terminal_reaches_the_board(board: VirtualBoard) -> None:
    master, slave = pty.openpty()
    terminal = subprocess.Popen(
        [*MPREMOTE, "connect", board.serial_url, "repl"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    try:
        _expect(master, b"Use Ctrl-] or Ctrl-x to exit")
        _expect(master, b">>> ", typing=b"\r")  # until mpremote has put its terminal into raw mode
        os.write(master, b"import time; print('wa' + 'iting'); time.sleep(60)\r")
        _expect(master, b"waiting\r\n")
        os.write(master, b"\x03")
        _expect(master, b"KeyboardInterrupt")
        os.write(master, b"\x1d")  # Ctrl-]
        assert terminal.wait(20) == 0
    finally:
        if terminal.poll() is None:
            terminal.send_signal(signal.SIGKILL)
            terminal.wait()
        os.close(master)


def _expect(master: int, wanted: bytes, *, typing: bytes = b"") -> None:
    seen = b""
    give_up = time.monotonic() + DEADLINE_S
    while wanted not in seen:
        assert time.monotonic() < give_up, f"waited for {wanted!r}, got {seen!r}"
        if select.select([master], [], [], 0.1)[0]:
            seen += os.read(master, 4096)
        elif typing:
            os.write(master, typing)
