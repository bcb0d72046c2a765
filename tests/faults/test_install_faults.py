"""A tree of files changes in one step: whatever fails, a board runs all the old or all the new."""

from __future__ import annotations

import random
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from handfast.boards.device_error import DeviceError, DeviceFull
from handfast.boards.device_tree import NEXT, PART, SCRIPT, settle
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import SerialPort, Unplugged
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem
from handfast.resources import firmware_dir

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS / "host" / "serial"), str(_TESTS / "end_to_end")]
from cable import CutCable  # noqa: E402
from provision_support import answers_end_with_the_power  # noqa: E402

RUNS_S = 10.0
# What the installation below takes at least: docs/reference/faults.md counts on it.
FEWEST_OPERATIONS = 90
FEWEST_WRITES = 100
SECOND_CUTS = 20
SECOND_BOOT_S = 0.2  # for a boot that moves eight files
FOLDERS = ("/lib/pkg", "/mtls/anchor")
_RUNS = re.compile(r"runs (\w+ \w+ \w+ \w+ \w+)\r?\n")
_MAIN = """
import time
import boot_mark
from pkg import a, b
with open('/mtls/config.json') as file:
    config = file.read()
while True:  # opening a port discards what came before
    print('runs', {version!r}, a.V, b.V, config, boot_mark.V)
    time.sleep_ms(20)
"""


def application(version: str, *, boot: bytes | None = None) -> dict[str, bytes]:
    """An application whose every part says of which version it is.

    Its boot.py leaves the version in a module of its own, so that main.py sees which one ran.
    """
    rng = random.Random(version)  # noqa: S311 - files, no secrets
    filler = "# " + "".join(rng.choices("abcdef", k=3000)) + "\n"
    mark = f"\nimport sys\nclass _M:\n V = {version!r}\nsys.modules['boot_mark'] = _M\n".encode()
    ours = (firmware_dir() / "app" / "boot.py").read_bytes()
    return {
        "/lib/pkg/__init__.py": b"",
        "/lib/pkg/a.py": f"V = {version!r}\n{filler}".encode(),
        "/lib/pkg/b.py": f"V = {version!r}\n".encode(),
        f"/lib/pkg/only_{version}.py": b"pass\n",
        "/lib/pkg/data.bin": rng.randbytes(6000),
        f"/mtls/anchor/{version}.der": rng.randbytes(4000),
        "/mtls/config.json": version.encode(),
        "/boot.py": (ours if boot is None else boot) + mark,
        "/main.py": _MAIN.format(version=version).encode(),
    }


OLD, NEW = application("old"), application("new")
# Another's, or our own from before there was a next tree: its boot.py does not look for one.
FOREIGN = application("old", boot=b"")
# Of which nothing changes at boot: the folder's rename decides, not boot.py's.
SAME_BOOT = {**NEW, "/boot.py": OLD["/boot.py"]}
OURS, ANOTHERS = "an application of ours", "another's application"
START = {OURS: OLD, ANOTHERS: FOREIGN}


@dataclass(frozen=True)
class Prepared:
    """A flash image with an application on it, and what installing NEW over that takes."""

    image: Path
    operations: int


def install(link: SerialLink, files: Mapping[str, bytes]) -> tuple[str, ...]:
    return link.install(files, only_files_below=FOLDERS).copied


@contextmanager
def board_of(image: Path, folder: Path) -> Iterator[SimulatedBoard]:
    folder.mkdir()
    shutil.copy(image, folder / "flash.img")
    with SimulatedBoard("sim-pico-w", directory=folder) as board:
        yield board


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Prepared]:
    found = {}
    for name, files in START.items():
        folder = tmp_path_factory.mktemp("prepared")
        with SimulatedBoard("sim-pico-w", directory=folder / "board") as board:
            board.power_on()
            with SerialLink.open(board.serial_url) as link:
                link.push(files)
            board.power_off()
            image = shutil.copy(board.flash_image, folder / "image")
            board.power_on()
            with SerialLink.open(board.serial_url) as link:
                link.soft_reset()
                before = int(link.exec("import _sim\nprint(_sim.flash_ops())"))
                install(link, NEW)
                after = int(link.exec("import _sim\nprint(_sim.flash_ops())"))
        assert after - before >= FEWEST_OPERATIONS
        found[name] = Prepared(Path(image), after - before)
    return found


