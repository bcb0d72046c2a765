"""Cable, flash or power fail under the serial link: files stay whole, a second try works."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards import device_writer
from handfast.boards.device_error import DeviceFull
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import NoAnswer, Unplugged
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem

sys.path.insert(0, str(Path(__file__).parents[1] / "host" / "serial"))
from cable import CutCable

OLD = {
    "/lib/pkg/a.py": b"old = 1\n" * 800,
    "/lib/pkg/b.bin": random.Random(1).randbytes(7000),  # noqa: S311
    "/main.py": b"old = True\n",
}
NEW = {
    "/lib/pkg/a.py": b"new = 2\n" * 900,
    "/lib/pkg/b.bin": random.Random(2).randbytes(8000),  # noqa: S311
    "/lib/pkg/c/d.py": b"x = 'added'\n" * 300,
    "/main.py": b"new = True\n",
}


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard("sim-pico-w", directory=tmp_path / "board") as board:
        board.power_on()
        yield board


def bytes_of_a_push(board: SimulatedBoard) -> int:
    """Put OLD on the board, and say how many bytes travel to it when NEW follows."""
    with SerialLink.open(board.serial_url) as link:
        link.push(OLD)
    with CutCable(board.serial_url) as cable:
        with SerialLink.open(cable.url) as link:
            link.push(NEW, only_files_below=["/lib/pkg"])
        total = cable.carried
    with SerialLink.open(board.serial_url) as link:
        link.push(OLD, only_files_below=["/lib/pkg"])
    return total


def assert_old_or_new(found: dict[str, str]) -> None:
    """Every file under a name of its own is whole, the old one or the new."""
    for path, digest in found.items():
        if not path.endswith(".part"):
            whole = [files[path] for files in (OLD, NEW) if path in files]
            assert digest in [hashlib.sha256(content).hexdigest() for content in whole], path


def assert_second_try_works(url: str) -> None:
    with SerialLink.open(url) as link:
        assert_old_or_new(link.hashes("/"))
        link.push(NEW, only_files_below=["/lib/pkg"])
        assert {path: link.read_file(path) for path in link.hashes("/")} == NEW


@pytest.mark.parametrize("part", [random.Random(3).random() for _ in range(12)])  # noqa: S311
def test_push_over_a_cable_cut_at_any_byte_can_be_repeated(
    board: SimulatedBoard, part: float
) -> None:
    cut_after = max(1, int(part * bytes_of_a_push(board)))
    with CutCable(board.serial_url, cut_after=cut_after) as cable:
        with pytest.raises(Unplugged, match="plug it in") as caught:
            _push_new(cable.url)
        assert caught.value.exit_code == 6
    assert_second_try_works(board.serial_url)


def _push_new(url: str) -> None:
    with SerialLink.open(url) as link:
        link.push(NEW, only_files_below=["/lib/pkg"])


@pytest.mark.parametrize("part", [random.Random(4).random() for _ in range(6)])  # noqa: S311
def test_byte_lost_on_the_way_is_noticed_or_harmless(
    board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch, part: float
) -> None:
    total = bytes_of_a_push(board)
    with CutCable(board.serial_url, lose=int(part * total)) as cable, monkeypatch.context() as few:
        few.setattr(device_writer, "COMMAND_TIMEOUT_S", 1.0)
        few.setattr(device_writer, "SURVEY_TIMEOUT_S", 1.0)
        try:
            _push_new(cable.url)
        except BoardProblem as error:
            assert cable.url in str(error)  # noqa: PT017
    assert_second_try_works(board.serial_url)


@pytest.mark.parametrize("operation", [0, 1, 2, 4, 8, 16, 24, 32])
def test_power_cut_in_a_push_leaves_old_or_new_files(
    board: SimulatedBoard, monkeypatch: pytest.MonkeyPatch, operation: int
) -> None:
    with SerialLink.open(board.serial_url) as link:
        link.push(OLD)
    board.power_off()
    board.power_on(cut_after=operation)
    with monkeypatch.context() as few:
        few.setattr(device_writer, "COMMAND_TIMEOUT_S", 1.0)
        with pytest.raises(NoAnswer):
            _push_new(board.serial_url)
    board.wait_for_power_cut(5)
    board.power_on()
    assert_second_try_works(board.serial_url)


def fill_flash(link: SerialLink, *, blocks_left: int) -> None:
    """Fill the board's file system but for about that many blocks."""
    link.exec(
        "import os\nb = bytes(4000)\n"
        "with open('/filler', 'wb') as f:\n"
        f" for _ in range(os.statvfs('/')[3] - {blocks_left}):\n  f.write(b)\n",
        60,
    )


def test_push_that_cannot_fit_says_how_much_is_missing_and_writes_nothing(
    board: SimulatedBoard,
) -> None:
    with SerialLink.open(board.serial_url) as link:
        link.push(OLD)
        before = link.hashes("/")
        operations = link.exec("import _sim\nprint(_sim.flash_ops())")
        with pytest.raises(DeviceFull, match=r"is full: 116\d KB more are needed; nothing was"):
            link.push({"/big": bytes(2_000_000)})
        assert link.exec("import _sim\nprint(_sim.flash_ops())") == operations
        assert link.hashes("/") == before


def test_flash_that_fills_up_on_the_way_leaves_whole_files_only(board: SimulatedBoard) -> None:
    # Each folder costs blocks that no one reckoned with.
    files = {f"/new{n}/file": b"x" * 4000 for n in range(20)}
    with SerialLink.open(board.serial_url) as link:
        link.push(OLD)
        fill_flash(link, blocks_left=24)
        with pytest.raises(DeviceFull, match="Remove files from the board") as caught:
            link.push(files)
        assert caught.value.exit_code == 6
        found = link.hashes("/")
        assert not [path for path in found if path.endswith(".part")]
        for path in set(found) & set(files):
            assert link.read_file(path) == files[path]
        link.exec("import os\nos.remove('/filler')")
        link.push(files)
        assert {path: link.read_file(path) for path in files} == files


@pytest.mark.parametrize(
    "code", ["import time\ntime.sleep(1000)", "print('before')\nwhile 1: pass"]
)
def test_board_unplugged_in_a_command_ends_it_at_once(board: SimulatedBoard, code: str) -> None:
    with CutCable(board.serial_url, cut_after=4000) as cable, SerialLink.open(cable.url) as link:
        link.exec("pass")
        started = time.monotonic()
        with pytest.raises(Unplugged):
            link.exec(f"{code}\n#" + "x" * 4000, 60)
        assert time.monotonic() - started < 5
        with pytest.raises(Unplugged):
            link.exec("pass")
