"""A network for a board with nothing but a UART: PPP to us, SLIP to slirp, sockets from there.

slirp is a program without privileges that does for each connection of the board what the board
asks for, by sockets of its own. The board sees the host's loopback as 10.0.2.2.
"""

from __future__ import annotations

import errno
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import tty
from contextlib import suppress
from typing import Final

from handfast.boards.ppp import Addresses, PppPeer
from handfast.errors import EnvironmentProblem

HOST_ADDRESS: Final = Addresses().local

# RFC 1055
_END, _ESC, _ESC_END, _ESC_ESC = b"\xc0", b"\xdb", b"\xdb\xdc", b"\xdb\xdd"
_MOST_PACKET = 4096  # between two ends; slirp sends no more than its MTU of 1500

# Debian's "fullbolt" is the build that does not wait for the line's speed.
_PROGRAM = "slirp-fullbolt"
_TICK_S = 1.0
_READ_BYTES = 65536
_STOP_S = 5.0


def why_missing() -> str:
    """Say what there is no such network for on this machine; "" where nothing is missing."""
    if shutil.which(_PROGRAM):
        return ""
    return (
        "an emulated board's UART reaches the network through slirp: "
        "run `apt install slirp` (as root), then try again"
    )


class SlirpNetwork:
    """The network behind a board's UART, from construction to :meth:`close`.

    Args:
        line: our end of the UART, a stream socket; closed with the network.

    Raises:
        EnvironmentProblem: slirp is not installed, or does not start.
    """

    def __init__(self, line: socket.socket) -> None:
        program = shutil.which(_PROGRAM)
        if program is None:
            raise EnvironmentProblem(why_missing())
        self._line = line
        line.setblocking(False)
        self._peer = PppPeer(send=self._to_board, deliver=self._to_slirp)
        self._from_slirp = bytearray()
        self._stopping, self._stop = os.pipe()
        self._home = tempfile.TemporaryDirectory(prefix="handfast-slirp-")
        self._slirp, self._process = _start(program, self._home.name)
        self._thread = threading.Thread(target=self._run, name="slirp", daemon=True)
        self._thread.start()

    @property
    def bring_ups(self) -> int:
        """How often the board's link has come up."""
        return self._peer.bring_ups

    @property
    def is_up(self) -> bool:
        """Whether the link is up, as far as this end knows."""
        return self._peer.is_up

    @property
    def damaged(self) -> int:
        """How many frames arrived damaged."""
        return self._peer.damaged

    def close(self) -> None:
        """Take the network away; a second call does nothing."""
        if self._stop < 0:
            return
        os.close(self._stop)
        self._stop = -1
        self._thread.join(_STOP_S)
        self._process.kill()
        self._process.wait()
        os.close(self._slirp)
        os.close(self._stopping)
        self._line.close()
        self._home.cleanup()

    def _run(self) -> None:
        poll = select.poll()
        for handle in (self._stopping, self._line.fileno(), self._slirp):
            poll.register(handle, select.POLLIN)
        due = time.monotonic() + _TICK_S
        while True:
            ready = {handle for handle, _ in poll.poll(max(0.0, due - time.monotonic()) * 1000)}
            if self._stopping in ready:
                return
            if self._line.fileno() in ready and not self._read_line():
                return
            if self._slirp in ready and not self._read_slirp():
                return
            if time.monotonic() >= due:
                due = time.monotonic() + _TICK_S
                self._peer.tick()

    # The board's side

    def _read_line(self) -> bool:
        try:
            octets = self._line.recv(_READ_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._peer.receive(octets)
        return bool(octets)

    def _to_board(self, octets: bytes) -> None:
        # A board that takes nothing more has lost what comes, as with a real cable.
        with suppress(OSError):
            self._line.send(octets)

    # slirp's side

    def _to_slirp(self, packet: bytes) -> None:
        stuffed = packet.replace(_ESC, _ESC_ESC).replace(_END, _ESC_END)
        with suppress(BlockingIOError):
            os.write(self._slirp, _END + stuffed + _END)

    def _read_slirp(self) -> bool:
        try:
            octets = os.read(self._slirp, _READ_BYTES)
        except BlockingIOError:
            return True
        except OSError as error:
            if error.errno == errno.EIO:  # it has ended
                return False
            raise
        self._from_slirp += octets
        *packets, rest = bytes(self._from_slirp).split(_END)
        self._from_slirp = bytearray(rest[-_MOST_PACKET:])
        for stuffed in packets:
            packet = stuffed.replace(_ESC_END, _END).replace(_ESC_ESC, _ESC)
            if packet and packet[0] >> 4 == 4:  # what it prints as it starts is none
                self._peer.send_packet(packet)
        return bool(octets)


def _start(program: str, home: str) -> tuple[int, subprocess.Popen[bytes]]:
    """Start slirp on a PTY, which it wants in place of a modem; return our end of it."""
    ours, its = os.openpty()
    tty.setraw(its)
    try:
        process = subprocess.Popen(
            [program, "mtu 1500"],
            stdin=its,
            stdout=its,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env={"HOME": home},  # and no ~/.slirprc of the user's
            start_new_session=True,
        )
    except OSError as error:
        os.close(ours)
        raise EnvironmentProblem(f"{program} does not start: {error.strerror}") from error
    finally:
        os.close(its)
    os.set_blocking(ours, False)
    os.set_inheritable(ours, False)
    return ours, process
