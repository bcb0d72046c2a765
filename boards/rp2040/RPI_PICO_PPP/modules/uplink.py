# The board's network: PPP over UART0 (TX GP0, RX GP1, CTS GP2, RTS GP3), dialled at every boot
# MIT license; Copyright (c) 2026 the Handfast authors

import io
import time

import network
from machine import UART
from micropython import const

_BAUDRATE = const(921600)
_BUFFER = const(4096)  # of a packet or two: nothing waits for the line
_REDIAL_MS = const(4000)
_POLL_MS = const(20)
_NO_ADDRESS = "0.0.0.0"

# LCP Terminate-Ack (RFC 1661, 5.5), framed by RFC 1662
_TERMINATE_ACK = b"\x7e\xff\x7d\x23\xc0\x21\x7d\x26\x7d\x22\x7d\x20\x7d\x24\x94\x7d\x2d\x7e"

_ppp = None


class _HungUp(io.IOBase):
    """A line whose far end agrees to end at once: no peer and no timer is waited for."""

    IRQ_RXIDLE = 0

    def __init__(self):
        self._left = _TERMINATE_ACK

    def irq(self, *_):
        pass

    def write(self, data):
        return len(data)

    def readinto(self, buffer):
        said = self._left
        self._left = b""
        buffer[: len(said)] = said
        return len(said)


def start():
    """Dial, without waiting: packets that arrive are handled as the interpreter runs."""
    global _ppp
    stop()
    line = UART(0, _BAUDRATE, txbuf=_BUFFER, rxbuf=_BUFFER, cts=2, rts=3, flow=UART.CTS | UART.RTS)
    _ppp = network.PPP(line)
    _ppp.connect()


def stop():
    """Hang up and free what lwIP holds; the peer learns of it when it is dialled again."""
    global _ppp
    if _ppp is None:
        return
    _ppp.config(stream=_HungUp())
    _ppp.disconnect()
    _ppp.poll()
    _ppp.__del__()  # one that had failed before
    _ppp = None


def ready():
    """Return whether the board has an address."""
    return _ppp is not None and _ppp.ifconfig()[0] != _NO_ADDRESS


def up(timeout_ms=15000):
    """Wait for the network, dialling anew where nothing answers; return its settings.

    Raises OSError (ETIMEDOUT) after `timeout_ms`.
    """
    since = dialled = time.ticks_ms()
    while not ready():
        now = time.ticks_ms()
        if time.ticks_diff(now, since) > timeout_ms:
            raise OSError(110)
        if _ppp is None or time.ticks_diff(now, dialled) > _REDIAL_MS:
            dialled = now
            start()
        _ppp.poll()
        time.sleep_ms(_POLL_MS)
    return _ppp.ifconfig()
