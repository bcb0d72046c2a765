"""A simulated board on its serial line: what a client sees, byte by byte."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulator_support import Repl, cpu_seconds, wait_until

from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem

PROFILES = ("sim-pico-w", "sim-esp32")

# What is run, and in what the Ctrl-C has to find it.
BLOCKING = {
    "sleep": "time.sleep(60)",
    "sleep_ms": "time.sleep_ms(60000)",
    "busy loop": "while True: pass",
    "socket recv": "datagrams.recv(1)",
    "socket accept": "listener.accept()",
    "poll": "select.poll().poll(60000)",
    "poll of a socket": "poller.poll(60000)",
    "asyncio.run, sleeping": "asyncio.run(sleeps())",
    "asyncio.run, serving": "asyncio.run(serves())",
    "asyncio.run, busy": "asyncio.run(spins())",
    "reading standard input": "sys.stdin.read(1)",
}
PREPARE = """
import time, socket, select, asyncio, sys
def bound(kind):
    s = socket.socket(socket.AF_INET, kind)
    s.bind(socket.getaddrinfo('127.0.0.1', 0)[0][-1])
    return s
datagrams = bound(socket.SOCK_DGRAM)
listener = bound(socket.SOCK_STREAM)
listener.listen(1)
poller = select.poll()
poller.register(datagrams, select.POLLIN)
async def sleeps():
    await asyncio.sleep(60)
async def serves():
    await asyncio.start_server(None, '127.0.0.1', 0)
    await asyncio.sleep(60)
async def spins():
    while True:
        await asyncio.sleep(0)
