"""``--handfast-flash``: a run's boards get their firmware before their first test."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bootsel_model import RP2040, BootselModel, uf2_file
from test_flash_by_name import FILE, write_board

from handfast.boards.definition import FOLDERS_VARIABLE
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem, EnvironmentProblem, Refused
from handfast.lab.pytest_plugin import pool as pool_module
from handfast.lab.pytest_plugin.flashing import Flasher
from handfast.lab.pytest_plugin.pool import NoSuchBoard, Pool
from handfast.lab.pytest_plugin.selection import Candidate

TESTS = """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_it(board, number):
    assert board.exec("print(1)") == "1\\n"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "boards"))
    write_board(tmp_path / "boards", build="sim-pico-w")
    (tmp_path / "image.uf2").write_bytes(FILE)
    (tmp_path / "leases").mkdir()
    return tmp_path


@pytest.fixture
def board(folder: Path) -> Iterator[SimulatedBoard]:
    """A board on the desk; what it runs does not change by what its drive's model is given."""
    with SimulatedBoard("sim-pico-w", directory=folder / "board") as board:
        board.power_on()
        yield board


@pytest.fixture
def drives(folder: Path) -> Iterator[Callable[[], BootselModel]]:
    made: list[BootselModel] = []

    def plug() -> BootselModel:
        made.append(BootselModel(RP2040, folder / "media"))
        return made[-1]

    yield plug
    for drive in made:
        drive.close()


def wired(
    board: SimulatedBoard, drive: BootselModel | None, definition: str = "desk-pico"
) -> Candidate:
    where = "" if drive is None else str(drive.folder)
    return Candidate("left", frozenset(), url=board.serial_url, board=definition, drive=where)


def pool_of(candidate: Candidate, folder: Path, *, run: str = "1") -> Pool:
    flasher = Flasher(folder / "image.uf2", folder / "leases", run)
    return Pool([candidate], folder / "leases", folder / "pool", None, 1, flasher=flasher)


def test_each_board_is_flashed_once_in_a_run_by_whoever_has_it_first(
    folder: Path, board: SimulatedBoard, drives: Callable[[], BootselModel]
) -> None:
    drive = drives()
    candidate = wired(board, drive)
    pools = [pool_of(candidate, folder) for _ in range(2)]  # of two workers
    (leased,) = pools[0].lease([])
    assert drive.restarted.wait(60)
    assert leased.notes == [
        f"flashed as desk-pico with image.uf2 ({len(FILE)} bytes written): it runs MicroPython "
        "1.26.1, build sim-pico-w"
    ]
    pools[0].give_back(leased)
    (leased,) = pools[1].lease([])  # the drive is gone: flashing again could not succeed
    assert leased.notes == []
    pools[1].give_back(leased)
    again = drives()
    pool_of(candidate, folder, run="2").lease([])
    assert again.restarted.wait(60)


def test_a_board_that_does_not_take_its_firmware_is_put_in_quarantine(
    folder: Path, board: SimulatedBoard, drives: Callable[[], BootselModel]
) -> None:
    drive = drives()
    (folder / "image.uf2").write_bytes(uf2_file(b"x" * 999, 0xE48BFF59))
    pool = pool_of(wired(board, drive), folder)
    with pytest.raises(
        BoardProblem, match=r"quarantine: it could not be flashed, .*image\.uf2 is for RP2350"
    ):
        pool.lease([])
    (buried,) = pool.last_buried()
    assert buried.notes[0] == "it could not be flashed"
    assert not drive.restarted.is_set()


def test_a_board_says_itself_what_it_is(
    folder: Path, board: SimulatedBoard, drives: Callable[[], BootselModel]
) -> None:
    drive = drives()
    told = Flasher(folder / "image.uf2", folder / "leases", "1").flash(wired(board, drive, ""))
    assert told.startswith("flashed as desk-pico ")


def test_a_board_that_cannot_say_what_it_is_has_to_be_named(folder: Path) -> None:
    master, client = os.openpty()  # plugged in, and nothing runs on it
    try:
        nobody = Candidate("left", frozenset(), url=os.ttyname(client))
        with pytest.raises(BoardProblem, match="name its `board` in the bench file"):
            Flasher(folder / "image.uf2", folder / "leases", "1").flash(nobody)
    finally:
        os.close(master)
        os.close(client)


def test_a_dfu_board_is_refused_with_its_own_way(folder: Path, board: SimulatedBoard) -> None:
    nano = wired(board, None, "arduino-nano-esp32")
    with pytest.raises(Refused, match="dfu-util"):
        Flasher(folder / "image.uf2", folder / "leases", "1").flash(nano)


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\n")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "handfast.lab.pytest_plugin", *options],
        cwd=folder,
        env=kept | {"XDG_RUNTIME_DIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_a_run_flashes_the_boards_of_its_bench_file(
    folder: Path, board: SimulatedBoard, drives: Callable[[], BootselModel]
) -> None:
    drive = drives()
    (folder / "handfast-bench.toml").write_text(
        f'[board.left]\nurl = "{board.serial_url}"\nboard = "desk-pico"\ndrive = "{drive.folder}"\n'
    )
    done = run_pytest(
        folder,
        *("--handfast-board=hardware", "--handfast-flash", "--handfast-firmware=image.uf2"),
        *("--junitxml=junit.xml",),
    )
    assert done.returncode == 0, done.stdout
    assert drive.flash[: len(FILE) // 512 * 256].strip(b"\xaa")
    junit = (folder / "junit.xml").read_text()
    assert junit.count("flashed as desk-pico with image.uf2") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--handfast-firmware=image.uf2"], "give both"),
        (["--handfast-flash", "--handfast-firmware=none.uf2"], "there is no file none.uf2"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(folder: Path, options: list[str], said: str) -> None:
    done = run_pytest(folder, *options)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert said in done.stderr


@pytest.mark.parametrize("profile", ["qemu-mps2", "sim-pico-w"])
def test_a_machine_without_an_emulator_is_a_skip_and_one_without_a_compiler_is_not(
    folder: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise EnvironmentProblem("qemu-system-arm is missing")

    monkeypatch.setattr(pool_module, "VirtualBench", missing)
    pool = Pool([Candidate(profile, frozenset(), profile=profile)], folder, folder, None, 1)
    wanted = NoSuchBoard if profile == "qemu-mps2" else EnvironmentProblem
    with pytest.raises(wanted, match="qemu-system-arm is missing"):
        pool.lease([])
