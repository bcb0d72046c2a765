"""``handfast board flash`` on a board found by its stable name: all else is in its file."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from bootsel_model import RP2040, BootselModel, uf2_file
from test_flash_command import handfast

from handfast.boards.definition import FOLDERS_VARIABLE, load_boards, read_board
from handfast.boards.detached import DetachedBoard, start_detached, stop_detached
from handfast.boards.discovery import Port, port_now, scan
from handfast.boards.flash.firmware import Firmware
from handfast.boards.flash.flash_board import Options, flash_board, loader_of
from handfast.errors import Refused
from handfast.resources import boards_dir

URL = "https://example.org/desk-v1.26.1.uf2"
FAMILY = 0xE48BFF56
FILE = uf2_file(Random(4).randbytes(9_000), FAMILY)  # noqa: S311 - the same octets each time
SHA256 = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A board of one's own: a Pico W whose MicroPython is a simulated board's."""
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "boards"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_board(tmp_path / "boards", build="sim-pico-w")
    return tmp_path


def write_board(root: Path, *, build: str, name: str = "desk-pico", like: str = "pico-w") -> None:
    text = (boards_dir() / like / "board.toml").read_text()
    for key, value in {"name": name, "build": build, "url": URL, "sha256": SHA256}.items():
        text = re.sub(rf'(?m)^{key} = ".*"', f'{key} = "{value}"', text, count=1)
    (root / name).mkdir(parents=True, exist_ok=True)
    (root / name / "board.toml").write_text(text)


@pytest.fixture
def running(folders: Path) -> Iterator[DetachedBoard]:
    assert folders.is_dir()
    board = start_detached("sim-pico-w")
    yield board
    stop_detached(board)


@pytest.fixture
def name(running: DetachedBoard) -> str:
    (found,) = scan([Port(running.serial_url)], load_boards())
    assert found.name is not None
    assert found.name.startswith("desk-pico@")
    return found.name


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[BootselModel]:
    model = BootselModel(RP2040, tmp_path / "media")
    yield model
    model.close()


Flash = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def flash(name: str, drive: BootselModel) -> Flash:
    return lambda *words, **environment: handfast(
        "flash", "--board", name, "--drive", drive.folder, *words, **environment
    )


def cached(folder: Path) -> dict[str, str]:
    """A cache that holds the board's image, as the first download has left it there."""
    place = folder / "cache/handfast/firmware" / hashlib.sha256(URL.encode()).hexdigest()[:16]
    place.mkdir(parents=True)
    (place / URL.rpartition("/")[2]).write_bytes(FILE)
    return {"XDG_CACHE_HOME": str(folder / "cache")}


def test_a_name_is_all_that_it_takes(flash, folders, drive, running):
    done = flash("--json", **cached(folders))
    assert done.returncode == 0, done.stderr
    assert drive.restarted.wait(60)
    said = json.loads(done.stdout)
    assert (said["board"], said["port"]) == ("desk-pico", running.serial_url)
    assert (said["sha256"], said["sha256_recorded"]) == (SHA256, True)
    assert said["running"]["build"] == "sim-pico-w"


def test_an_image_of_ones_own_takes_the_place_of_the_published_one(flash, folders, drive):
    own = folders / "own.uf2"
    own.write_bytes(uf2_file(b"own" * 999, FAMILY))
    done = flash("--firmware", own)
    assert done.returncode == 0, done.stderr
    assert drive.flash[:9] == b"ownownown"
    assert re.search(r"board +desk-pico\b", done.stdout)


def test_an_image_in_the_cache_that_is_not_the_recorded_one_is_not_used(flash, folders, drive):
    cache = cached(folders)
    (file,) = (folders / "cache").rglob("*.uf2")
    file.write_bytes(uf2_file(b"evil" * 999, FAMILY))
    done = flash(**cache)
    assert done.returncode != 0
    assert not drive.restarted.is_set()


def test_another_build_than_the_one_that_is_wanted_is_exit_code_1(flash, folders):
    wrong = flash("--build", "RPI_PICO_W", **cached(folders))
    assert wrong.returncode == 1, wrong.stderr
    assert "runs the build sim-pico-w, not RPI_PICO_W" in wrong.stderr


def test_a_board_that_is_not_there_is_exit_code_6(name, drive):
    done = handfast("flash", "--board", "desk-pico@00FF", "--drive", drive.folder)
    assert done.returncode == 6
    assert f"there is no board desk-pico@00FF: plug it in; found: {name} at" in done.stderr
    assert not drive.restarted.is_set()


def test_a_board_with_its_own_usb_is_followed_to_its_new_port():
    was = Port("/dev/ttyACM0", (0x2E8A, 0x0005), "E661")
    others = [Port("/dev/ttyACM0", (0x2E8A, 0x0005), "FFFF"), Port("/dev/ttyACM3", None, "E661")]
    assert port_now(was, "e661", others) == "/dev/ttyACM3"
    assert port_now(was, "e661", others[:1]) == "/dev/ttyACM0"
    bridge = Port("/dev/ttyUSB0", (0x10C4, 0xEA60), "E661")
    assert port_now(bridge, "84f7", others) == "/dev/ttyUSB0"


def test_a_board_with_a_dfu_bootloader_is_refused_with_what_to_do_instead():
    done = handfast("flash", "--board", "arduino-nano-esp32", "--port", "/dev/ttyACM0")
    assert done.returncode == 5
    assert "dfu-util -d 2341:0070 -R -D FILE" in done.stderr
    assert "ARDUINO_NANO_ESP32-20250911-v1.26.1.app-bin" in done.stderr


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("uf2_family_ids = [0xe48bff59]", "takes RP2350, Arm, secure"),
        ('uf2_board_id = "RP2350"', "Board-ID RPI-RP2, not RP2350"),
    ],
)
def test_what_is_refused_is_in_the_file_and_nowhere_else(folders, drive, line, said):
    file = folders / "boards/desk-pico/board.toml"
    key = line.partition(" =")[0]
    file.write_text(re.sub(rf"(?m)^{key} = .*", line, file.read_text()))
    image = folders / "image.uf2"
    image.write_bytes(FILE)
    with pytest.raises(Refused, match=said):
        flash_board(
            read_board(file),
            Firmware(image, SHA256, True),
            port=None,
            options=Options(drive=drive.folder),
        )
    assert not drive.restarted.is_set()


@pytest.mark.parametrize("board", [board.name for board in load_boards() if board.usb])
def test_each_board_of_the_tree_can_be_flashed_or_says_why_not(board):
    file = boards_dir() / board / "board.toml"
    try:
        assert loader_of(read_board(file)).kind in ("esptool", "uf2")
    except Refused as refused:
        said = str(refused)  # what else does it
        assert "dfu-util" in said or "Arduino's own tools" in said
