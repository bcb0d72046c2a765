"""The emulated Cortex-M3 board by itself: flash, clock, resets, lines out, and its bench."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from simulator_support import SECTOR, Repl, cpu_seconds, filesystem, kill_its_bench, read

from handfast.boards import qemu_mps2_build
from handfast.boards.qemu_mps2 import QemuMps2Board
from handfast.errors import BoardProblem, EnvironmentProblem

WITHIN_S = 60


@pytest.fixture
def board(tmp_path: Path) -> Iterator[QemuMps2Board]:
    with QemuMps2Board(directory=tmp_path / "board") as board:
        yield board


def ask(board: QemuMps2Board, code: str) -> str:
    with Repl(board.serial_url) as repl:
        return repl.exec(code)


# ---- Flash and power ----


def test_what_was_written_survives_reset_power_cycle_and_power_off(board: QemuMps2Board) -> None:
    board.power_on()
    ask(board, "with open('/kept', 'w') as f: f.write('kept')")
    board.reset()
    assert ask(board, "print(open('/kept').read())") == "kept"
    board.power_cycle()
    assert ask(board, "print(open('/kept').read())") == "kept"
    board.power_off()
    assert read(filesystem(board.flash_image), "/kept") == b"kept"


def test_the_operation_that_is_cut_is_half_done(board: QemuMps2Board) -> None:
    board.power_on()
    with Repl(board.serial_url) as repl:
        repl.exec(
            "import _sim\nf = _sim.Flash()\nlast = f.ioctl(4, 0) - 1\nf.ioctl(6, last)\n"
            "f.writeblocks(last, b'\\xf0' * 256, 0)\nf.writeblocks(last, b'\\x3c' * 256, 0)"
        )
        assert board.flash_image.read_bytes()[-SECTOR:][:256] == b"\x30" * 256
        repl.exec("f.writeblocks(last, bytes(4096), 0)")
        repl.interrupt()
        repl.start("_sim.cut_after(0)\nf.ioctl(6, last)")
        board.wait_for_power_cut(WITHIN_S)
    assert board.power_was_cut
    half = SECTOR // 2
    assert board.flash_image.read_bytes()[-SECTOR:] == b"\xff" * half + bytes(half)


def test_a_pending_cut_outlives_a_reset(board: QemuMps2Board) -> None:
    board.power_on(cut_after=200)
    ask(board, "import os\nos.mkdir('/d')")
    board.reset()
    with Repl(board.serial_url) as repl:
        repl.interrupt()
        repl.start("for n in range(200):\n with open('/f', 'w') as f: f.write('x' * 300)")
        board.wait_for_power_cut(WITHIN_S)


def test_a_cut_in_the_first_boot_leaves_a_board_that_starts(board: QemuMps2Board) -> None:
    board.power_on(cut_after=1, torn=False)
    board.wait_for_power_cut(WITHIN_S)
    board.power_on()
    assert ask(board, "import os\nprint(os.listdir('/'))") == "[]"


def test_two_boards_cannot_share_a_flash_image(board: QemuMps2Board, tmp_path: Path) -> None:
    board.power_on()
    with (
        QemuMps2Board(directory=tmp_path / "board") as other,
        pytest.raises(BoardProblem, match="another board is running on it"),
    ):
        other.power_on()
    assert ask(board, "print(1)") == "1"


def test_a_flash_image_of_no_sense_is_refused(board: QemuMps2Board) -> None:
    board.flash_image.write_bytes(b"\xff" * 5000)
    with pytest.raises(BoardProblem, match="no number of sectors"):
        board.power_on()


# ---- Clock and resets ----


def test_the_clock_survives_a_reset_but_not_a_power_cycle(board: QemuMps2Board) -> None:
    board.power_on()
    assert int(ask(board, "import time\nprint(time.time())")) < WITHIN_S
    set_to = "import machine\nmachine.RTC().datetime((2030, 1, 2, 3, 4, 5, 6, 0))"
    ask(board, set_to)
    board.reset()
    assert ask(board, "import time\nprint(time.localtime()[:4])") == "(2030, 1, 2, 4)"
    board.power_off()
    board.power_on(rtc=1_700_000_000)
    assert 0 <= int(ask(board, "import time\nprint(time.time())")) - 1_700_000_000 < WITHIN_S


def test_each_kind_of_reset_says_its_cause(board: QemuMps2Board) -> None:
    cause = "import machine\nprint(machine.reset_cause())"
    board.power_on()
    assert ask(board, cause) == "1"
    board.reset()
    assert ask(board, cause) == "2"
    with Repl(board.serial_url) as repl:
        repl.interrupt()
        repl.start("import machine\nw = machine.WDT(timeout=400)\nwhile True: pass")
        repl.read_until(b">>> ")  # of the boot that the watchdog brings about
        assert repl.exec(cause) == "3"


def test_a_watchdog_that_is_fed_does_nothing(board: QemuMps2Board) -> None:
    board.power_on()
    code = (
        "import machine, time\nw = machine.WDT(timeout=4000)\nfed = [0]\n"
        "def feed(t):\n w.feed()\n fed[0] += 1\n"
        "t = machine.Timer(-1)\nt.init(period=100, mode=t.PERIODIC, callback=feed)\n"
        "time.sleep(6)\nprint(fed[0] > 20)"
    )
    assert ask(board, code) == "True"


def test_time_passes_as_on_the_host(board: QemuMps2Board) -> None:
    board.power_on()
    with Repl(board.serial_url) as repl:
        repl.exec("import time\nfrom_ms = time.ticks_ms()")
        before = time.monotonic()
        repl.exec("time.sleep_ms(1500)")
        passed_ms = int(repl.exec("print(time.ticks_diff(time.ticks_ms(), from_ms))"))
        assert 1500 <= passed_ms < 1000 * (time.monotonic() - before) + 1000


# ---- Serial line ----


def test_ctrl_c_stops_what_runs(board: QemuMps2Board) -> None:
    board.power_on()
    with Repl(board.serial_url) as repl:
        for code in ("while True: pass", "import time\ntime.sleep(100)"):
            repl.interrupt()
            repl.start(f"print('it runs')\n{code}")
            repl.read_until(b"it runs\r\n")
            repl.port.write(b"\x03")
            assert "KeyboardInterrupt" in repl.finish()[1]


def test_a_slow_reader_loses_nothing_and_an_absent_one_holds_nothing_up(
    board: QemuMps2Board,
) -> None:
    board.power_on()
    with Repl(board.serial_url) as repl:
        repl.interrupt()
        repl.start("for n in range(3000): print(n)")
        time.sleep(0.5)
        assert repl.finish()[0].split() == [str(n) for n in range(3000)]
        repl.start("for n in range(3000): print(n)\nopen('/done', 'w').close()")
        time.sleep(6)
        repl.port.reset_input_buffer()
    assert "done" in ask(board, "import os\nprint(os.listdir('/'))")


def test_an_idle_board_uses_next_to_no_cpu(board: QemuMps2Board) -> None:
    board.power_on()
    ask(board, "import network\nnetwork.LAN().active(True)")
    assert board.pid is not None
    before = cpu_seconds(board.pid)
    time.sleep(3)
    assert cpu_seconds(board.pid) - before < 0.3


# ---- What it is ----


def test_it_says_what_it_is_and_has_a_pico_w_s_heap(board: QemuMps2Board) -> None:
    board.power_on()
    code = (
        "import sys, gc, machine\ngc.collect()\n"
        "print(sys.implementation._build, machine.unique_id() == bytes.fromhex("
        f"{board.unique_id.hex()!r}), 176000 < gc.mem_free() + gc.mem_alloc() < 184 * 1024)"
    )
    assert ask(board, code) == "qemu-mps2 True True"


def test_its_random_source_is_real_unless_it_is_made_to_fail(board: QemuMps2Board) -> None:
    code = "import os\nprint(os.urandom(16).hex())"
    board.power_on()
    drawn = [ask(board, code) for _ in range(3)]
    board.power_cycle()
    drawn.append(ask(board, code))
    assert len(set(drawn)) == 4
    board.power_off()
    board.entropy = "stuck"
    board.power_on()
    assert ask(board, code) == "a5" * 16
    board.power_off()
    board.entropy = "replayed"
    board.power_on()
    replayed = ask(board, code)
    board.reset()
    assert ask(board, code) == replayed


def test_its_network_reaches_this_machine(board: QemuMps2Board, tmp_path: Path) -> None:
    (tmp_path / "answer").write_text("from the host")
    serve = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(serve, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = int(server.stdout.readline().split("port ")[1].split()[0])
            board.power_on()
            answer = ask(
                board,
                "import network, socket, time\nlan = network.LAN()\nlan.active(True)\n"
                "while not lan.isconnected(): time.sleep_ms(5)\n"
                f"s = socket.socket()\ns.connect(('10.0.2.2', {port}))\n"
                "s.write(b'GET /answer HTTP/1.0\\r\\n\\r\\n')\n"
                "print(s.read().split(b'\\r\\n\\r\\n')[1].decode())\n"
                "lan.active(False)\nprint(lan.isconnected())",
            )
        finally:
            server.kill()
    assert answer.split() == ["from", "the", "host", "False"]


# ---- Its bench ----


def test_a_board_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    kill_its_bench("qemu-mps2", tmp_path)


def test_instructions_are_counted_and_waiting_is_not(tmp_path: Path) -> None:
    with QemuMps2Board(directory=tmp_path / "counts", counts_instructions=True) as board:
        board.power_on()

        def counted(code: str) -> int:
            measured = f"import time, _mps2\nfrom_ns = _mps2.busy_ns()\n{code}\n"
            return int(ask(board, measured + "print(_mps2.busy_ns() - from_ns)"))

        nothing = counted("pass")
        work = counted("for _ in range(10000): pass") - nothing
        more = counted("for _ in range(20000): pass") - nothing
        waiting = counted("time.sleep_ms(1000)") - nothing
    assert 10_000 * 20 < work < 10_000 * 400
    assert abs(more - 2 * work) < work / 20
    assert abs(waiting) < 100_000


def test_missing_tools_are_named_by_their_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("gcc", "make"):
        (tools / tool).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(EnvironmentProblem) as refused:
        qemu_mps2_build.build_qemu_mps2()
    for package in ("qemu-system-arm", "gcc-arm-none-eabi", "libnewlib-arm-none-eabi"):
        assert package in str(refused.value)
    assert "make," not in str(refused.value)
