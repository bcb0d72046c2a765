"""``handfast sim``: boards that outlive the command that started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from handfast.boards.builder import build_simulator
from handfast.boards.qemu_mps2_build import build_qemu_mps2

Sim = Callable[..., tuple[int, Any, str]]


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[Sim]:
    """Run ``handfast sim ... --json`` with a state folder of its own; stops all at the end."""
    build_simulator("sim-pico-w")
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}

    def run(*words: str | Path) -> tuple[int, Any, str]:
        command = [sys.executable, "-m", "handfast", "sim", *map(str, words), "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        document = json.loads(done.stdout) if done.stdout else None
        return done.returncode, document, done.stderr

    yield run
    run("stop", "--all")


def evaluate(url: str, code: str) -> str:
    command = [sys.executable, "-m", "mpremote", "connect", url, "resume", "exec", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def names(sim: Sim) -> list[str]:
    return [board["name"] for board in sim("list")[1]["boards"]]


def test_a_started_board_answers_is_listed_and_stops(sim: Sim) -> None:
    status, board, _ = sim("start")
    assert status == 0
    assert evaluate(board["serial_url"], "print(1 + 1)") == "2"
    assert names(sim) == ["sim-pico-w"]
    assert sim("stop", "sim-pico-w")[1] == {"stopped": ["sim-pico-w"]}
    assert not Path(f"/proc/{board['pid']}/exe").exists()  # gone, or waiting to be reaped
    assert names(sim) == []


def test_mpremote_works_by_hand_on_a_board_that_was_left_running(sim: Sim, tmp_path: Path) -> None:
    connect = [sys.executable, "-m", "mpremote", "connect", sim("start")[1]["serial_url"]]
    (tmp_path / "tree" / "deep").mkdir(parents=True)
    (tmp_path / "tree" / "deep" / "a.py").write_text("A = 7\n")
    (tmp_path / "script.py").write_text("from tree.deep.a import A\nprint('A is', A)\n")

    def mpremote(*words: str | Path) -> str:
        done = subprocess.run([*connect, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "1\n" in mpremote("exec", "print(1)")
    mpremote("fs", "cp", "-r", tmp_path / "tree", ":")
    assert "A is 7" in mpremote("run", tmp_path / "script.py")
    mpremote("soft-reset")
    assert "A is 7" in mpremote("mount", tmp_path, "exec", "import script")
    mpremote("exec", "--no-follow", "import time; time.sleep(60)")
    assert "back" in mpremote("exec", "print('back')")  # begins with a Ctrl-C


def test_without_json_start_prints_the_path_of_the_line(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    command = [sys.executable, "-m", "handfast", "sim"]
    try:
        done = subprocess.run(
            [*command, "start"], env=environment, capture_output=True, text=True, check=True
        )
        assert Path(done.stdout.strip()).is_char_device()
    finally:
        subprocess.run([*command, "stop", "--all"], env=environment, check=True)


def test_each_board_gets_a_name_and_flash_of_its_own(sim: Sim) -> None:
    boards = [sim("start")[1], sim("start")[1], sim("start", "--name", "mine")[1]]
    assert [board["name"] for board in boards] == ["sim-pico-w", "sim-pico-w-2", "mine"]
    assert len({board["flash_image"] for board in boards}) == 3
    ids = {evaluate(b["serial_url"], "import machine; print(machine.unique_id())") for b in boards}
    assert len(ids) == 3


def test_a_board_of_the_same_name_finds_its_files_again(sim: Sim) -> None:
    url = sim("start", "--name", "b")[1]["serial_url"]
    evaluate(url, "with open('/kept', 'w') as f: f.write('kept')")
    sim("stop", "b")
    url = sim("start", "--name", "b")[1]["serial_url"]
    assert evaluate(url, "print(open('/kept').read())") == "kept"


def test_power_cycle_keeps_the_line_and_loses_ram(sim: Sim) -> None:
    url = sim("start", "--name", "b")[1]["serial_url"]
    evaluate(url, "import machine; machine.RTC().datetime((2030, 1, 1, 0, 0, 0, 0, 0)); x = 1")
    assert sim("power-cycle", "b")[0] == 0
    code = "import time; print(time.localtime()[0], 'x' in globals())"
    assert evaluate(url, code) == "1970 False"


def test_a_board_keeps_its_random_source_over_power_cycles(sim: Sim) -> None:
    url = sim("start", "--name", "b", "--entropy", "stuck")[1]["serial_url"]
    stuck = "import os; print(len(set(os.urandom(64))))"
    assert evaluate(url, stuck) == "1"
    sim("power-cycle", "b")
    assert evaluate(url, stuck) == "1"


def test_a_board_whose_power_is_cut_comes_back_by_a_power_cycle(sim: Sim) -> None:
    url = sim("start", "--name", "b")[1]["serial_url"]
    command = [sys.executable, "-m", "mpremote", "connect", url, "resume", "exec", "--no-follow"]
    code = "import _sim; _sim.cut_after(0); open('/x', 'w').close()"
    subprocess.run([*command, code], check=True)
    assert names(sim) == ["b"]
    sim("power-cycle", "b")
    assert evaluate(url, "print('back')") == "back"


def test_a_board_that_was_killed_is_forgotten_and_its_name_is_free(sim: Sim) -> None:
    board = sim("start", "--name", "b")[1]
    os.kill(board["pid"], signal.SIGKILL)
    assert sim("start", "--name", "b")[0] == 0
    assert names(sim) == ["b"]


def test_a_record_of_another_process_with_the_same_number_is_not_believed(
    sim: Sim, tmp_path: Path
) -> None:
    board = sim("start", "--name", "b")[1]
    record = tmp_path / "state" / "handfast" / "sim" / "b.json"
    values = json.loads(record.read_text())
    record.with_name("other.json").write_text(
        json.dumps(values | {"name": "other", "pid": os.getpid()})
    )
    record.with_name("broken.json").write_text("{")
    assert names(sim) == ["b"]
    assert sim("stop", "other")[0] == 6
    assert board["pid"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("start", "--board", "nothing"), 2, "there is no board 'nothing'"),
        (("start", "--name", "../x"), 2, "not usable as a name"),
        (("start", "--entropy", "dice"), 2, "'host', 'stuck', 'replayed'"),
        (("start", "--micropython", "9.9"), 3, "no source is pinned for micropython 9.9"),
        (("stop",), 2, "give the name of a board, or --all"),
        (("stop", "nobody"), 6, "no simulated board called nobody"),
        (("power-cycle", "nobody"), 6, "no simulated board called nobody"),
    ],
)
def test_what_cannot_be_done_is_told_with_its_exit_code(
    sim: Sim, words: tuple[str, ...], status: int, said: str
) -> None:
    code, _, message = sim(*words)
    assert (code, said in message) == (status, True), message


def test_a_name_or_flash_that_is_in_use_is_refused(sim: Sim, tmp_path: Path) -> None:
    assert sim("start", "--name", "b", "--flash", tmp_path / "f.img")[0] == 0
    assert sim("start", "--name", "b")[0] == 2
    code, _, message = sim("start", "--name", "c", "--flash", tmp_path / "f.img")
    assert (code, "another board is running on it" in message) == (6, True)


def test_a_start_that_is_interrupted_leaves_no_process_and_no_record(tmp_path: Path) -> None:
    # A program that never says on which line it is: the command waits for it.
    program, started = tmp_path / "program", tmp_path / "started"
    program.write_text(
        f"#!/bin/sh\necho $$ > {started}.new; mv {started}.new {started}\nexec sleep 600\n"
    )
    program.chmod(0o755)
    code = (
        "import pathlib\nfrom handfast.boards import detached\n"
        f"detached.build_simulator = lambda *_, **__: pathlib.Path({str(program)!r})\n"
        "detached.start_detached('sim-pico-w')"
    )
    environment = os.environ | {"XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.DEVNULL
    ) as command:
        give_up = time.monotonic() + 30
        while not started.exists():
            assert time.monotonic() < give_up
            time.sleep(0.01)
        command.send_signal(signal.SIGINT)
    assert command.returncode != 0
    assert not Path(f"/proc/{started.read_text().strip()}").exists()
    assert list((tmp_path / "state").rglob("*.json")) == []


def test_an_emulated_board_is_left_running_and_power_cycled_the_same_way(sim: Sim) -> None:
    build_qemu_mps2()
    status, board, said = sim("start", "--board", "qemu-mps2")
    assert status == 0, said
    evaluate(board["serial_url"], "x = 1; open('/kept', 'w').close()")
    assert sim("power-cycle", "qemu-mps2")[0] == 0
    deadline = time.monotonic() + 30
    while evaluate(board["serial_url"], "print('x' in globals())") != "False":
        assert time.monotonic() < deadline
    assert evaluate(board["serial_url"], "import os; print(os.listdir('/'))") == "['kept']"
    emulator = Path(f"/proc/{board['pid']}/task/{board['pid']}/children").read_text().split()
    assert emulator
    assert sim("stop", "qemu-mps2")[1] == {"stopped": ["qemu-mps2"]}
    assert not any(Path(f"/proc/{pid}/exe").exists() for pid in emulator)
