# The board's network: PPP over UART1, to this machine's end of it (host/handfast/boards/ppp.py)
# MIT license; Copyright (c) 2026 the Handfast authors
"""For /lib of an ESP32 in QEMU; docs/how-to/esp32-qemu.md says who calls it.

MicroPython 1.26.1, library/network.PPP; what a state allows is from ports/esp32's network_ppp.c.
1.25.0 has an older PPP: it is made active first, has no poll(), and tells no status.
"""

import time
from errno import ETIMEDOUT

import network
from machine import UART
from micropython import const

_UART = const(1)
# Without them UART1 has the pins of the flash chip. QEMU connects none of them.
_TX = const(17)
_RX = const(16)
_BAUDRATE = const(921600)
_BUFFER = const(4096)  # of a packet or two
_POLL_MS = const(20)

_ppp = None


def start():
    """Dial, without waiting: packets that arrive are handled as the interpreter runs."""
    global _ppp
    stop()
    line = UART(_UART, _BAUDRATE, tx=_TX, rx=_RX, txbuf=_BUFFER, rxbuf=_BUFFER)
    _ppp = network.PPP(line)
    _ppp.connect()


def stop():
    """Hang up and free what lwIP holds; the peer learns of it when it is dialled again."""
    global _ppp
    if _ppp is not None:
        _ppp.active(False)
        _ppp = None


def ready():
    """Return whether the board has an address."""
    return _ppp is not None and _ppp.isconnected()


def up(timeout_ms=15000):
    """Wait for the network, dialling anew where the link has failed; return its settings.

    Raises OSError (ETIMEDOUT) after `timeout_ms`.
    """
    since = time.ticks_ms()
    while not ready():
        if time.ticks_diff(time.ticks_ms(), since) > timeout_ms:
            raise OSError(ETIMEDOUT)
        if _ppp is None or _ppp.status() < 0:  # an error's number, negated
            start()
        _ppp.poll()
        time.sleep_ms(_POLL_MS)
    return _ppp.ifconfig()
