"""The BOOTSEL drive of a Raspberry Pi chip: where it is mounted, and what it says it is."""

from __future__ import annotations

import getpass
import time
from collections.abc import Iterator, Sequence
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
        return (self.folder / INFO_FILE).exists()


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


def find_drives(roots: Sequence[Path]) -> Iterator[Drive]:
    """Yield the BOOTSEL drives mounted right below ``roots``."""
    for root in roots:
        for info in sorted(root.glob(f"*/{INFO_FILE}")):
            yield read_drive(info.parent)


def wait_for_drive(
    roots: Sequence[Path], board_id: str, *, timeout_s: float, expected: bool
) -> Drive:
    """Return the one BOOTSEL drive of a kind of board, as soon as it is there.

    Args:
        roots: where to look.
        board_id: what the drive must say that it is.
        timeout_s: how long to wait for it.
        expected: the board was told to show its drive, so those of others are no reason to stop.

    Raises:
        NoAnswer: none within ``timeout_s``.
        Refused: there are several, or only those of other boards.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        drives = list(find_drives(roots))
        fitting = [drive for drive in drives if drive.board_id == board_id]
        if len(fitting) > 1:
            named = ", ".join(str(drive.folder) for drive in fitting)
            raise Refused(f"several boards are in BOOTSEL mode ({named}): say which by --drive")
        if fitting:
            return fitting[0]
        over = time.monotonic() >= give_up
        if drives and (over or not expected):
            refuse_another_board(drives[0], board_id)
        if over:
            looked = ", ".join(map(str, roots))
            raise NoAnswer(
                f"no BOOTSEL drive appeared within {timeout_s:g} s in {looked}: hold BOOTSEL while "
                "you plug the board in, mount the drive, and name its folder by --drive"
            )
        time.sleep(_LOOK_AGAIN_S)