def what_runs(board: SimulatedBoard) -> str:
    """Switch the board on and return the version that everything it runs is of."""
    board.power_on()
    with SerialLink.open(board.serial_url) as link:
        told, deadline = "", time.monotonic() + RUNS_S
        while (found := _RUNS.search(told)) is None:
            assert time.monotonic() < deadline, f"no application runs; the board said {told!r}"
            told += link.read_console(0.05)
    parts = set(found[1].split())
    assert len(parts) == 1, f"a mixture runs: {found[0]}"
    return parts.pop()


def assert_installed_whole(board: SimulatedBoard, files: Mapping[str, bytes]) -> None:
    """Installing once more ends with the new tree, and nothing else beside it."""
    with SerialLink.open(board.serial_url) as link:
        install(link, files)
        assert {path: link.read_file(path) for path in link.hashes("/")} == files
        assert set(link.exec("import os\nprint(*os.listdir('/'))").split()).isdisjoint(
            {NEXT.strip("/"), PART.strip("/")}
        )


def install_until_the_power_fails(board: SimulatedBoard) -> bool:
    """Install NEW; returns whether the power failed before that was done."""
    with SerialLink.open(board.serial_url) as link, answers_end_with_the_power(board, link):
        try:
            install(link, NEW)
        except BoardProblem:
            board.wait_for_power_cut(5)
            return True
    return board.power_was_cut


@pytest.mark.parametrize(
    ("torn", "first", "every"), [(True, 0, 2), (True, 1, 2), (False, 1, 4)], ids=str
)
@pytest.mark.parametrize("start", START)
def test_power_cut_in_an_installation_leaves_the_old_application_or_the_new(
    prepared: Mapping[str, Prepared],
    tmp_path: Path,
    start: str,
    torn: bool,
    first: int,
    every: int,
) -> None:
    at_hand = prepared[start]
    ran: list[str] = []
    for operation in range(first, at_hand.operations, every):
        with board_of(at_hand.image, tmp_path / f"cut-{operation}") as board:
            board.power_on(cut_after=operation, torn=torn)
            assert install_until_the_power_fails(board), operation
            ran.append(what_runs(board))
            assert_installed_whole(board, NEW)
    # There is one moment at which it changes.
    assert ran == sorted(ran, reverse=True)
    assert set(ran) == {"old", "new"}


