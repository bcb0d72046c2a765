"""A UF2 file goes to a model of the BOOTSEL drive; the flash is compared byte by byte."""

from __future__ import annotations

import os
import shutil
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest
from bootsel_model import ABSOLUTE, RP2040, RP2350, BootselModel, Chip, uf2_file
from flash_support import Told

from handfast.boards.flash import pico
from handfast.boards.flash.bootsel import read_drive
from handfast.boards.flash.pico import PicoJob, flash_pico
from handfast.boards.flash.uf2 import read_uf2
from handfast.boards.serial_port import NoAnswer
from handfast.errors import BoardProblem, EnvironmentProblem, Refused

FAMILY_2040, FAMILY_2350 = 0xE48BFF56, 0xE48BFF59
CONTENT = Random(5).randbytes(90_000)  # noqa: S311 - the same octets each time
FAMILIES = {"rp2040": frozenset({FAMILY_2040}), "rp2350": frozenset({FAMILY_2350})}
BOARD_IDS = {"rp2040": "RPI-RP2", "rp2350": "RP2350"}

Plug = Callable[..., BootselModel]


@pytest.fixture
def plug(tmp_path: Path) -> Iterator[Plug]:
    models: list[BootselModel] = []

    def make(chip: Chip = RP2040) -> BootselModel:
        models.append(BootselModel(chip, tmp_path))
        return models[-1]

    yield make
    for model in models:
        model.close()


def flash(content: bytes, model: BootselModel, progress=lambda *_: None, **job):
    settings = {
        "chip": model.chip.name,
        "families": FAMILIES[model.chip.name],
        "board_id": BOARD_IDS[model.chip.name],
        "way": "drive",
        "roots": [model.folder.parent],
    }
    image = read_uf2(content, source="image")
    return flash_pico(image, PicoJob(**(settings | job)), source="image", progress=progress)


@pytest.mark.parametrize(
    ("chip", "family", "e10"),
    [(RP2040, FAMILY_2040, False), (RP2350, FAMILY_2350, False), (RP2350, FAMILY_2350, True)],
)
def test_an_image_arrives_byte_by_byte_and_the_board_restarts(plug, monkeypatch, chip, family, e10):
    model = plug(chip)
    synced = []
    sync = os.fsync

    def note(handle: int) -> None:
        sync(handle)
        synced.append(os.fstat(handle).st_size)

    monkeypatch.setattr(os, "fsync", note)
    told = Told()
    content = uf2_file(CONTENT, family, e10=e10)
    done = flash(content, model, told)
    assert told.steps() == ["bootsel", "write"]
    pieces = [round(part * len(content)) for step, part in told if step == "write"]
    assert len(pieces) > 2
    assert synced == [*pieces[1:], len(content)]  # each is on the drive before the next
    assert model.restarted.wait(60)
    assert model.flash[: len(CONTENT)] == CONTENT
    assert (done.chip, done.way, model.ignored) == (chip.name, "drive", int(e10))