print('ready')
"""


@pytest.fixture(scope="module")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimulatedBoard]:
    with SimulatedBoard("sim-pico-w", directory=tmp_path_factory.mktemp("pico")) as board:
        board.power_on()
        yield board


@pytest.mark.parametrize("code", BLOCKING.values(), ids=BLOCKING.keys())
def test_ctrl_c_stops_whatever_blocks(pico: SimulatedBoard, code: str) -> None:
    with Repl(pico.serial_url) as repl:
        repl.interrupt()
        repl.start(PREPARE + code)
        repl.read_until(b"ready\r\n")
        before = time.monotonic()
        repl.port.write(b"\x03")
        _, error = repl.finish()
        assert error.rstrip().endswith("KeyboardInterrupt:")
        assert time.monotonic() - before < 1


def test_ctrl_c_can_be_caught_and_the_program_goes_on(pico: SimulatedBoard) -> None:
    with Repl(pico.serial_url) as repl:
        repl.interrupt()
        repl.start(
            "import time\nprint('ready')\n"
            "try:\n time.sleep(60)\nexcept KeyboardInterrupt:\n print('caught')\nprint('on')"
        )
        repl.read_until(b"ready\r\n")
        repl.port.write(b"\x03")
        assert repl.finish() == ("caught\r\non\r\n", "")


def test_a_ctrl_c_that_comes_as_a_program_ends_does_not_end_the_board(tmp_path: Path) -> None:
    """One that raises it in the REPL as a rule dies within a few thousand programs."""
    chance = random.Random(86)  # noqa: S311
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            for program in range(6000):
                repl.port.write(b"for i in range(%d):pass\r\r\r" % chance.randrange(300))
                time.sleep(chance.random() * 0.0012)
                repl.port.write(b"\x03" * chance.randrange(1, 4))
                time.sleep(0.0005)
                repl.port.read(repl.port.in_waiting)
                assert board.is_running, f"ended with program {program}"
            assert repl.exec("print('there')") == "there"


def test_data_of_every_byte_value_passes_both_ways(pico: SimulatedBoard) -> None:
    with Repl(pico.serial_url) as repl:
        repl.interrupt()
        repl.start(
            "import sys, micropython\nmicropython.kbd_intr(-1)\nsys.stdout.write('go')\n"
            "data = sys.stdin.buffer.read(512)\nsys.stdout.buffer.write(data)\n"
            "micropython.kbd_intr(3)"
        )
        repl.read_until(b"go")
        sent = bytes(range(256)) * 2
        repl.port.write(sent)
        assert repl.port.read(512) == sent
        assert repl.finish()[1] == ""


def test_line_ends_are_sent_as_boards_send_them(pico: SimulatedBoard) -> None:
    with Repl(pico.serial_url) as repl:
        repl.interrupt()
        repl.start("import sys\nprint('a')\nsys.stdout.write('b\\n')\nsys.stderr.write('c\\n')")
        assert repl.finish()[0] == "a\r\nb\r\nc\r\n"


def test_raw_paste_mode_runs_code_of_any_size(pico: SimulatedBoard) -> None:
    with Repl(pico.serial_url) as repl:
        repl.interrupt()
        repl.port.write(b"\x05A\x01")
        assert repl.port.read(2) == b"R\x01"
        window = int.from_bytes(repl.port.read(2), "little")
        assert repl.port.read(1) == b"\x01"
        code = b"n = 0\n" + (b"# " + b"x" * 98 + b"\n") * 300 + b"print(n + 1)\n"
        allowed = 2 * window
        for at in range(0, len(code), window):
            while allowed < window:
                assert repl.port.read(1) == b"\x01"
                allowed += window
            repl.port.write(code[at : at + window])
            allowed -= window
        repl.port.write(b"\x04")
        repl.read_until(b"\x04")
        assert repl.finish() == ("1\r\n", "")


def test_a_board_that_nobody_listens_to_is_not_held_up_and_uses_no_cpu(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            repl.exec(
                "with open('/main.py', 'w') as f:\n"
                ' f.write(\'for i in range(20000): print("0123456789" * 4)\\n'
                'open("/do" + "ne", "w").close()\\n\')'
            )
        board.reset()  # 840 KB come out of main.py, and nobody reads
        pid = board.pid
        assert pid is not None
        done = lambda: b"done" in board.flash_image.read_bytes()  # noqa: E731
        wait_until(done, "the program to end though nobody reads", 10)
        before = cpu_seconds(pid)
        time.sleep(1)
        assert cpu_seconds(pid) - before <= 0.02
        with Repl(board.serial_url) as repl:
            assert repl.exec("print('still here')") == "still here"


def test_an_idle_board_with_no_client_uses_no_cpu(tmp_path: Path) -> None:
    with SimulatedBoard(directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            repl.interrupt()
        pid = board.pid
        assert pid is not None
        before = cpu_seconds(pid)
        time.sleep(1)
        assert cpu_seconds(pid) - before <= 0.01


def test_a_slow_reader_loses_nothing(pico: SimulatedBoard) -> None:
    with Repl(pico.serial_url) as repl:
        repl.interrupt()
        repl.start("for i in range(30000): print('%08d' % i)")
        time.sleep(1)  # the reader is away: 300 KB, more than any buffer on the way holds
        out, error = repl.finish()
        assert error == ""
        assert out == "".join(f"{i:08d}\r\n" for i in range(30000))


def test_a_client_that_leaves_and_comes_back_finds_the_line_raw(pico: SimulatedBoard) -> None:
    for _ in range(3):
        with Repl(pico.serial_url) as repl:
            assert repl.exec("print('x')") == "x"


@pytest.mark.parametrize("profile", PROFILES)
def test_boot_py_and_main_py_run_in_this_order(profile: str, tmp_path: Path) -> None:
    with SimulatedBoard(profile, directory=tmp_path) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            repl.exec("with open('/boot.py', 'w') as f: f.write('print(\"one\")')")
            repl.exec("with open('/main.py', 'w') as f: f.write('print(\"two\")')")
            repl.port.write(b"\x02\x04")  # friendly REPL, soft reset
            assert repl.read_until(b">>> ")
            text = repl.read_until(b">>> ").decode()
        assert text.index("soft reboot") < text.index("one") < text.index("two")
        assert f"Handfast {profile}" in text


def test_soft_reset_loses_variables_and_closes_sockets_but_keeps_the_clock(
    pico: SimulatedBoard,
) -> None:
    with Repl(pico.serial_url) as repl:
        repl.exec(
            "import socket, machine\nx = 1\ns = socket.socket()\n"
            "machine.RTC().datetime((2026, 5, 4, 0, 3, 2, 1, 0))"
        )
        sockets = _sockets(pico)
        repl.port.write(b"\x04")
        repl.read_until(b"soft reboot\r\n")
        repl.read_until(b"raw REPL; CTRL-B to exit\r\n>")
        assert repl.exec("print('x' in globals())") == "False"
        assert repl.exec("import time; print(time.localtime()[:4])") == "(2026, 5, 4, 3)"
        assert _sockets(pico) < sockets


def _sockets(board: SimulatedBoard) -> int:
    links = Path(f"/proc/{board.pid}/fd").iterdir()
    return sum(str(link.readlink()).startswith("socket:") for link in links)


def test_the_board_sees_nothing_of_the_host(pico: SimulatedBoard) -> None:
    with Repl(pico.serial_url) as repl:
        code = """
