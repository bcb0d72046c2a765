"""Places: whose they are, and what becomes of them when their holder or their exporter dies."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Desk
from labgrid import Environment
from labgrid_support import SIMULATED_DRIVERS, Labgrid, environment, simulated
from plugin_support import Project

from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem, Unreachable, UsageError
from handfast.lab.labgrid import places as module
from handfast.lab.labgrid.places import Place, places
from handfast.lab.pytest_plugin.pool import Pool
from handfast.lab.pytest_plugin.selection import Candidate

NAMES = ("left", "right")

# A run that is killed while it holds a board.
HOLDER = """
import os, signal, sys
from pathlib import Path
from labgrid import Environment
from handfast.lab.labgrid.places import places
(place,) = [c.place for c in places(Environment(sys.argv[1])) if c.name == "left"]
assert place.take(Path(sys.argv[2])) is not None
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labgrid]:
    exporters = {"one": simulated(*NAMES), "gone": simulated("gone")}
    folder = tmp_path_factory.mktemp("lab")
    with Labgrid(folder, exporters) as lab:
        lab.processes["gone"].kill()
        yield lab


@pytest.fixture
def lab(shared_lab: Labgrid) -> Iterator[Labgrid]:
    """The lab with nothing acquired; what a test that fails has acquired is given back."""
    yield shared_lab
    shared_lab.release_all()


def made(lab: Labgrid, *names: str) -> list[Candidate]:
    return places(Environment(str(lab.environment_file("env.yaml", names, SIMULATED_DRIVERS))))


@pytest.fixture
def left(lab: Labgrid) -> Iterator[Place]:
    (candidate,) = made(lab, "left")
    assert isinstance(candidate.place, Place)
    yield candidate.place
    candidate.place.close()


def test_all_that_an_exporter_exports_is_there_when_it_is_started(tmp_path: Path) -> None:
    names = [f"board-{number}" for number in range(50)]
    with Labgrid(tmp_path / "lab", {"one": simulated(*names)}) as lab:
        assert lab.exported() == {("one", name) for name in names}


def test_a_place_is_acquired_and_given_back(lab: Labgrid, left: Place, tmp_path: Path) -> None:
    with pytest.raises(BoardProblem, match="not acquired"):
        left.bench.reset()
    for _ in range(2):  # and again: each time with another port
        taken = left.take(tmp_path)
        assert taken is not None
        assert list(lab.acquired()) == ["left"]
        assert left.bench.serial_url.startswith("socket://127.0.0.1:")
        left.bench.renew()
        assert not left.bench.power_was_cut
        assert left.take(tmp_path) is None  # as another run on this machine finds it
        taken.release()
        taken.release()
        assert lab.acquired() == {}


def test_labgrid_itself_connects_anew_when_we_have_hung_up(
    lab: Labgrid, left: Place, tmp_path: Path
) -> None:
    taken = left.take(tmp_path)
    assert taken is not None
    taken.release()
    left.close()
    lab.client("-p", "left", "acquire")
    made = Environment(str(lab.environment_file("own.yaml", ["left"], SIMULATED_DRIVERS)))
    target = made.get_target("left")
    assert target is not None
    assert target.get_driver("MicroPythonDriver").exec("print('own')") == "own\n"
    made.cleanup()
    lab.client("-p", "left", "release")


def test_a_place_that_its_user_acquired_is_used_and_stays_acquired(
    lab: Labgrid, left: Place, tmp_path: Path
) -> None:
    lab.client("-p", "left", "acquire")
    taken = left.take(tmp_path)
    assert taken is not None
    left.bench.reset()
    taken.release()
    assert list(lab.acquired()) == ["left"]
    lab.client("-p", "left", "release")


def test_a_place_of_somebody_else_is_left_alone(lab: Labgrid, left: Place, tmp_path: Path) -> None:
    lab.client("-p", "left", "acquire", LG_USERNAME="ada", LG_HOSTNAME="elsewhere")
    assert left.take(tmp_path) is None
    assert lab.acquired() == {"left": "elsewhere/ada"}
    lab.client("-p", "left", "release", LG_USERNAME="ada", LG_HOSTNAME="elsewhere")


