"""Flashing a Pico: the UF2 file onto its BOOTSEL drive, or through picotool."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from handfast.boards.flash.bootloader import enter_bootloader
from handfast.boards.flash.bootsel import (
    Drive,
    Lookout,
    is_drive,
    mount_roots,
    read_drive,
    refuse_another_board,
    wait_for_drive,
)
from handfast.boards.flash.uf2 import Uf2Image, family_name, refuse_wrong_family
from handfast.boards.serial_port import NoAnswer
from handfast.boards.sources import locked, state_folder
from handfast.errors import BoardProblem, EnvironmentProblem, Refused

Progress = Callable[[str, float], None]
Way = Literal["auto", "drive", "picotool"]

_NAME = "FIRMWARE.UF2"  # 8.3: the drive is FAT16
_PIECE_BYTES = 65536
_TURN_S = 240.0  # labgrid's driver waits 300 s for all of it on an exporter
_DRIVE_S = 30.0
_RESTART_S = 15.0
_PICOTOOL_S = 120.0
_PICOTOOL_INFO_S = 10.0
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class PicoJob:
    """Where an image goes.

    Args:
        chip: ``rp2040`` or ``rp2350``, as the board's definition says.
        families: the UF2 families that the board's firmware may have.
        board_id: what its drive says that it is (``Board-ID``).
        url: the serial port of a board that runs; None for one that is in BOOTSEL mode already.
        drive: the folder of its drive, where several are mounted; if it is there, the board is in
            BOOTSEL mode already.
        way: ``auto`` is the drive if there is one, else picotool; of a board that must first come
            to BOOTSEL mode, what sees it first.
        roots: where drives are mounted.
        turn_within_s: how long others of this user may flash first: which board a new drive is
            of, or what picotool sees, is known only where boards are told one at a time.
    """

    chip: str
    families: frozenset[int]
    board_id: str
    url: str | None = None
    drive: Path | None = None
    way: Way = "auto"
    roots: Sequence[Path] = field(default_factory=mount_roots)
    turn_within_s: float = _TURN_S
    drive_within_s: float = _DRIVE_S
    restart_within_s: float = _RESTART_S


@dataclass(frozen=True, slots=True)
class PicoFlashed:
    """What was done; ``written`` is bytes of the UF2 file."""

    chip: str
    family: str
    way: str
    written: int
    seconds: float


def flash_pico(
    image: Uf2Image, job: PicoJob, *, source: str, progress: Progress = lambda *_: None
) -> PicoFlashed:
    """Bring the board to BOOTSEL, copy ``image`` there, and see it restart.

    Raises:
        Refused: the image is another chip's, or the drive another board's, or picotool could take
            another board for this one; nothing was written.
        BoardProblem: no drive appeared, it went away too early, or the board did not restart.
        EnvironmentProblem: picotool was asked for and is not there, or another flashing has not
            ended in time.
    """
    refuse_wrong_family(image, job.families, source=source, board=f"a board with an {job.chip}")
    may_take_picotool = _may_take_picotool(job)
    with _turn(job, progress):
        started = time.monotonic()
        way = _flash(image, job, source, progress, may_take_picotool=may_take_picotool)
        return PicoFlashed(
            job.chip, family_name(image.family), way, len(image.content), time.monotonic() - started
        )


@contextmanager
def _turn(job: PicoJob, progress: Progress) -> Iterator[None]:
    """Be the only one who flashes, from before the board is told until it has restarted."""
    turn = locked(
        state_folder("flashing"),
        waiting=lambda: progress("waiting for another flashing", 0),
        within_s=job.turn_within_s,
    )
    with ExitStack() as stack:
        try:
            stack.enter_context(turn)
        except TimeoutError as error:
            raise EnvironmentProblem(
                f"another flashing on this machine did not end within {job.turn_within_s:g} s: see "
                "what it waits for, and repeat this"
            ) from error
        yield


def _flash(
    image: Uf2Image, job: PicoJob, source: str, progress: Progress, *, may_take_picotool: bool
) -> str:
    """Do it in one's turn; returns the way that was taken."""
    progress("bootsel", 0)
    told = job.url is not None and not (job.drive is not None and is_drive(job.drive))
    lookout = Lookout(job.roots, told=told)
    if told and job.url is not None:
        if may_take_picotool and _picotool_sees_a_board():
            _refuse_picotool(job)
            may_take_picotool = False
        enter_bootloader(job.url)
    if may_take_picotool and _takes_picotool(job, lookout):
        _load_by_picotool(image, source)
        return "picotool"
    drive = _drive(job, lookout)
    _copy(image, drive, progress)
    _see_restart(drive, job.restart_within_s)
    return "drive"


