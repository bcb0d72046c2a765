"""Boards on a desk: a serial line, and the user's own commands for reset and power."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from desk import Desk
from plugin_support import Project

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.lab.pytest_plugin.leases import lease_folder, take
from handfast.lab.pytest_plugin.pool import Pool
from handfast.lab.pytest_plugin.selection import Candidate


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path) as desk:
        yield desk


@pytest.fixture
def native_desk(tmp_path: Path) -> Iterator[Desk]:
    with Desk(tmp_path, native=True) as desk:
        yield desk


def entry(name: str, url: str, **commands: list[str]) -> str:
    lines = [f"[board.{name}]", f"url = {json.dumps(url)}"]
    lines += [f"{key} = {json.dumps(command)}" for key, command in commands.items()]
    return "\n".join(lines) + "\n"


def test_a_board_at_a_serial_port_is_tested_like_any_other(tmp_path: Path, desk: Desk) -> None:
    project = Project(tmp_path)
    project.write(
        "test_life.py",
        """
import os

def test_reports(board, gateway):
    device = board.provision(gateway)
    assert gateway.wait_for_telemetry(device, timeout_s=60)
    board.exec("open('/left', 'w').write('x')")

def test_begins_tidily(board):
    assert board.call("os.listdir", "/") == ["lib"]
    assert "mtls" in board.call("os.listdir", "/lib")

def test_cannot_be_power_cut(board):
    assert board.capabilities == set()
    with board.power_cut():
        pass
""",
    )
    outcome = project.run("--handfast-board", desk.board.serial_url)
    assert (outcome.counted("passed"), outcome.counted("failed")) == (2, 1), outcome.text
    assert "cannot have its power cut at a flash operation" in outcome.text


def test_a_dead_board_on_the_desk_is_left_out_and_a_hanging_one_is_brought_back(
    tmp_path: Path, desk: Desk
) -> None:
    master, client = os.openpty()  # somebody plugged it in, and nothing runs on it
    project = Project(tmp_path)
    project.write(
        "handfast-bench.toml",
        entry("dead", os.ttyname(client))
        + entry(
            "alive",
            desk.board.serial_url,
            reset=desk.command("reset"),
            power_off=desk.command("off"),
            power_on=desk.command("on"),
        ),
    )
    project.write(
        "test_desk.py",
        """
import os, signal, pytest

def test_works(board):
    board.exec("print(1)")
    assert board.name == "alive"

@pytest.mark.board(capabilities=["power_cycle", "reset"])
def test_hangs(board):
    os.kill(int(os.environ["BOARD_PID"]), signal.SIGSTOP)
    board.exec("print(1)", timeout_s=0.5)

def test_works_again(board):
    board.exec("print(1)")

@pytest.mark.boards(2)
def test_wants_two(boards):
    pass
""",
    )
    outcome = project.run(
        "--handfast-board", "hardware", "-rA", env={"BOARD_PID": str(desk.board.pid)}
    )
    os.close(master)
    os.close(client)
    text = outcome.text
    assert (outcome.counted("passed"), outcome.counted("failed")) == (2, 1), text
    assert desk.heard == ["reset", "off", "on"]
    assert "2 boards are wanted and 1 are left; dead is in quarantine" in text
    said = text.partition("boards that did not answer")[2]
    assert (
        "dead (test_desk.py::test_works): it does not answer; reset failed: the bench has" in said
    )
    assert "it is in quarantine until this run ends" in said
    assert "alive (test_desk.py::test_hangs): it does not answer; reset: no answer; power" in said


# What a board is whose flash fails: it boots, gives its prompt, and can neither list nor remove.
FAILING_FLASH = b"""
import vfs

class Failing:
    def mount(self, *_):
        pass
    def umount(self):
        pass
    def chdir(self, _):
        pass
    def getcwd(self):
        return "/"
    def fail(self, *_):
        raise OSError(5)
    ilistdir = stat = open = remove = fail

vfs.umount("/")
vfs.mount(Failing(), "/")
"""


def test_a_board_whose_files_cannot_be_removed_is_set_aside_and_the_next_one_is_taken(
    tmp_path: Path, desk: Desk
) -> None:
    project = Project(tmp_path)
    with SimulatedBoard("sim-pico-w", directory=tmp_path / "sick") as sick:
        sick.power_on()
        with SerialLink.open(sick.serial_url) as link:
            link.push({"/boot.py": FAILING_FLASH})
        project.write(
            "handfast-bench.toml",
            entry("sick", sick.serial_url) + entry("sound", desk.board.serial_url),
        )
        project.write(
            "test_both.py",
            """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_works(board, number):
    board.exec("print(1)")
    assert board.name == "sound"

@pytest.mark.boards(2)
def test_wants_two(boards):
    pass
