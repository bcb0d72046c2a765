"""The serial ports of this machine that a board may be on."""

from __future__ import annotations

from serial.tools import list_ports

from handfast.boards.detached import list_detached
from handfast.boards.discovery import Port


def local_ports() -> list[Port]:
    """Return the USB serial ports, in their numbers' order, then the running simulated boards.

    A port that is not on USB (a server's console, a modem) is left out: asking one that is no
    board's may disturb what is there.
    """
    usb = [Port.of(info) for info in sorted(list_ports.comports()) if info.vid is not None]
    return usb + [Port(board.serial_url) for board in list_detached()]