def _may_take_picotool(job: PicoJob) -> bool:
    there = shutil.which("picotool") is not None
    if job.way == "picotool" and not there:
        raise EnvironmentProblem("picotool is not on the PATH: install it, or leave it away")
    return job.way == "picotool" or (job.way == "auto" and job.drive is None and there)


def _refuse_picotool(job: PicoJob) -> None:
    """Refuse what cannot tell two boards apart, where nothing else can be taken."""
    if job.way == "picotool":
        raise Refused(
            "another board is in BOOTSEL mode already, and picotool would take it for this one: "
            "unplug it, or leave picotool away"
        )


def _takes_picotool(job: PicoJob, lookout: Lookout) -> bool:
    """Say whether picotool is to be taken, or the drive; a board that was told is waited for.

    Raises:
        NoAnswer: neither sees the board in time.
    """
    give_up = time.monotonic() + job.drive_within_s
    while True:
        fitting = (drive.board_id == job.board_id for drive in lookout.drives())
        if job.way == "auto" and any(fitting):
            return False
        if not lookout.told or _picotool_sees_a_board():
            return True
        if time.monotonic() >= give_up:
            raise NoAnswer(
                f"no board in BOOTSEL mode appeared within {job.drive_within_s:g} s, neither as a "
                "drive nor to picotool: hold BOOTSEL while you plug the board in, and see that "
                f"you may use its USB device{lookout.left_out}"
            )
        time.sleep(_LOOK_AGAIN_S)


def _picotool_sees_a_board() -> bool:
    """Say whether any board is in BOOTSEL mode: without one ``picotool info`` fails."""
    try:
        done = subprocess.run(
            ["picotool", "info"], capture_output=True, timeout=_PICOTOOL_INFO_S, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _drive(job: PicoJob, lookout: Lookout) -> Drive:
    """Return the board's drive; a board that was told to show it is given time to."""
    if job.drive is None:
        return wait_for_drive(lookout, job.board_id, timeout_s=job.drive_within_s)
    give_up = time.monotonic() + job.drive_within_s
    while lookout.told and not is_drive(job.drive) and time.monotonic() < give_up:
        time.sleep(_LOOK_AGAIN_S)
    drive = read_drive(job.drive)
    refuse_another_board(drive, job.board_id)
    return drive


def _copy(image: Uf2Image, drive: Drive, progress: Progress) -> None:
    """Copy piece by piece, each on the drive before the next: a cache holds nothing back.

    Raises:
        BoardProblem: the drive went away before it had all, whether or not writing to it failed.
    """
    content = image.content
    done = 0
    try:
        with (drive.folder / _NAME).open("wb", buffering=0) as file:
            while done < len(content):
                progress("write", done / len(content))
                if not drive.present:
                    raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
                done += file.write(content[done : done + _PIECE_BYTES])
                os.fsync(file.fileno())
    except OSError as error:
        # The chip restarts at the last block, before the host has closed the file.
        if done < len(content):
            raise BoardProblem(
                f"the drive {drive.folder} went away after {done} of {len(content)} bytes "
                f"({error.strerror}): plug the board in again with BOOTSEL held, and repeat this"
            ) from error


def _see_restart(drive: Drive, timeout_s: float) -> None:
    give_up = time.monotonic() + timeout_s
    while drive.present:
        if time.monotonic() >= give_up:
            raise BoardProblem(
                f"the board behind {drive.folder} did not restart within {timeout_s:g} s: it has "
                "not taken the image; unplug it, plug it in with BOOTSEL held, and repeat this"
            )
        time.sleep(_LOOK_AGAIN_S)


def _load_by_picotool(image: Uf2Image, source: str) -> None:
    """``picotool load``: it verifies by reading back, and restarts the board (-v, -x)."""
    with tempfile.NamedTemporaryFile(suffix=".uf2") as file:
        file.write(image.content)
        file.flush()
        try:
            done = subprocess.run(
                ["picotool", "load", "-v", "-x", file.name, "-t", "uf2"],
                capture_output=True,
                text=True,
                timeout=_PICOTOOL_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BoardProblem(
                f"picotool did not finish within {_PICOTOOL_S:g} s: unplug the board, plug it in "
                "with BOOTSEL held, and repeat this"
            ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise BoardProblem(f"picotool did not load {source}: {said[-1] if said else 'no reason'}")
