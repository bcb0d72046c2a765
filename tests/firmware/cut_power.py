"""A simulated board with a part of the library on it, booted again and again, power cut or not."""

from __future__ import annotations

import time

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.resources import firmware_dir

_DEADLINE_S = 20.0


def library(*modules: str) -> dict[str, bytes]:
    """Return the files that make these modules of the library importable on a board."""
    files = {f"/lib/mtls/{m}.py": (firmware_dir() / f"mtls/{m}.py").read_bytes() for m in modules}
    return {**files, "/boot.py": (firmware_dir() / "app/boot.py").read_bytes()}


def boot(board: SimulatedBoard, rtc: int, cut_after: int | None = None) -> str | None:
    """Return what main.py printed up to its "DONE", or None if the power was cut before."""
    with SerialLink.open(board.serial_url) as link:
        board.power_on(rtc=rtc, cut_after=cut_after)
        told = _console_until(board, link, "DONE")
    board.power_off()
    return told


def _console_until(board: SimulatedBoard, link: SerialLink, wanted: str) -> str | None:
    told = ""
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        told += link.read_console(0.02)
        if wanted in told:
            return told
        if not board.is_running:
            return None
    raise AssertionError(f"the board printed {told!r}")
