"""From a board that runs to one that waits for an image, over its own USB."""

from __future__ import annotations

import contextlib

from handfast.boards.device_error import DeviceError
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import NoAnswer, Unplugged, open_line

_ANSWER_S = 5.0


def enter_bootloader(url: str) -> None:
    """Restart a board into its bootloader: by ``machine.bootloader()``, else at 1200 baud.

    Raises:
        BoardProblem: there is no such port.
        EnvironmentProblem: it cannot be opened.
    """
    try:
        with SerialLink.open(url) as link:
            link.exec("import machine", timeout_s=_ANSWER_S)
            link.exec("machine.bootloader()", timeout_s=_ANSWER_S)
    except Unplugged:
        return  # that is how a board answers which does it
    except (NoAnswer, DeviceError):  # another program than MicroPython, or one without it
        touch_1200(url)


def touch_1200(url: str) -> None:
    """Open the port at 1200 baud and let go: what Arduino's tools do, and MicroPython heeds.

    Raises:
        BoardProblem, EnvironmentProblem: see :func:`~handfast.boards.serial_port.open_line`.
    """
    line = open_line(url, 1200)
    with contextlib.closing(line), contextlib.suppress(OSError):  # a PTY has no DTR
        line.dtr = False
