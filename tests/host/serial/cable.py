"""Cables between a board's serial line and a client: one that can be cut, and two over TCP."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import termios
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path

import serial
from serial import rfc2217

_POLL_S = 0.02
_BYTES = 4096
_SPEED = 5  # of what tcgetattr returns: ospeed


class CutCable:
    """A PTY that carries bytes to and from a board until it is cut.

    Args:
        board_url: the board's own PTY.
        cut_after: bytes towards the board after which both ends are gone; None for never.
        lose: the number of the one byte towards the board that gets lost; None for none.
        delay_s: how long bytes towards the board are on their way.
        cut_behind: bytes towards the board behind which both ends are gone; None for none.
        cut_at_1200: both ends are gone once somebody has set 1200 baud.
    """

    def __init__(
        self,
        board_url: str,
        *,
        cut_after: int | None = None,
        lose: int | None = None,
        delay_s: float = 0,
        cut_behind: bytes | None = None,
        cut_at_1200: bool = False,
    ) -> None:
        self._board = os.open(board_url, os.O_RDWR | os.O_NOCTTY)
        self._master, client = os.openpty()
        tty.setraw(client)
        self.url = os.ttyname(client)
        self._client = client
        self.carried = 0
        self._cut_after = cut_after
        self._lose = lose
        self._delay_s = delay_s
        self._cut_behind = cut_behind
        self._cut_at_1200 = cut_at_1200
        self._last = b""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        with contextlib.suppress(OSError):
            while not (self._stop.is_set() or self._is_at_1200()):
                ready = select.select([self._master, self._board], [], [], _POLL_S)[0]
                if self._master in ready and not self._to_board(os.read(self._master, _BYTES)):
                    break
                if self._board in ready:
                    _write_all(self._master, os.read(self._board, _BYTES))
        for handle in (self._client, self._master, self._board):
            os.close(handle)

    def _is_at_1200(self) -> bool:
        return self._cut_at_1200 and termios.tcgetattr(self._client)[_SPEED] == termios.B1200

    def _to_board(self, data: bytes) -> bool:
        if self._cut_after is not None:
            data = data[: self._cut_after - self.carried]
        time.sleep(self._delay_s)
        at = -1 if self._lose is None else self._lose - self.carried
        _write_all(self._board, data[:at] + data[at + 1 :] if 0 <= at < len(data) else data)
        self.carried += len(data)
        if self._cut_behind is not None:
            self._last = (self._last + data)[-2 * _BYTES :]
            if self._cut_behind in self._last:
                return False
        return self.carried != self._cut_after

    @property
    def is_cut(self) -> bool:
        return not self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def __enter__(self) -> CutCable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class NativePort:
    """The port of a board with USB of its own: it goes away with the board, and comes back.

    Args:
        board_url: the board's own PTY.
        path: the port's name that stays, as those below ``/dev/serial/by-id`` do: a link, to
            another device each time.
        leaves_after: what is sent to the board when it goes for the first time.
        leaves_at_1200: it goes when it is opened at 1200 baud.
    """

    def __init__(
        self,
        board_url: str,
        path: Path,
        *,
        leaves_after: bytes | None = None,
        leaves_at_1200: bool = False,
    ) -> None:
        self._board_url, self._path = board_url, path
        self._leaves_after = leaves_after
        self._leaves_at_1200 = leaves_at_1200
        self._cable: CutCable | None = None
        self.came = 0
        self.plug()

    @property
    def url(self) -> str:
        return str(self._path)

    def plug(self) -> None:
        assert self._cable is None
        self._cable = CutCable(
            self._board_url, cut_behind=self._leaves_after, cut_at_1200=self._leaves_at_1200
        )
        self._leaves_after = None
        self._path.symlink_to(self._cable.url)
        self.came += 1

    def unplug(self) -> None:
        if self._cable is not None:
            self._cable.close()
            self._path.unlink()
            self._cable = None

    def come_back(self) -> None:
        """Wait until it has gone, and be there again."""
        self._see_it_go()
        self.plug()

    def leave(self) -> None:
        """Wait until it has gone, and take its name away: its device's can be given to others."""
        self._see_it_go()

    def become(self, device: Path) -> None:
        """Wait until it has gone, and be another device's: that of a bootloader."""
        self._see_it_go()
        self._path.symlink_to(device)

    def _see_it_go(self) -> None:
        self.wait_until_cut()
        self.unplug()

    def wait_until_cut(self) -> None:
        assert self._cable is not None
        self._cable.join()

    def __enter__(self) -> NativePort:
        return self

    def __exit__(self, *_: object) -> None:
        self.unplug()


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


class _LineWithoutModem(serial.Serial):
    """A PTY has no modem lines; the telnet server asks for them all the same."""

    cts = dsr = ri = cd = False

    def _update_dtr_state(self) -> None:
        """There is none to set."""

    def _update_rts_state(self) -> None:
        """There is none to set."""


class SerialServer:
    """Serves a board's PTY on loopback to one TCP client at a time.

    ``kind`` is the scheme of its URL: ``socket`` for plain bytes, ``rfc2217`` for telnet with
    control of the line.
    """

    def __init__(self, board_url: str, kind: str) -> None:
        self._line = _LineWithoutModem(board_url, timeout=0)
        self._serve = {"socket": self._plain, "rfc2217": self._telnet}[kind]
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(_POLL_S)
        self.url = f"{kind}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                with client, contextlib.suppress(OSError):
                    self._serve(client)

    def _plain(self, client: socket.socket) -> None:
        self._pump(client, lambda data: data, lambda data: data)

    def _telnet(self, client: socket.socket) -> None:
        manager = rfc2217.PortManager(self._line, _Connection(client))
        self._pump(
            client,
            lambda data: b"".join(manager.filter(data)),
            lambda data: b"".join(manager.escape(data)),
        )

    def _pump(
        self,
        client: socket.socket,
        to_board: Callable[[bytes], bytes],
        to_client: Callable[[bytes], bytes],
    ) -> None:
        while not self._stop.is_set():
            for ready in select.select([client, self._line], [], [], _POLL_S)[0]:
                if ready is client:
                    received = client.recv(_BYTES)
                    if not received:
                        return
                    self._line.write(to_board(received))
                else:
                    client.sendall(to_client(self._line.read(_BYTES)))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listener.close()
        self._line.close()

    def __enter__(self) -> SerialServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Connection:
    """What the port manager answers through."""

    def __init__(self, client: socket.socket) -> None:
        self._client = client

    def write(self, data: bytes) -> None:
        self._client.sendall(data)
