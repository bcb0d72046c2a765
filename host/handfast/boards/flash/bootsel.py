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

# RP2040 data sheet 2.8.4 and RP2350 data sheet 5.5.1: Board-ID → chip, and the families it takes.
_CHIPS: Final = {
    "RPI-RP2": ("rp2040", frozenset({0xE48BFF56})),
    "RP2350": ("rp2350", frozenset({0xE48BFF57, 0xE48BFF58, 0xE48BFF59, 0xE48BFF5A, 0xE48BFF5B})),
}


@dataclass(frozen=True, slots=True)
class Drive:
    """A mounted BOOTSEL drive, its chip (``rp2040``, ``rp2350``) and the UF2 families it takes."""

    folder: Path
    board_id: str
    chip: str
    families: frozenset[int]

    @property
    def present(self) -> bool:
        """Whether it is still there: the chip takes it away when it restarts."""
        return (self.folder / INFO_FILE).exists()


def read_drive(folder: Path) -> Drive:
    """Read ``INFO_UF2.TXT``.

    Raises:
        Refused: there is none, or it names a board that handfast does not know.
    """
    try:
        text = (folder / INFO_FILE).read_text(encoding="ascii", errors="replace")
    except OSError as error:
        raise Refused(f"{folder} has no {INFO_FILE}: it is not a board's BOOTSEL drive") from error
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    board_id = fields.get("Board-ID", "").strip()
    if board_id not in _CHIPS:
        raise Refused(f"{folder / INFO_FILE} names the board {board_id!r}, which is not known here")
    return Drive(folder, board_id, *_CHIPS[board_id])


def mount_roots() -> list[Path]:
    """Return the folders in which desktops and servers mount removable drives."""
    user = getpass.getuser()
    return [Path("/media", user), Path("/run/media", user), Path("/Volumes"), Path("/mnt")]


def find_drives(roots: Sequence[Path]) -> Iterator[Drive]:
    """Yield the BOOTSEL drives mounted right below ``roots``."""
    for root in roots:
        for info in sorted(root.glob(f"*/{INFO_FILE}")):
            yield read_drive(info.parent)


def wait_for_drive(roots: Sequence[Path], *, timeout_s: float) -> Drive:
    """Return the one BOOTSEL drive, as soon as it is there.

    Raises:
        NoAnswer: none within ``timeout_s``.
        Refused: there are several.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        drives = list(find_drives(roots))
        if len(drives) > 1:
            named = ", ".join(str(drive.folder) for drive in drives)
            raise Refused(f"several boards are in BOOTSEL mode ({named}): say which by --drive")
        if drives:
            return drives[0]
        if time.monotonic() >= give_up:
            looked = ", ".join(map(str, roots))
            raise NoAnswer(
                f"no BOOTSEL drive appeared within {timeout_s:g} s in {looked}: hold BOOTSEL while "
                "you plug the board in, mount the drive, and name its folder by --drive"
            )
        time.sleep(_LOOK_AGAIN_S)