@pytest.mark.parametrize("start", START)
def test_power_cut_again_while_the_new_application_is_moved_in(
    prepared: Mapping[str, Prepared], tmp_path: Path, start: str
) -> None:
    at_hand = prepared[start]
    rng = random.Random(7)  # noqa: S311
    for case in range(SECOND_CUTS):
        first = rng.randrange(at_hand.operations // 2, at_hand.operations)
        with board_of(at_hand.image, tmp_path / f"cut-{case}") as board:
            board.power_on(cut_after=first)
            assert install_until_the_power_fails(board)
            board.power_on(cut_after=rng.randrange(12))  # boot.py goes on with it, if it is there
            time.sleep(SECOND_BOOT_S)
            board.power_off()
            what_runs(board)
            assert_installed_whole(board, NEW)


def writes_of_an_installation(
    image: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Return how many bytes had been sent before each write to the port."""
    offsets, sent = [], 0
    write = SerialPort.write

    def counted(port: SerialPort, data: bytes) -> int:
        nonlocal sent
        offsets.append(sent)
        sent += len(data)
        return write(port, data)

    with board_of(image, folder) as board, monkeypatch.context() as patched:
        patched.setattr(SerialPort, "write", counted)
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            install(link, NEW)
    return offsets


@pytest.mark.parametrize(
    ("start", "first", "every"), [*((OURS, n, 3) for n in range(3)), (ANOTHERS, 0, 5)]
)
def test_unplugged_at_every_write_it_goes_on_where_it_stopped(
    prepared: Mapping[str, Prepared],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    start: str,
    first: int,
    every: int,
) -> None:
    at_hand = prepared[start]
    offsets = writes_of_an_installation(at_hand.image, tmp_path / "counted", monkeypatch)
    assert len(offsets) >= FEWEST_WRITES
    sent: list[int] = []
    for offset in offsets[1 + first :: every]:
        with board_of(at_hand.image, tmp_path / f"cut-{offset}") as board:
            board.power_on()
            with CutCable(board.serial_url, cut_after=offset) as cable:
                try:
                    with SerialLink.open(cable.url) as link:
                        install(link, NEW)
                except Unplugged as error:
                    assert error.exit_code == 6  # noqa: PT017
                else:
                    assert offset > offsets[-4]  # the board may need less of what is left
            with SerialLink.open(board.serial_url) as link:
                settle(link)
                sent.append(link.install(NEW, only_files_below=FOLDERS).sent_bytes)
                assert {path: link.read_file(path) for path in link.hashes("/")} == NEW
            board.power_off()
            assert what_runs(board) == "new"
    # What has arrived does not travel again.
    assert sent[0] == max(sent) > 0
    assert min(sent) == 0
    assert len(set(sent)) > 3


# Where it may not


def test_an_application_with_the_same_boot_changes_by_one_rename(
    prepared: Mapping[str, Prepared], tmp_path: Path
) -> None:
    with board_of(prepared[OURS].image, tmp_path / "board") as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            copied = install(link, SAME_BOOT)
            assert "/boot.py" not in copied
            assert {path: link.read_file(path) for path in link.hashes("/")} == SAME_BOOT


def test_a_file_that_is_forgotten_goes_in_the_same_step(
    prepared: Mapping[str, Prepared], tmp_path: Path
) -> None:
    with board_of(prepared[OURS].image, tmp_path / "board") as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            link.push({"/mtls/slot-a": b"a key", "/mtls/seed": b"stays"})
            link.install(OLD, only_files_below=FOLDERS, forget=["/mtls/slot-a", "/mtls/slot-b"])
            assert set(link.hashes("/")) == set(OLD) | {"/mtls/seed"}


def test_nothing_is_written_where_nothing_changed(
    prepared: Mapping[str, Prepared], tmp_path: Path
) -> None:
    with board_of(prepared[OURS].image, tmp_path / "board") as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            before = link.exec("import _sim\nprint(_sim.flash_ops())")
            assert install(link, OLD) == ()
            assert link.exec("import _sim\nprint(_sim.flash_ops())") == before


def test_a_tree_that_does_not_fit_beside_the_old_one_is_refused(
    prepared: Mapping[str, Prepared], tmp_path: Path
) -> None:
    with board_of(prepared[OURS].image, tmp_path / "board") as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            link.exec(
                "import os\nb = bytes(4000)\nwith open('/filler', 'wb') as f:\n"
                " for _ in range(os.statvfs('/')[3] - 8):\n  f.write(b)\n",
                60,
            )
            before = link.hashes("/")
            with pytest.raises(DeviceFull, match="KB more are needed; nothing was written"):
                install(link, NEW)
            assert link.hashes("/") == before
            link.exec("import os\nos.remove('/filler')")
            install(link, NEW)


@pytest.mark.parametrize(
    ("in_the_way", "named"),
    [("/main.py/x", "/main.py"), ("/lib", "/lib"), ("/lib/pkg", "/lib/pkg")],
)
def test_what_is_in_the_way_is_found_before_anything_changes(
    tmp_path: Path, in_the_way: str, named: str
) -> None:
    with SimulatedBoard("sim-pico-w", directory=tmp_path / "board") as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            link.push({in_the_way: b"x"})
            with pytest.raises(DeviceError, match=f"{named} is in the way"):
                install(link, NEW)
            assert "/boot.py" not in link.hashes("/")
            link.exec(f"import os\nos.remove({in_the_way!r})\n")
            if in_the_way == "/main.py/x":
                link.exec("import os\nos.rmdir('/main.py')")
            install(link, NEW)
            assert {path: link.read_file(path) for path in link.hashes("/")} == NEW


def test_a_new_version_that_cannot_be_moved_in_keeps_main_from_running(
    prepared: Mapping[str, Prepared], tmp_path: Path
) -> None:
    with board_of(prepared[OURS].image, tmp_path / "board") as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link:
            link.push({SCRIPT: b"raise OSError(28)"})
            link.soft_reset(run_main=True)
            assert "runs" not in link.read_console(0.5)


def test_a_boot_file_that_would_not_finish_it_is_a_mistake_of_ours(
    prepared: Mapping[str, Prepared], tmp_path: Path
) -> None:
    with board_of(prepared[OURS].image, tmp_path / "board") as board:
        board.power_on()
        with SerialLink.open(board.serial_url) as link, pytest.raises(ValueError, match="must run"):
            install(link, FOREIGN)