""",
        )
        outcome = project.run("--handfast-board", "hardware", "-rA")
    text = outcome.text
    assert (outcome.counted("passed"), outcome.counted("error")) == (3, 1), text
    why = (
        f"it could not be made ready, the board at {sick.serial_url} raised OSError: [Errno 5] EIO"
    )
    assert f"2 boards are wanted and 1 are left; sick is in quarantine: {why}" in text
    said = text.partition("boards that did not answer")[2]
    assert "sick (test_both.py::test_works[0]): it could not be made ready; the board at" in said
    assert "it is in quarantine until this run ends" in said


# The second test's application prints all the time: what a port that is away would say is lost.
NATIVE_TESTS = r'''
import os, signal, time

MAIN = """
main = "import os, time\\nlife = os.urandom(2).hex()"
main += "\\nwhile True:\\n print('life', life)\\n time.sleep_ms(50)\\n"
with open("/main.py", "w") as file:
    file.write(main)
"""

def test_hangs(board):
    os.kill(int(os.environ["BOARD_PID"]), signal.SIGSTOP)
    board.exec("print(1)", timeout_s=0.5)

def test_restarts(board):
    board.exec(MAIN)
    board.reset()
    first = board.expect("life (....)", timeout_s=60)[1]
    board.power_cycle()
    board.expect(f"life (?!{first})....", timeout_s=60)
    assert board.exec("print(6 * 7)") == "42\n"

def test_restarts_by_itself(board):
    board.exec("print(1)")
    os.system(os.environ["RESET"])
    while os.path.lexists(board.serial_url):
        time.sleep(0.01)
    board.start()
    assert board.exec("print(6 * 7)") == "42\n"
'''


def test_a_board_whose_port_goes_away_when_it_restarts_is_heard_and_used_all_the_same(
    tmp_path: Path, native_desk: Desk
) -> None:
    project = Project(tmp_path)
    assert native_desk.port is not None
    project.write(
        "handfast-bench.toml",
        entry(
            "native",
            native_desk.port.url,
            reset=native_desk.command("reset"),
            power_off=native_desk.command("off"),
            power_on=native_desk.command("on"),
        ),
    )
    project.write(
        "test_native.py",
        NATIVE_TESTS,
    )
    reset = native_desk.command("reset")[-1]
    environment = {"BOARD_PID": str(native_desk.board.pid), "RESET": reset}
    outcome = project.run("--handfast-board", "hardware", "-rA", env=environment)
    assert (outcome.counted("passed"), outcome.counted("failed")) == (2, 1), outcome.text
    assert "it answers again" in outcome.text
    assert "quarantine" not in outcome.text


def has_been_given_back(port: str) -> bool:
    """Say whether nobody holds a board; its port's name will be another board's, so let go."""
    lease = take(lease_folder(), port)
    if lease is not None:
        lease.release()
    return lease is not None


def test_a_board_that_somebody_else_uses_is_waited_for(tmp_path: Path, desk: Desk) -> None:
    project = Project(tmp_path)
    project.write("test_it.py", "def test_it(board):\n    board.exec('print(1)')\n")
    held = take(lease_folder(), desk.board.serial_url)
    assert held is not None
    timer = threading.Timer(4, held.release)
    timer.start()
    outcome = project.run("--handfast-board", desk.board.serial_url)
    timer.join()
    assert outcome.status == 0, outcome.text
    assert has_been_given_back(desk.board.serial_url)


def test_a_worker_that_crashes_leaves_its_board_to_the_others(tmp_path: Path, desk: Desk) -> None:
    project = Project(tmp_path)
    project.write(
        "test_crash.py",
        """
import os, pathlib, pytest

@pytest.mark.parametrize("number", range(4))
def test_it(board, number):
    board.exec("print(1)")
    if number == 1:
        pathlib.Path("held").write_text(board.serial_url)
        os._exit(1)  # as a crash of the interpreter does
    with open("had", "a") as had:
        had.write(f"{number} ")
""",
    )
    outcome = project.run("-n", "2", "--handfast-board", desk.board.serial_url)
    assert (outcome.counted("passed"), outcome.counted("failed")) == (3, 1), outcome.text
    assert "crashed while running" in outcome.text
    assert (project.folder / "held").read_text() == desk.board.serial_url
    assert sorted((project.folder / "had").read_text().split()) == ["0", "2", "3"]
    assert has_been_given_back(desk.board.serial_url)


def test_no_more_boards_are_leased_than_are_wanted_and_those_for_one_test(tmp_path: Path) -> None:
    with ExitStack() as stack:
        urls = []
        for name in ("one", "two"):
            board = stack.enter_context(SimulatedBoard("sim-pico-w", directory=tmp_path / name))
            board.power_on()
            urls.append(board.serial_url)
        wired = [Candidate(url, frozenset(), url=url) for url in urls]
        pool = Pool(wired, tmp_path, tmp_path / "boards", None, 2)
        stack.callback(pool.close)
        (leased,) = pool.lease([])
        free = [url for url in urls if (lease := take(tmp_path, url)) and lease.release() is None]
        assert [*free, leased.serial_url] == urls[::-1]
        pool.give_back(leased)
        assert len(pool.lease([], 2)) == 2
        assert not any(take(tmp_path, url) for url in urls)