def test_what_a_killed_run_held_is_had_by_the_next_and_given_back(
    lab: Labgrid, left: Place, tmp_path: Path
) -> None:
    env = lab.environment_file("holder.yaml", ["left"], SIMULATED_DRIVERS)
    done = subprocess.run(
        [sys.executable, "-c", HOLDER, str(env), str(tmp_path)],
        env=environment(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert list(lab.acquired()) == ["left"]
    taken = left.take(tmp_path)
    assert taken is not None
    left.bench.reset()
    taken.release()
    assert lab.acquired() == {}
    assert not list(tmp_path.glob("*.acquired"))


def test_a_place_that_nothing_exports_is_given_up_with_its_reason(
    lab: Labgrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACK_WITHIN_S", 0.5)
    boards = made(lab, "gone")
    pool = Pool(boards, tmp_path, tmp_path / "boards", None, 1)
    started = time.monotonic()
    with pytest.raises(BoardProblem, match=r"0 are left; gone labgrid place gone: nothing exports"):
        pool.lease([])
    assert time.monotonic() - started < 20
    pool.close()
    assert lab.acquired() == {}
    pool = Pool([*boards, *made(lab, "right")], tmp_path, tmp_path / "boards", None, 1)
    (board,) = pool.lease([])
    assert board.name == "right"
    assert board.exec("print(1)") == "1\n"
    pool.give_back(board)
    pool.close()


def test_a_place_that_is_not_there_and_a_coordinator_that_is_not_are_said(
    lab: Labgrid, tmp_path: Path
) -> None:
    (stranger,) = made(lab, "middle")
    assert stranger.place is not None
    with pytest.raises(UsageError, match="`labgrid-client -p middle create` makes a place"):
        stranger.place.take(tmp_path)
    stranger.place.close()
    env = lab.environment_file("silent.yaml", ["left"], SIMULATED_DRIVERS)
    env.write_text(env.read_text().replace(lab.address, "127.0.0.1:9"))
    (silent,) = places(Environment(str(env)))
    assert silent.place is not None
    with pytest.raises(Unreachable, match=r"coordinator at 127\.0\.0\.1:9 does not answer: start"):
        silent.place.take(tmp_path)
    silent.place.close()


def test_workers_of_one_run_share_the_places(lab: Labgrid, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(
        "test_it.py",
        """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_it(board, number):
    assert board.exec("print(%d)" % number) == "%d\\n" % number
    assert board.name in ("left", "right")
""",
    )
    env = lab.environment_file("workers.yaml", NAMES, SIMULATED_DRIVERS)
    outcome = project.run("-n", "2", f"--lg-env={env}", "--handfast-host=127.0.0.1")
    assert outcome.status == 0, outcome.text
    assert outcome.counted("passed") == 4
    assert lab.acquired() == {}


# What is read before any coordinator is asked


def read(folder: Path, targets: str) -> list[Candidate]:
    file = folder / "env.yaml"
    file.write_text(f"imports: [handfast.lab.labgrid]\ntargets:\n{targets}\n")
    return places(Environment(str(file)))


def test_capabilities_come_from_drivers_features_and_the_boards_definition(tmp_path: Path) -> None:
    targets = """
  desk:
    features: [bme280]
    resources: {RemotePlace: {name: desk}, NetworkSerialPort: {host: pi, port: 1}}
    drivers:
    - MicroPythonDriver: {board: pico-w}
  hub:
    resources:
      NetworkSerialPort: {host: pi, port: 1}
      NetworkPowerPort: {model: simplerest, host: "http://pi/{index}/{value}", index: "1"}
    drivers: [NetworkPowerDriver: {}, MicroPythonDriver: {board: sim-pico-w}]
  simulated:
    resources: {RemotePlace: {name: simulated}}
    drivers: [SimulatedBoardDriver: {}, MicroPythonDriver: {board: sim-pico-w}]
  other:
    drivers: {}
"""
    found = {one.name: sorted(one.capabilities) for one in read(tmp_path, targets)}
    assert found == {
        "desk": ["bme280", "real_radio"],
        "hub": ["power_cycle", "reset"],
        "simulated": ["clock", "power_cut", "power_cycle", "reset"],
    }


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("  main: {drivers: {}}", "no target has a MicroPythonDriver"),
        ("  main: {drivers: [MicroPythonDriver: {}, NoDriver: {}]}", "knows no driver NoDriver"),
        (
            "  main: {resources: [RemotePlace: {name: a}, RemotePlace: {name: b}],"
            " drivers: {MicroPythonDriver: {}}}",
            "main has more than one RemotePlace",
        ),
        ("  main: {drivers: [7]}", "labgrid target main: invalid list item"),
        ("  main: {drivers: {MicroPythonDriver: {board: pico-x}}}", "there is no board 'pico-x'"),
    ],
)
def test_an_environment_without_sense_is_refused(tmp_path: Path, targets: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(tmp_path, targets)


def test_a_run_without_what_it_asks_for_ends_at_once(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("test_it.py", "def test_it(board):\n    pass\n")
    project.write("env.yaml", "targets: {main: {drivers: {}}}\n")
    for options, said in (
        (["--handfast-board=labgrid", "-p", "no:labgrid"], "needs labgrid (pip install"),
        (["--lg-env=env.yaml"], "env.yaml: no target has a MicroPythonDriver"),
    ):
        outcome = project.run(*options)
        assert outcome.status == pytest.ExitCode.USAGE_ERROR, outcome.text
        assert said in outcome.text


def test_power_and_reset_are_those_of_labgrids_own_drivers(tmp_path: Path) -> None:
    """A relay's commands, as a place on this machine has them; uhubctl is one more."""
    said = tmp_path / "said"
    with SimulatedBoard("sim-pico-w", directory=tmp_path / "board") as board:
        board.power_on()
        targets = f"""
  desk:
    resources: {{RawSerialPort: {{port: {board.serial_url}}}}}
    drivers:
    - ExternalPowerDriver:
        cmd_on: sh -c "echo on >> {said}"
        cmd_off: sh -c "echo off >> {said}"
        delay: 0.0
    - MicroPythonDriver: {{board: sim-pico-w}}
"""
        (desk,) = read(tmp_path, targets)
        assert desk.capabilities == {"power_cycle", "reset"}
        assert isinstance(desk.place, Place)
        pool = Pool([desk], tmp_path, tmp_path / "boards", None, 1)
        (leased,) = pool.lease(["power_cycle"])
        assert leased.exec("print(6 * 7)") == "42\n"
        for act in (leased.power_cycle, leased.reset, leased.bench.power_off):
            said.write_text("")
            act()
            wanted = ["off"] if act == leased.bench.power_off else ["off", "on"]
            assert said.read_text().split() == wanted
        with pytest.raises(BoardProblem, match="nothing can set its clock"):
            leased.power_cycle(rtc=1_700_000_000)
        pool.give_back(leased)
        pool.close()


def test_a_board_whose_port_goes_away_with_its_power_is_had_again(tmp_path: Path) -> None:
    with Desk(tmp_path, native=True) as desk:
        assert desk.port is not None
        off, on = (shlex.join(desk.command(word)) for word in ("off", "on"))
        targets = f"""
  desk:
    resources: {{RawSerialPort: {{port: {desk.port.url}}}}}
    drivers:
    - ExternalPowerDriver: {{cmd_on: {json.dumps(on)}, cmd_off: {json.dumps(off)}, delay: 0.0}}
    - MicroPythonDriver: {{board: sim-pico-w}}
"""
        pool = Pool(read(tmp_path, targets), tmp_path, tmp_path / "boards", None, 1)
        (leased,) = pool.lease(["power_cycle"])
        assert leased.exec("print(6 * 7)") == "42\n"
        leased.power_cycle()
        assert leased.answers(60)
        assert leased.exec("print(6 * 7)") == "42\n"
        os.kill(desk.board.pid or 0, signal.SIGSTOP)
        pool.give_back(leased)
        assert leased.notes[:2] == ["it does not answer", "reset: it answers again"]
        (leased,) = pool.lease(["power_cycle"])
        assert leased.exec("print(6 * 7)") == "42\n"
        pool.give_back(leased)
        pool.close()
        assert pool.quarantined == {}
