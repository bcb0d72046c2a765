"""The library in one deflated file: what MicroPython makes of it, and what it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from handfast import __version__
from handfast.boards.builder import build_simulator
from handfast.boards.device_code.layout import read_layout
from handfast.boards.device_library import device_library
from handfast.boards.packed_library import ARCHIVE, inner_name, packed
from handfast.resources import firmware_dir

LIBRARY = device_library("1.26.1", 6)
SCRIPT = Path(__file__).with_name("packed_on_board.py")
BOARDS = ("sim-pico-w", "sim-esp32")
INTERRUPTED_OFTEN = 40  # of which the form that loses some lost one in six
ISSUE_BOUND = 48 * 1024

Run = Callable[..., list[str]]


@pytest.fixture(
    params=[(board, version) for board in BOARDS for version in ("1.26.1", "1.25.0")],
    ids=lambda param: "-".join(param),
)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Run the script beside a packed library; returns what it printed before its "ok"."""
    profile, version = request.param
    program = build_simulator(profile, micropython=version)
    folder = tmp_path / "lib" / "mtls"
    folder.mkdir(parents=True)
    for name, content in LIBRARY.packed.items():
        (folder / name).write_bytes(content)

    def script(*arguments: object) -> list[str]:
        done = subprocess.run(
            [program, "-X", "heapsize=400k", SCRIPT, *map(str, arguments)],
            env={**os.environ, "MICROPYPATH": f".frozen:{folder.parent}"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        *said, last = done.stdout.splitlines()
        assert last == "ok", done.stdout + done.stderr
        return said

    return script


def test_it_is_two_files_of_no_more_than_the_issue_allows() -> None:
    assert set(LIBRARY.packed) == {"__init__.mpy", ARCHIVE}
    assert sum(map(len, LIBRARY.packed.values())) <= ISSUE_BOUND


def test_only_a_board_that_inflates_is_given_it() -> None:
    assert LIBRARY.files_for(inflates=True) == LIBRARY.packed
    assert LIBRARY.files_for(inflates=False) == LIBRARY.files


def test_a_board_reads_every_module_to_the_byte(run: Run) -> None:
    wanted: list[object] = []
    for name, content in LIBRARY.files.items():
        wanted += [f"{inner_name(name)}.mpy", len(content), sha256(content).hexdigest()]
    run("contents", *wanted)


def test_it_is_one_package_whatever_is_imported_first(run: Run) -> None:
    run("imports", __version__)


def test_it_can_be_imported_again(run: Run) -> None:
    run("again")


@pytest.mark.parametrize(("module", "most"), [("mtls.custody", 14_000), ("mtls", 60_000)])
def test_an_import_without_heap_says_so_and_can_be_repeated(
    run: Run, module: str, most: int
) -> None:
    (failed,) = run("full_heap", module, most)
    assert int(failed) > 5


def test_a_file_that_takes_its_place_while_it_runs_is_read_as_it_is(
    run: Run, tmp_path: Path
) -> None:
    first = read_layout(firmware_dir() / "layout.toml").packed_first
    other = packed(dict(reversed(LIBRARY.files.items())), ("window", *first[:1]))
    assert other != LIBRARY.packed[ARCHIVE]
    (tmp_path / "other.z").write_bytes(other)
    assert run("replaced", tmp_path / "lib" / "mtls" / ARCHIVE, tmp_path / "other.z") == [
        "Agent Clock"
    ]


@pytest.mark.parametrize("board", BOARDS)
def test_ctrl_c_during_an_import_is_not_lost(board: str, tmp_path: Path) -> None:
    folder = tmp_path / "lib" / "mtls"
    folder.mkdir(parents=True)
    for name, content in LIBRARY.packed.items():
        (folder / name).write_bytes(content)
    program = build_simulator(board)
    for number in range(INTERRUPTED_OFTEN):
        with subprocess.Popen(
            [program, "-X", "heapsize=400k", SCRIPT, "interrupted"],
            env={**os.environ, "MICROPYPATH": f".frozen:{folder.parent}"},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            time.sleep(number * 0.0005)  # somewhere in an import
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == "interrupted\nok\n"
