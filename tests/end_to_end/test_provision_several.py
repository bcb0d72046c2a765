"""Several boards at once; what a production line wants of each: a label, a line in a record."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from provision_support import fit_radio, running_board, running_gateway

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.lab.gateway_process import GatewayProcess
from handfast.state import StateDir

SECRET = "a secret of the air"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StateDir, GatewayProcess]]:
    with running_gateway(tmp_path_factory.mktemp("gateway") / "state") as served:
        yield served


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[list[SimulatedBoard]]:
    with ExitStack() as stack:
        folders = [tmp_path / f"several-{tmp_path.name}-{number}" for number in range(3)]
        yield [stack.enter_context(running_board(folder)) for folder in folders]


def run(
    served: tuple[StateDir, GatewayProcess], *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handfast", "provision", "--dir", str(served[0].root)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )


def named(boards: list[SimulatedBoard]) -> list[str]:
    return [word for board in boards for word in ("--board", board.serial_url)]


def test_one_board_that_fails_stops_no_other_and_shows_in_the_exit_code(
    boards: list[SimulatedBoard], served: tuple[StateDir, GatewayProcess], tmp_path: Path
) -> None:
    radio = boards[1]
    fit_radio(radio)
    record, labels = tmp_path / "line.csv", tmp_path / "labels"
    arguments = (*named(boards), "--no-start", "--label", labels, "--record", record, "--json")
    # Two have no radio, and are refused the network.
    done = run(served, *arguments, "--wifi", "home", HANDFAST_WIFI_PASSWORD=SECRET)
    assert done.returncode == 6, done.stderr
    told = json.loads(done.stdout)
    assert (told["provisioned"], told["failed"]) == (1, 2)
    outcomes = {entry["board"]: entry for entry in told["boards"]}
    assert list(outcomes) == [board.serial_url for board in boards]
    device_id = outcomes[radio.serial_url]["device_id"]
    for board in (boards[0], boards[2]):
        assert outcomes[board.serial_url]["exit_code"] == 6
        assert "has no Wi-Fi" in outcomes[board.serial_url]["problem"]
    assert [path.name for path in labels.iterdir()] == [f"{device_id}.svg"]
    with record.open(newline="") as file:
        lines = {line["board"]: line for line in csv.DictReader(file)}
    assert len(lines) == 3
    assert lines[radio.serial_url]["outcome"] == "provisioned"
    assert lines[radio.serial_url]["device_id"] == device_id
    assert lines[boards[0].serial_url]["outcome"] == "failed"
    # The others, without the network: a second line each, and nothing left to do for the first.
    again = run(served, *arguments)
    assert again.returncode == 0, again.stderr
    counts = [entry["files_copied"] for entry in json.loads(again.stdout)["boards"]]
    assert counts[1] == 0
    assert counts[0] == counts[2] == outcomes[radio.serial_url]["files_copied"] > 2
    assert len(record.read_text().splitlines()) == 1 + 3 + 3
    assert len(list(labels.iterdir())) == 3
    everything = done.stdout + done.stderr + again.stdout + again.stderr
    everything += served[0].gateway_log.read_text() + record.read_text()
    everything += "".join(path.read_text() for path in labels.iterdir())
    with SerialLink.open(radio.serial_url) as link:
        kept = json.loads(link.read_file("/mtls/secret.json") or b"")
    assert kept["wifi"] == {"home": SECRET}
    for secret in (SECRET, kept["token"]):
        assert secret not in everything


def test_each_board_has_a_line_of_progress_and_a_row(
    boards: list[SimulatedBoard], served: tuple[StateDir, GatewayProcess]
) -> None:
    gone = ("--board", "/dev/tty-none")
    done = run(served, *named(boards[:2]), *gone, "--no-start", "--label", "-", COLUMNS="200")
    assert done.returncode == 6, done.stderr
    for board in boards[:2]:
        (line,) = [line for line in done.stderr.splitlines() if board.serial_url in line]
        assert " done " in line, done.stderr
        assert board.serial_url in done.stdout
        assert f"hardware {board.unique_id.hex()}" in done.stdout  # the label
    (line,) = [line for line in done.stderr.splitlines() if "/dev/tty-none" in line]
    assert " failed " in line
    assert "/dev/tty-none: there is no board" in done.stdout
    assert "Traceback" not in done.stderr


def test_failures_of_several_kinds_are_a_failed_check(
    boards: list[SimulatedBoard], served: tuple[StateDir, GatewayProcess]
) -> None:
    first = run(served, "--board", boards[0].serial_url, "--no-start", "--json")
    served[1].admin.suspend(json.loads(first.stdout)["device_id"])
    done = run(served, *named(boards[:1]), "--board", "/dev/tty-none", "--no-start", "--json")
    assert done.returncode == 1
    assert [entry["exit_code"] for entry in json.loads(done.stdout)["boards"]] == [5, 6]


def test_all_is_every_board_that_is_found(
    tmp_path: Path, served: tuple[StateDir, GatewayProcess]
) -> None:
    apart = {"XDG_STATE_HOME": str(tmp_path)}

    def sim(*arguments: str) -> None:
        command = [sys.executable, "-m", "handfast", "sim", *arguments]
        subprocess.run(command, env=os.environ | apart, check=True, capture_output=True, timeout=60)

    none = run(served, "--all", **apart)
    assert none.returncode == 6
    assert "no board is on any port" in none.stderr
    try:
        sim("start", "--name", "all-1")
        sim("start", "--name", "all-2", "--board", "sim-esp32")
        done = run(served, "--all", "--no-start", "--json", **apart)
    finally:
        sim("stop", "--all")
    assert done.returncode == 0, done.stderr
    ids = [entry["device_id"] for entry in json.loads(done.stdout)["boards"]]
    assert sorted(name.rpartition("-")[0] for name in ids) == ["sim-esp32", "sim-pico-w"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say which boards"),
        (("--board", "a", "--all"), "say which boards"),
        (("--board", "a", "--board", "a"), "named twice"),
        (("--all", "--device-id", "x"), "--device-id is for one board"),
        (("--all", "--label", "x.svg"), "give a folder"),
        (("--board", "a", "--label", "x.pdf"), r".svg or .png"),
        (("--board", "a", "--label", "-", "--json"), "both want standard output"),
        (("--board", "a", "--record", "x.xlsx"), ".csv or .jsonl"),
    ],
)
def test_what_makes_no_sense_is_told_before_a_board_is_touched(
    served: tuple[StateDir, GatewayProcess], arguments: tuple[str, ...], message: str
) -> None:
    done = run(served, *arguments)
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not any(Path(word).exists() for word in arguments)


def test_one_board_in_one_go(
    boards: list[SimulatedBoard], served: tuple[StateDir, GatewayProcess], tmp_path: Path
) -> None:
    papers = ("--label", tmp_path / "label.png", "--record", tmp_path / "line.jsonl")
    done = run(served, "--board", boards[0].serial_url, "--no-start", "--json", *papers)
    assert done.returncode == 0, done.stderr
    (line,) = (tmp_path / "line.jsonl").read_text().splitlines()
    told, kept = json.loads(done.stdout), json.loads(line)
    for field in ("device_id", "hardware_id", "idevid_sha256"):
        assert kept[field] == told[field]
    assert (tmp_path / "label.png").read_bytes().startswith(b"\x89PNG")
    failed = run(served, "--board", "/dev/tty-none", "--json", *papers)
    assert failed.returncode == 6
    last = json.loads((tmp_path / "line.jsonl").read_text().splitlines()[-1])
    assert (last["outcome"], last["exit_code"], last["device_id"]) == ("failed", 6, None)


def test_ctrl_c_lets_go_of_every_board(
    boards: list[SimulatedBoard], served: tuple[StateDir, GatewayProcess]
) -> None:
    boards[2].power_off()  # one never answers; the others are done or under way
    before = len(served[1].admin.devices())  # other tests use the same gateway
    command = [sys.executable, "-m", "handfast", "provision", *named(boards), "--no-start"]
    process = subprocess.Popen(
        [*command, "--at-once", "3", "--dir", str(served[0].root)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while len(served[1].admin.devices()) == before:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    boards[2].power_on()
    done = run(served, *named(boards), "--no-start", "--json")
    assert done.returncode == 0, done.stderr