def test_what_lies_behind_the_image_stays(plug):
    model = plug()
    flash(uf2_file(CONTENT, FAMILY_2040), model)
    end = -(-len(CONTENT) // 4096) * 4096
    assert set(model.flash[end:]) == {0xAA}


@pytest.mark.parametrize(
    ("chip", "family"), [(RP2350, FAMILY_2040), (RP2040, FAMILY_2350), (RP2040, 0x1C5F21B0)]
)
def test_an_image_of_another_family_is_refused(plug, chip, family):
    model = plug(chip)
    with pytest.raises(Refused, match="takes RP2"):
        flash(uf2_file(CONTENT, family), model)
    assert sorted(file.name for file in model.folder.iterdir()) == ["INDEX.HTM", "INFO_UF2.TXT"]


def test_another_boards_drive_is_refused(plug):
    model = plug(RP2350)
    job = {"chip": "rp2040", "families": FAMILIES["rp2040"], "board_id": "RPI-RP2"}
    for drive in (None, model.folder):
        with pytest.raises(Refused, match=r"the drive .* Board-ID RP2350, not RPI-RP2"):
            flash(uf2_file(CONTENT, FAMILY_2040), model, **job, drive=drive)
    assert sorted(file.name for file in model.folder.iterdir()) == ["INDEX.HTM", "INFO_UF2.TXT"]


def test_a_board_that_was_told_to_show_its_drive_is_waited_for_beside_anothers(plug, monkeypatch):
    other = plug(RP2350)
    came = []
    monkeypatch.setattr(pico, "enter_bootloader", lambda _: came.append(plug(RP2040)))
    done = flash(uf2_file(CONTENT, FAMILY_2040), other, chip="rp2040", url="/dev/none",
                 families=FAMILIES["rp2040"], board_id="RPI-RP2")  # fmt: skip
    assert came[0].restarted.wait(60)
    assert not other.restarted.is_set()
    assert done.chip == "rp2040"


def test_a_file_that_ends_early_is_refused(plug):
    model = plug()
    whole = uf2_file(CONTENT, FAMILY_2040)
    for part in (whole[:-1], whole[:-512], b"", whole[512:]):
        with pytest.raises(Refused, match="image"):
            flash(part, model)


def damaged(**fields: int) -> bytes:
    names = ("magic0", "magic1", "flags", "address", "size", "number", "count", "family")
    whole = bytearray(uf2_file(CONTENT[:1024], FAMILY_2040))
    for name, value in fields.items():
        at = 508 if name == "end" else 4 * names.index(name)
        struct.pack_into("<I", whole, 512 + at, value)
    return bytes(whole)


@pytest.mark.parametrize(
    "fields",
    [
        {"magic0": 0}, {"magic1": 0}, {"end": 0}, {"flags": 0}, {"flags": 0x2001}, {"size": 477},
        {"number": 0}, {"number": 2}, {"count": 5}, {"family": FAMILY_2350}, {"family": ABSOLUTE},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_block_is_refused(fields):
    with pytest.raises(Refused, match="image"):
        read_uf2(damaged(**fields), source="image")


def test_a_drive_that_takes_nothing_is_found_out(plug):
    model = plug()
    outside = uf2_file(CONTENT, FAMILY_2040, start=0x20000000)
    with pytest.raises(BoardProblem, match="did not restart"):
        flash(outside, model, restart_within_s=0.5)
    assert set(model.flash) == {0xAA}


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6])
def test_a_drive_that_is_unplugged_in_the_middle_is_said_so_and_the_next_run_writes_all(plug, part):
    model = plug()
    content = uf2_file(CONTENT, FAMILY_2040)
    job = PicoJob("rp2040", FAMILIES["rp2040"], "RPI-RP2", way="drive", roots=[model.folder.parent])
    written = []

    def unplug(step: str, done: float) -> None:
        if step == "write" and done >= part and not written:
            written.append(round(done * len(content)))
            model.settle_at(written[0])
            model.unplug()

    with pytest.raises(BoardProblem) as raised:
        flash_pico(read_uf2(content, source="image"), job, source="image", progress=unplug)
    assert f"the drive {model.folder} went away after " in str(raised.value)
    assert f"of {len(content)} bytes" in str(raised.value)
    assert "plug the board in again with BOOTSEL held, and repeat this" in str(raised.value)
    assert not model.restarted.is_set()
    model.close()
    again = plug()
    flash(content, again)
    assert again.flash[: len(CONTENT)] == CONTENT


def test_no_drive_is_said_so(tmp_path):
    job = PicoJob(
        "rp2040", FAMILIES["rp2040"], "RPI-RP2", way="drive", roots=[tmp_path], drive_within_s=0.1
    )
    with pytest.raises(NoAnswer, match="hold BOOTSEL"):
        flash_pico(read_uf2(uf2_file(CONTENT, FAMILY_2040), source="i"), job, source="i")


def test_two_drives_need_a_choice(plug):
    model = plug()
    second = model.folder.with_name("RPI-RP21")  # as desktops mount one more
    shutil.copytree(model.folder, second)
    image = uf2_file(CONTENT, FAMILY_2040)
    with pytest.raises(Refused, match="--drive"):
        flash(image, model)
    flash(image, model, drive=model.folder)
    assert model.restarted.wait(60)
    assert len(list(second.iterdir())) == 2


def test_a_folder_that_is_no_drive_is_refused(tmp_path):
    with pytest.raises(Refused, match="not a board's BOOTSEL drive"):
        read_drive(tmp_path)
    (tmp_path / "INFO_UF2.TXT").write_text("UF2 Bootloader\r\nModel: something\r\n")
    with pytest.raises(Refused, match="no Board-ID"):
        read_drive(tmp_path)


def test_picotool_that_is_not_there_is_said_so(plug, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentProblem, match="picotool"):
        flash(uf2_file(CONTENT, FAMILY_2040), plug(), way="picotool")


# Stands in for picotool, which no package registry here has: it takes the same command lines, and
# ends as it does without a device (picotool, errors.h: ERROR_NO_DEVICE is -7). In $STATE is how
# many questions later a board is in BOOTSEL mode, "never", or 0.
PICOTOOL = """#!/bin/sh
left=$(cat "$STATE")
case "$left" in
0) ;;
never) echo "ERROR: No accessible RP-series devices in BOOTSEL mode were found." >&2; exit 249 ;;
*) echo $((left - 1)) > "$STATE"
   echo "ERROR: No accessible RP-series devices in BOOTSEL mode were found." >&2; exit 249 ;;
esac
case "$1 $2 $3 $5 $6" in
"info    ") echo "Program Information" ;;
"load -v -x -t uf2") cp "$4" "$LOADED" ;;
*) echo "ERROR: unexpected: $*" >&2; exit 2 ;;
esac
"""
IMAGE = uf2_file(CONTENT, FAMILY_2040)


class Picotool:
    """The stand-in on the PATH, and a running Pico: told, it restarts into BOOTSEL mode."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loaded = folder / "loaded.uf2"
        self._state = folder / "state"
        tool = folder / "bin/picotool"
        tool.parent.mkdir()
        tool.write_text(PICOTOOL)
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)
        monkeypatch.setenv("STATE", str(self._state))
        monkeypatch.setenv("LOADED", str(self.loaded))
        self.sees_after("never")
        self.told: list[str] = []
        self.then: Callable[[], object] = lambda: None
        monkeypatch.setattr(pico, "enter_bootloader", self._tell)

    def sees_after(self, questions: int | str) -> None:
        self._state.write_text(f"{questions}\n")

    def _tell(self, url: str) -> None:
        self.told.append(url)
        self.then()


@pytest.fixture
def picotool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Picotool:
    return Picotool(tmp_path, monkeypatch)


def flash_running(folder: Path, image: bytes = IMAGE, progress=lambda *_: None, **job):
    settings = {"url": "/dev/none", "roots": [folder / "media"], "drive_within_s": 60.0}
    job = PicoJob("rp2040", FAMILIES["rp2040"], "RPI-RP2", **(settings | job))
    return flash_pico(read_uf2(image, source="image"), job, source="image", progress=progress)


@pytest.mark.parametrize("way", ["auto", "drive"])
def test_a_drive_of_the_same_kind_that_was_there_before_is_not_taken(tmp_path, picotool, plug, way):
    other = plug()
    ours = []
    there = threading.Timer(0.3, lambda: ours.append(BootselModel(RP2040, tmp_path / "media")))
    picotool.then = there.start
    done = flash_running(tmp_path, way=way, roots=[tmp_path, tmp_path / "media"])
    there.join()
    ours[0].close()
    assert done.way == "drive"
    assert ours[0].flash[: len(CONTENT)] == CONTENT
    assert set(other.flash) == {0xAA}
    assert not other.restarted.is_set()


@pytest.mark.parametrize("way", ["auto", "drive"])
def test_a_board_that_shows_no_drive_leaves_anothers_alone(tmp_path, picotool, plug, way):
    other = plug()
    with pytest.raises(NoAnswer, match=rf"within 0\.3 s.*{other.folder} was there before"):
        flash_running(tmp_path, way=way, roots=[tmp_path], drive_within_s=0.3)
    assert picotool.told == ["/dev/none"]
    assert sorted(file.name for file in other.folder.iterdir()) == ["INDEX.HTM", "INFO_UF2.TXT"]


def test_a_drive_by_the_name_of_one_that_left_is_taken(tmp_path, picotool, plug):
    """Desktops name the second one as the first when that is gone."""
    other = plug()
    ours = []

    class Roots(list):
        """Says when it is looked at: the other is gone by then, and ours can come."""

        def __iter__(self) -> Iterator[Path]:
            yield from super().__iter__()
            if not other.folder.exists() and not ours:
                ours.append(plug())

    def leave() -> None:
        other.close()
        other.unplug()

    picotool.then = leave
    done = flash_running(tmp_path, way="drive", roots=Roots([tmp_path]))
    assert done.way == "drive"
    assert ours[0].restarted.wait(60)
    assert ours[0].flash[: len(CONTENT)] == CONTENT


def test_two_flashings_at_once_take_turns(tmp_path, monkeypatch):
    """Either drive fits either board: each takes the one that came when its board was told."""
    contents = {"/dev/a": CONTENT, "/dev/b": CONTENT[::-1]}
    models: dict[str, BootselModel] = {}
    first_told, second_there = threading.Event(), threading.Event()

    def tell(url: str) -> None:
        if url == "/dev/a":
            first_told.set()
            assert second_there.wait(60)
        second_there.set()
        models[url] = BootselModel(RP2040, tmp_path / url[-1])

    def waits(step: str, _done: float) -> None:
        if step == "waiting for another flashing":
            second_there.set()

    def flash_one(url: str) -> None:
        image = uf2_file(contents[url], FAMILY_2040)
        roots = [tmp_path / "a", tmp_path / "b"]
        flash_running(tmp_path, image, waits, url=url, way="drive", roots=roots)

    monkeypatch.setattr(pico, "enter_bootloader", tell)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(flash_one, "/dev/a")
        assert first_told.wait(60)
        second = pool.submit(flash_one, "/dev/b")
        first.result(120)
        second.result(120)
    for url, model in models.items():
        model.close()
        assert model.flash[: len(CONTENT)] == contents[url]


@pytest.mark.parametrize("way", ["drive", "picotool"])
def test_a_flashing_that_does_not_end_is_said_so(tmp_path, picotool, way):
    def second() -> None:
        picotool.then = lambda: None
        with pytest.raises(EnvironmentProblem, match=r"another flashing .* within 0\.2 s"):
            flash_running(tmp_path, way=way, turn_within_s=0.2)
        picotool.sees_after(0)
        models.append(BootselModel(RP2040, tmp_path / "media"))

    models = []
    picotool.then = second
    assert flash_running(tmp_path, way=way).way == way
    assert picotool.told == ["/dev/none"]
    models[0].close()


@pytest.mark.parametrize("stranger", ["no id", "gone"])
def test_a_drive_that_cannot_be_read_is_none(plug, stranger):
    model = plug()
    info = model.folder.with_name("AAA") / "INFO_UF2.TXT"  # looked at first
    info.parent.mkdir()
    if stranger == "no id":
        info.write_text("UF2 Bootloader v1\r\nModel: x\r\n")
    else:
        info.mkdir()  # is listed, and cannot be read, as when it is pulled out in between
    flash(uf2_file(CONTENT, FAMILY_2040), model)
    assert model.restarted.wait(60)
    assert model.flash[: len(CONTENT)] == CONTENT
    assert list(info.parent.iterdir()) == [info]


@pytest.mark.parametrize("way", ["auto", "picotool"])
def test_picotool_waits_for_a_board_that_runs_to_be_in_bootsel_mode(tmp_path, picotool, way):
    picotool.then = lambda: picotool.sees_after(3)
    done = flash_running(tmp_path, way=way)
    assert (done.way, picotool.told) == ("picotool", ["/dev/none"])
    assert picotool.loaded.read_bytes() == IMAGE


def test_a_drive_that_appears_is_taken_where_picotool_sees_no_board(tmp_path, picotool):
    models = []
    plug = threading.Timer(0.3, lambda: models.append(BootselModel(RP2040, tmp_path / "media")))
    picotool.then = plug.start
    done = flash_running(tmp_path)
    plug.join()
    assert done.way == "drive"
    assert models[0].flash[: len(CONTENT)] == CONTENT
    models[0].close()


@pytest.mark.parametrize("way", ["auto", "picotool"])
def test_a_board_that_does_not_come_to_bootsel_mode_is_said_so(tmp_path, picotool, way):
    with pytest.raises(NoAnswer, match=r"no board in BOOTSEL mode .* within 0\.3 s"):
        flash_running(tmp_path, way=way, drive_within_s=0.3)
    assert not picotool.loaded.exists()


def test_picotool_does_not_take_another_board_for_the_one_that_was_told(tmp_path, picotool):
    picotool.sees_after(0)
    with pytest.raises(Refused, match="another board is in BOOTSEL mode"):
        flash_running(tmp_path, way="picotool")
    assert picotool.told == []
    models = []
    picotool.then = lambda: models.append(BootselModel(RP2040, tmp_path / "media"))
    assert flash_running(tmp_path).way == "drive"
    assert not picotool.loaded.exists()
    models[0].close()


def test_picotool_that_is_not_there_is_said_before_the_board_is_told(
    tmp_path, picotool, monkeypatch
):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvironmentProblem, match="picotool"):
        flash_running(tmp_path, way="picotool")
    assert picotool.told == []
