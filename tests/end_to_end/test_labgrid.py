"""Boards on other machines: two runs of pytest on eight boards, and what is killed under them."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from labgrid_support import LOOPBACK, SIMULATED_DRIVERS, Labgrid, simulated
from plugin_support import Project

from handfast.lab.pytest_plugin.leases import lease_folder

RUN_S = 150.0
ONE = [f"one-{number}" for number in range(4)]
TWO = [f"two-{number}" for number in range(4)]

# What both runs share: moments, as files, of what this test has done and what they have reached.
MOMENTS = f"""
import time
from pathlib import Path

HERE = Path(__file__).parent

def reached(moment):
    (HERE / moment).touch()

def wait_for(moment, meanwhile=lambda: None):
    give_up = time.monotonic() + {RUN_S}
    while not (HERE / moment).exists():
        assert time.monotonic() < give_up, moment
        meanwhile()
        time.sleep(0.05)
"""

LOSES = """
import pytest
from moments import reached, wait_for

def test_it_enrols_and_reports(board, gateway):
    reached("a-begins")
    device = board.provision(gateway)
    assert gateway.wait_for_telemetry(device, 60)
    reached("a-reported")

def test_its_exporter_is_killed(board):
    assert board.name.startswith("one-")
    board.exec("print(1)")
    reached("a-holds-one")
    wait_for("exporter-killed")
    board.exec("print(1)")

def test_it_goes_on_with_other_boards(board):
    assert board.name.startswith("two-")
    board.exec("print(1)")
    reached("a-went-on")

def test_the_coordinator_is_killed(board):
    board.exec("print(1)")
    reached("a-holds-another")
    wait_for("coordinator-killed")
    board.exec("print(1)")

def test_it_goes_on_when_all_is_back(board):
    wait_for("exporters-back")
    board.exec("print(1)")

@pytest.mark.boards(2)
def test_it_has_boards_of_the_killed_exporter_again(boards):
    assert all(board.name.startswith("one-") for board in boards)
"""

GOES_ON = """
import pytest
from moments import reached, wait_for

@pytest.mark.board(capabilities=["power_cut", "reset", "power_cycle"])
def test_its_power_fails(board, gateway):
    reached("b-begins")
    assert board.name.startswith("two-")
    device = board.provision(gateway)
    with board.power_cut(at=3):
        board.exec("for number in range(9):\\n open('/kept', 'w').write('x' * 2000)")
    assert board.notes == ["the power failed in flash operation 3 (at=3)"]
    assert gateway.wait_for_telemetry(device, 60)
    reached("b-reported")

@pytest.mark.boards(2)
def test_an_exporter_of_others_is_killed(boards):
    wait_for("a-went-on", lambda: [board.exec("print(1)") for board in boards])

def test_nothing_is_held_when_the_coordinator_is_killed():
    reached("b-waits")
    wait_for("coordinator-killed")

def test_a_board_is_had_when_it_is_back(board):
    assert board.exec("print(1)") == "1\\n"
"""


def start(project: Project, file: str, lab: Labgrid, places: list[str]) -> subprocess.Popen[str]:
    env = lab.environment_file(f"{file}.yaml", places, SIMULATED_DRIVERS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", file]
    command += [f"--lg-env={env}", f"--handfast-host={LOOPBACK}"]
    # Whoever hangs says where, before it is given up.
    command += ["-o", f"faulthandler_timeout={RUN_S - 10}"]
    log = (project.folder / f"{file}.log").open("w")
    return subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment(),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        text=True,
    )


def exported(lab: Labgrid) -> int:
    return lab.client("resources").count("NetworkSimulatedBoard")


def wait_until(condition: Callable[[], bool], *runs: subprocess.Popen[str], what: str) -> None:
    give_up = time.monotonic() + RUN_S
    while not condition():
        assert time.monotonic() < give_up, what
        assert all(run.poll() is None for run in runs), f"ended before {what}"
        time.sleep(0.05)


@pytest.mark.timeout(900)
def test_two_runs_share_eight_boards_and_outlive_an_exporter_and_the_coordinator(
    tmp_path: Path,
) -> None:
    project = Project(tmp_path)
    folder = project.folder
    project.write("moments.py", MOMENTS)
    project.write("test_loses.py", LOSES)
    project.write("test_goes_on.py", GOES_ON)
    exporters = {"one": simulated(*ONE), "two": simulated(*TWO)}
    with Labgrid(tmp_path / "lab", exporters) as lab:
        a = start(project, "test_loses.py", lab, ONE + TWO)
        b = start(project, "test_goes_on.py", lab, TWO + ONE)
        try:
            # Each on its own: two gateways' CAs and boards' first lives are most of the work.
            for moment in ("a-begins", "b-begins", "a-reported", "b-reported", "a-holds-one"):
                wait_until((folder / moment).exists, a, b, what=moment)
            (held,) = [place for place in lab.acquired() if place in ONE]
            assert held == "one-0"
            lab.processes["one"].kill()
            (folder / "exporter-killed").touch()

            wait_until((folder / "b-waits").exists, a, b, what="b waits")
            wait_until((folder / "a-holds-another").exists, a, what="a holds another board")
            assert len(lab.acquired()) == 1
            lab.processes["coordinator"].kill()
            assert lab.processes["two"].wait() == 100  # "start me again", as its unit file does
            (folder / "coordinator-killed").touch()
            lab.start_coordinator()
            lab.start_exporters("one", "two")
            wait_until(lambda: exported(lab) == 8, a, what="all is exported again")
            (folder / "exporters-back").touch()
            assert a.wait(RUN_S) == 1
            assert b.wait(RUN_S) == 0
        finally:
            for run in (a, b):
                run.kill()
                run.wait()
            texts = {
                name: (folder / f"test_{name}.py.log").read_text() for name in ("loses", "goes_on")
            }
            print(texts["loses"], texts["goes_on"])
        assert lab.acquired() == {}
    assert not list(lease_folder().glob("labgrid-*.acquired"))
    assert "2 failed, 4 passed" in texts["loses"]
    assert "4 passed" in texts["goes_on"]
    lost = texts["loses"]
    assert "labgrid place one-0: nothing exports */one-0/*, see whether its exporter runs" in lost
    said = f"the labgrid coordinator at {lab.address} does not answer: start it"
    assert said in lost or "nothing exports */two-" in lost
    assert "boards that did not answer" in lost
    assert "quarantine" not in lost