import os, sys, vfs
print([n for n in os.listdir('/') if n in ('etc', 'proc', 'home', 'usr')])
print(sys.path)
for what in ('vfs.VfsPosix()', 'os.VfsPosix()', 'open("/etc/passwd")', 'os.stat("/proc")'):
    try:
        eval(what)
        print(what, 'worked')
    except OSError as error:
        print(error.errno)
for name in ('system', 'getenv', 'putenv'):
    print(hasattr(os, name))
for name in ('ssl', 'ffi', 'termios'):
    try:
        __import__(name)
        print(name, 'found')
    except ImportError:
        print('none')
"""
        lines = repl.exec(code).split("\r\n")
    assert lines == [
        "[]",
        "['', '.frozen', '/lib']",
        "1",
        "1",
        "2",
        "2",
        *["False"] * 3,
        *["none"] * 3,
    ]


@pytest.mark.parametrize(
    "module",
    [
        "tls socket select asyncio hashlib binascii json random time machine os sys gc struct io",
        "collections errno micropython re heapq deflate cryptolib uctypes vfs",
    ],
)
def test_the_modules_of_boards_are_there(pico: SimulatedBoard, module: str) -> None:
    with Repl(pico.serial_url) as repl:
        for name in module.split():
            repl.exec(f"import {name}")


@pytest.mark.parametrize("profile", PROFILES)
def test_the_board_says_what_it_is(profile: str, tmp_path: Path) -> None:
    with SimulatedBoard(profile, directory=tmp_path, unique_id=b"\x01\xff" * 4) as board:
        board.power_on()
        with Repl(board.serial_url) as repl:
            about = repl.exec(
                "import sys, os, machine\n"
                "print(sys.implementation._machine, sys.implementation._build)\n"
                "print(os.uname().machine)\n"
                "print(machine.unique_id().hex(), machine.reset_cause() == machine.PWRON_RESET)"
            )
    length = {"sim-pico-w": 8, "sim-esp32": 6}[profile]
    assert f"Handfast {profile}" in about
    assert (b"\x01\xff" * 4)[:length].hex() + " True" in about


def test_an_unplugged_board_hangs_up_on_its_client(tmp_path: Path) -> None:
    board = SimulatedBoard(directory=tmp_path)
    board.power_on()
    with Repl(board.serial_url) as repl:
        repl.interrupt()
        board.unplug()
        with pytest.raises(OSError, match="Input/output error"):
            repl.port.write(b"x")
    assert not board.is_running
    with pytest.raises(BoardProblem, match="unplugged"):
        board.power_on()
