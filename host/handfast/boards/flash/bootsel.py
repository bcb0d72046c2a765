"""The BOOTSEL drive of a Raspberry Pi chip: where it is mounted, and what it says it is."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handfast.boards.serial_port import NoAnswer
from handfast.errors import Refused

INFO_FILE: Final = "INFO_UF2.TXT"
_LOOK_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True)
class Drive:
    """A mounted BOOTSEL drive, and the ``Board-ID`` that it says (RP2350 data sheet, 5.5.1)."""

    folder: Path
    board_id: str

    @property
    def present(self) -> bool:
        """Whether it is still there: the chip takes it away when it restarts."""
        return is_drive(self.folder)


def is_drive(folder: Path) -> bool:
    """Say whether a folder has ``INFO_UF2.TXT``; one that cannot be looked into has not."""
    try:
        return (folder / INFO_FILE).exists()
    except OSError:  # a drive that was pulled out, before it is unmounted
        return False


def read_drive(folder: Path) -> Drive:
    """Read ``INFO_UF2.TXT``.

    Raises:
        Refused: there is none, or it does not say what it is the drive of.
    """
    try:
        text = (folder / INFO_FILE).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise Refused(f"{folder} has no {INFO_FILE}: it is not a board's BOOTSEL drive") from error
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    board_id = fields.get("Board-ID", "").strip()
    if not board_id:
        raise Refused(f"{folder / INFO_FILE} has no Board-ID: it is not a board's BOOTSEL drive")
    return Drive(folder, board_id)


def refuse_another_board(drive: Drive, board_id: str) -> None:
    """Refuse a drive that is not of the board that was named.

    Raises:
        Refused: it is another's; nothing has been written.
    """
    if drive.board_id != board_id:
        raise Refused(
            f"the drive {drive.folder} belongs to a board with the Board-ID {drive.board_id}, "
            f"not {board_id}: name the board that it is, or the right drive by --drive"
        )


def mount_roots() -> list[Path]:
    """Return the folders in which desktops and servers mount removable drives."""
    user = getpass.getuser()
    return [Path("/media", user), Path("/run/media", user), Path("/Volumes"), Path("/mnt")]


class Lookout:
    """Looks for BOOTSEL drives right below ``roots``.

    Args:
        roots: where drives are mounted.
        told: the board is about to be told to show its drive: those that are there now are others',
            of the same kind too, until they have been away.
    """

    def __init__(self, roots: Sequence[Path], *, told: bool) -> None:
        self.roots = roots
        self.told = told
        self._others = set(_folders(roots)) if told else set()

    def drives(self) -> list[Drive]:
        """Return the drives that can be the board's; what does not say whose it is is none."""
        folders = list(_folders(self.roots))
        self._others.intersection_update(folders)
        found = []
        for folder in folders:
            if folder not in self._others:
                with suppress(Refused):
                    found.append(read_drive(folder))
        return found

    @property
    def left_out(self) -> str:
        """What to add where no drive was found: those that were not looked at."""
        if not self._others:
            return ""
        named = ", ".join(map(str, sorted(self._others)))
        return f"; {named} was there before, and may be another board's"


def _folders(roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        with suppress(OSError):  # not there, or not for us
            yield from filter(is_drive, sorted(root.iterdir()))


def wait_for_drive(lookout: Lookout, board_id: str, *, timeout_s: float) -> Drive:
    """Return the one BOOTSEL drive of a kind of board, as soon as it is there.

    Args:
        lookout: where to look; if the board was told, drives of others are no reason to stop.
        board_id: what the drive must say that it is.
        timeout_s: how long to wait for it.

    Raises:
        NoAnswer: none within ``timeout_s``.
        Refused: there are several, or only those of other boards.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        drives = lookout.drives()
        fitting = [drive for drive in drives if drive.board_id == board_id]
        if len(fitting) > 1:
            named = ", ".join(str(drive.folder) for drive in fitting)
            raise Refused(f"several boards are in BOOTSEL mode ({named}): say which by --drive")
        if fitting:
            return fitting[0]
        over = time.monotonic() >= give_up
        if drives and (over or not lookout.told):
            refuse_another_board(drives[0], board_id)
        if over:
            looked = ", ".join(map(str, lookout.roots))
            raise NoAnswer(
                f"no BOOTSEL drive appeared within {timeout_s:g} s in {looked}: hold BOOTSEL while "
                f"you plug the board in, mount the drive, and name its folder by --drive"
                f"{lookout.left_out}"
            )
        time.sleep(_LOOK_AGAIN_S)
