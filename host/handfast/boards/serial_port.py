"""One open serial line to a board: pyserial underneath, a deadline on every wait, nothing lost.

Knows nothing of MicroPython: :mod:`handfast.boards.serial_link` speaks the REPL over it and
:mod:`handfast.boards.console` reads an application's output from it, one after the other.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import select
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import serial

from handfast.errors import BoardProblem, EnvironmentProblem, HandfastError, UsageError

_SILENT_ON_CONTROL = "ign_set_control"  # pyserial's name for a server that answers no SET_CONTROL
_POLL_S = 0.02  # where no file descriptor can be selected on (rfc2217://)
_WRITE_TIMEOUT_S = 10.0
_RECHECK_S = 0.1  # how soon a wait notices that another thread moved its deadline
_READ_BYTES = 65536
_HELD = (errno.EBUSY, errno.EAGAIN)
_HELD_S = 1.0
_REOPEN_EVERY_S = 0.05
_HANG_UP = select.POLLHUP | select.POLLERR | select.POLLNVAL | getattr(select, "POLLRDHUP", 0)


class NoAnswer(BoardProblem):
    """A deadline passed before the board said what was waited for."""


class Unplugged(BoardProblem):
    """The line to the board is gone: cable, port, emulator or serial server."""


class PortBusy(EnvironmentProblem):
    """Another program holds the port."""


class SerialPort:
    """A serial line with a read buffer and one deadline for all that is waited for.

    Also answers to pyserial's names (``inWaiting``, ``read``, ``write``), because mpremote's
    transport is handed this object in place of a ``serial.Serial``.
    """

    def __init__(
        self,
        url: str,
        line: Any,
        *,
        capture: Path | None = None,
        locate: Callable[[], str] | None = None,
    ) -> None:
        self.url = url
        self.deadline = float("inf")
        self._line = line
        self._locate = locate
        self._is_gone = False
        self._buffer = bytearray()
        self._file_descriptor = _file_descriptor(line)
        self._capture = _open_capture(capture) if capture else None

    @classmethod
    def open(
        cls,
        url: str | Callable[[], str],
        *,
        baudrate: int = 115200,
        capture: Path | None = None,
        within_s: float = 0.0,
    ) -> SerialPort:
        """Open a device path, ``/dev/pts/N``, ``socket://host:port`` or ``rfc2217://host:port``.

        Args:
            url: what pyserial's ``serial_for_url`` takes, or a function that returns it, which is
                asked again when the port is opened again.
            baudrate: bits a second; without a meaning on USB, PTY and sockets.
            capture: a file that every byte received is appended to (0600).
            within_s: how long it may take until it can be opened.

        Raises:
            BoardProblem: no such port, or nothing listens there.
            EnvironmentProblem: no permission, or another program holds the port.
            UsageError: not a URL that pyserial knows.
        """
        locate = url if callable(url) else None
        opened = _open_within(within_s, locate or (lambda: str(url)), baudrate)
        assert opened is not None  # noqa: S101 - nothing ended the waiting
        return cls(*opened, capture=capture, locate=locate)

    @property
    def is_gone(self) -> bool:
        """Whether the line has been taken away since it was opened, as far as can be seen."""
        if self._file_descriptor is not None:
            return _ready(self._file_descriptor, _HANG_UP, 0)
        return self._is_gone

    def reopen(self, within_s: float, *, unless: Callable[[], bool] = lambda: False) -> None:
        """Open the same port again, after the board took it away by resetting.

        Args:
            within_s: how long it may take to come back.
            unless: ends the waiting early, without the port.

        Raises:
            BoardProblem, EnvironmentProblem: as for :meth:`open`.
        """
        baudrate = self._line.baudrate
        self._file_descriptor = None  # its number may soon be another file's
        self._is_gone = True
        # A device that is held keeps its number, and comes back with another.
        with contextlib.suppress(OSError):
            self._line.close()
        self._buffer.clear()
        locate = self._locate or (lambda: self.url)
        if opened := _open_within(within_s, locate, baudrate, unless=unless):
            self.url, self._line = opened
            self._file_descriptor = _file_descriptor(self._line)
            self._is_gone = False

    def close(self) -> None:
        """Close the line; a second call does nothing."""
        self._file_descriptor = None  # its number may soon be another file's
        with contextlib.suppress(OSError):
            self._line.close()
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    def __enter__(self) -> SerialPort:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def expect_within(self, timeout_s: float) -> None:
        """Set the deadline of all waits that follow to ``timeout_s`` from now."""
        self.deadline = time.monotonic() + timeout_s

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, never negative."""
        return max(0.0, self.deadline - time.monotonic())

    # Receiving

    def receive(self, timeout_s: float) -> bytes:
        """Return what has arrived, waiting at most ``timeout_s`` for the first byte; maybe b""."""
        if self._buffer:
            received = bytes(self._buffer)
            self._buffer.clear()
            return received
        return self._receive(timeout_s)

    def read(self, size: int = 1) -> bytes:
        """Return exactly ``size`` bytes.

        Raises:
            NoAnswer: the deadline passed first; what had arrived stays to be read.
        """
        while len(self._buffer) < size:
            self._fill(f"{size} bytes")
        return self._take(size)

    def read_until(self, ending: bytes) -> bytes:
        """Return everything up to and with the first ``ending``.

        Raises:
            NoAnswer: the deadline passed first.
        """
        searched = 0
        while (at := self._buffer.find(ending, searched)) < 0:
            searched = max(0, len(self._buffer) - len(ending) + 1)
            self._fill(repr(ending))
        return self._take(at + len(ending))

    def unread(self, data: bytes) -> None:
        """Put bytes back, to be read before all others."""
        self._buffer[:0] = data

    def inWaiting(self) -> int:
        """Return how many bytes can be read without waiting (pyserial's name for it)."""
        if not self._buffer:
            self._buffer += self._receive(0)
        return len(self._buffer)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _fill(self, wanted: str) -> None:
        arrived = self._receive(min(self.remaining_s, _RECHECK_S))
        if not arrived and not self.remaining_s:
            seen = bytes(self._buffer[-60:])
            raise NoAnswer(f"waited for {wanted} from the board at {self.url}, last seen {seen!r}")
        self._buffer += arrived

    def _receive(self, timeout_s: float) -> bytes:
        try:
            if self._file_descriptor is None:
                arrived = self._poll(timeout_s)
            else:
                if not _ready(self._file_descriptor, select.POLLIN, timeout_s):
                    return b""
                arrived = os.read(self._file_descriptor, _READ_BYTES)
                if not arrived:
                    raise self._gone()
        except (OSError, ValueError, TypeError) as error:
            if getattr(error, "errno", None) in (errno.EAGAIN, errno.EINTR):
                return b""
            raise self._gone() from error
        if self._capture is not None and arrived:
            self._capture.write(arrived)
        return arrived

    def _poll(self, timeout_s: float) -> bytes:
        until = time.monotonic() + timeout_s
        while True:
            arrived: bytes = self._line.read(1)
            if arrived:
                return arrived + bytes(self._line.read(self._line.in_waiting))
            if time.monotonic() >= until:
                return b""

    # Sending

    def write(self, data: bytes) -> int:
        """Send all of ``data``.

        Raises:
            NoAnswer: the board does not take it.
            Unplugged: the line is gone.
        """
        try:
            if self._file_descriptor is None:
                self._line.write(data)
            else:
                self._send(self._file_descriptor, data)
        except (OSError, ValueError, TypeError) as error:
            raise self._gone() from error
        return len(data)

    def _send(self, handle: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            if not _ready(handle, select.POLLOUT, _WRITE_TIMEOUT_S):
                raise NoAnswer(
                    f"the board at {self.url} takes no input: "
                    "reset it, or unplug it and plug it in again"
                )
            with contextlib.suppress(BlockingIOError):
                left = left[os.write(handle, left) :]

    def _gone(self) -> Unplugged:
        self._is_gone = True
        return Unplugged(
            f"the board at {self.url} is gone (unplugged, or its other end was closed): "
            "plug it in and run the command again, it goes on where it stopped"
        )


def _open_within(
    within_s: float,
    locate: Callable[[], str],
    baudrate: int,
    *,
    unless: Callable[[], bool] = lambda: False,
) -> tuple[str, Any] | None:
    """Return where a port is and its open line, as soon as it can be had; None where that ended.

    A port that has just come may not be ours yet: whoever sets its permissions, or looks what is
    on it, comes first. So everything is tried again until the time is over.
    """
    give_up = time.monotonic() + within_s
    while not unless():
        try:
            url = locate()
            return url, open_line(url, baudrate)
        except HandfastError:
            if time.monotonic() >= give_up:
                raise
            time.sleep(_REOPEN_EVERY_S)
    return None


def open_line(url: str, baudrate: int) -> Any:
    """Return pyserial's open port for what :meth:`SerialPort.open` takes; it raises the same."""
    try:
        line: Any = serial.serial_for_url(url, do_not_open=True, baudrate=baudrate, timeout=_POLL_S)
        if "://" not in url:
            line.exclusive = True
        if url.startswith("rfc2217://"):
            line._telnet_read_loop = functools.partial(_until_hung_up, line._telnet_read_loop)
        if url.startswith("rfc2217://") and _SILENT_ON_CONTROL in url:
            _open_without_control(line)
        else:
            _open_once_free(line)
    except ValueError as error:
        raise UsageError(f"{url} is not a serial port's path or URL: {error}") from error
    except OSError as error:
        raise _opening_failed(url, error) from error
    return line


def _until_hung_up(read: Callable[[], None]) -> None:
    """Run pyserial's reader, which ends with the line: its thread is not to end with a traceback.

    It does not expect that the server hangs up while it answers, as ser2net does without a board.
    """
    with contextlib.suppress(OSError):
        read()


def _open_without_control(line: Any) -> None:
    """Open the line without a word on DTR and RTS.

    pyserial switches DTR on when it opens a port. Espressif's server takes that for the beginning
    of a reset into the bootloader (esp_rfc2217_server/esp_port_manager.py), and RTS off for one of
    a plain reset.
    """
    line._update_dtr_state = line._update_rts_state = lambda: None
    try:
        line.open()
    finally:
        del line._update_dtr_state, line._update_rts_state


def _open_once_free(line: Any) -> None:
    """Open the line; one that is held is tried again for a moment.

    The lock goes with the descriptor, and a program that this process is starting in another
    thread holds a copy of that between its fork and its exec, even after we closed ours.
    """
    give_up = time.monotonic() + _HELD_S
    while True:
        try:
            line.open()
            return
        except OSError as error:
            if error.errno not in _HELD or time.monotonic() > give_up:
                raise
            time.sleep(_POLL_S)


def _file_descriptor(line: Any) -> int | None:
    try:
        descriptor: int = line.fileno()
    except (AttributeError, OSError):  # rfc2217:// has a thread and a queue
        return None
    return descriptor


def _ready(handle: int, event: int, timeout_s: float) -> bool:
    # Not select: it and pyserial's own waits end at descriptor 1,023, about 150 boards.
    poll = select.poll()
    poll.register(handle, event)
    return bool(poll.poll(None if timeout_s == float("inf") else timeout_s * 1000))


def _open_capture(path: Path) -> Any:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    return os.fdopen(handle, "ab", buffering=0)


def _opening_failed(url: str, error: OSError) -> BoardProblem | EnvironmentProblem:
    number = error.errno
    if number in (errno.EACCES, errno.EPERM):
        return EnvironmentProblem(
            f"no permission to open {url}: add yourself to the group that owns it "
            "(usually dialout), log in again, and try again"
        )
    if number in _HELD:
        return PortBusy(
            f"another program holds {url}: close it (a terminal, mpremote, another handfast)"
        )
    if url.startswith(("socket://", "rfc2217://")):
        return BoardProblem(f"nothing answers at {url} ({error}): start the serial server there")
    if number in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO):
        return BoardProblem(f"there is no board at {url}: plug it in, or name its port")
    return BoardProblem(f"{url} cannot be used as a serial port: {error}")
