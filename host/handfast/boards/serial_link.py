"""A board's REPL over serial: the one module that knows mpremote.

mpremote's maintainers say that ``transport_serial.py`` may change (micropython#13493), so it is
pinned and wrapped here. Its raw REPL and raw-paste code is used as it is, over a port that puts a
deadline on each of its waits; entering the raw REPL is ours, because mpremote's gives up on a
board that prints, hangs in a half-sent command, or is slow to stop.
"""

from __future__ import annotations

import ast
import codecs
import io
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from mpremote.transport import TransportError  # type: ignore[import-untyped]
from mpremote.transport_serial import SerialTransport  # type: ignore[import-untyped]

from handfast.boards import device_files, device_tree
from handfast.boards.console import Console
from handfast.boards.device_error import device_error
from handfast.boards.overheard import of_the_program
from handfast.boards.serial_port import NoAnswer, SerialPort, Unplugged
from handfast.errors import BoardProblem

_CTRL_A, _CTRL_B, _CTRL_C, _CTRL_D = b"\x01", b"\x02", b"\x03", b"\x04"
_RAW_BANNER = b"raw REPL; CTRL-B to exit\r\n>"
_REBOOT = b"soft reboot\r\n"
_FIRST_TRY_S = 0.25  # how long the first Ctrl-A may go unanswered; doubles with each try
_SLOWEST_TRY_S = 2.0
_DRAIN_S = 0.5  # at most, of a board that prints without a pause
_QUIET_S = 0.02
_FIRST_QUIET_S = 0.004  # most boards wait at a prompt or sleep: the first try is not to cost much
_RESET_S = 0.5  # a board that was told to reset does so within this
_RESULT = "\x1eresult "


class _Transport(SerialTransport):  # type: ignore[misc]  # mpremote has no types
    """mpremote's transport over our port: its waits end at the port's deadline."""

    def __init__(self, port: SerialPort) -> None:
        self.in_raw_repl = False
        self.use_raw_paste = True
        self.device_name = port.url
        self.mounted = False
        self.is_pty = False
        self.serial = port

    def read_until(
        self,
        min_num_bytes: int,
        ending: bytes,
        timeout: float | None = None,
        data_consumer: Callable[[bytes], None] | None = None,
        timeout_overall: float | None = None,
    ) -> bytes:
        """Read up to ``ending``; only the port's deadline counts.

        A consumer gets what comes before it, as it comes; an ending is one byte there.
        """
        del min_num_bytes, timeout, timeout_overall
        if data_consumer is None:
            return bytes(self.serial.read_until(ending))
        while True:
            received = self.serial.read(max(1, self.serial.inWaiting()))
            before, found, after = received.partition(ending)
            data_consumer(before)
            if found:
                self.serial.unread(after)
                return ending


class SerialLink:
    """A board that is talked to through its REPL; a context manager that closes the port."""

    def __init__(self, port: SerialPort, *, overheard: Callable[[str], None] | None = None) -> None:
        self._port = port
        self._overheard = overheard
        self._transport = _Transport(port)
        self._in_raw_repl = False
        self._console: Console | None = None

    @classmethod
    def open(
        cls,
        url: str | Callable[[], str],
        *,
        baudrate: int = 115200,
        capture: Path | None = None,
        overheard: Callable[[str], None] | None = None,
        within_s: float = 0.0,
    ) -> SerialLink:
        """Open the port; the board is first spoken to by the first command.

        Args:
            url: a device path, ``/dev/pts/N``, ``socket://`` or ``rfc2217://``, or a function that
                returns one, which is asked again when the port is opened again.
            baudrate: bits a second.
            capture: a file that every byte the board sends is appended to.
            overheard: given what a program printed while it was stopped for a command; by default
                the last console has that.
            within_s: how long it may take until the port can be opened.

        Raises:
            BoardProblem, EnvironmentProblem, UsageError: see :meth:`SerialPort.open`.
        """
        port = SerialPort.open(url, baudrate=baudrate, capture=capture, within_s=within_s)
        return cls(port, overheard=overheard)

    @property
    def url(self) -> str:
        """The port's path or URL."""
        return self._port.url

    def close(self) -> None:
        """Stop the console, if one reads, and close the port."""
        if self._console is not None:
            self._console.close()
        self._port.close()

    @property
    def is_gone(self) -> bool:
        """Whether the line has been taken away since it was opened, as far as can be seen."""
        return self._port.is_gone

    def reopen(self, within_s: float) -> None:
        """Open the port again that went away with the board, when it is back.

        Raises:
            BoardProblem, EnvironmentProblem: it cannot be opened ``within_s``.
        """
        self._require_port()
        self._in_raw_repl = False
        self._port.reopen(within_s)

    def __enter__(self) -> SerialLink:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def abandon(self) -> None:
        """End what another thread waits for, with NoAnswer: it is known that no answer comes."""
        self._port.expect_within(0)

    def send(self, data: bytes) -> None:
        """Give input to the program that another thread's :meth:`exec` waits for.

        Raises:
            NoAnswer: the board does not take it.
            Unplugged: the line is gone.
        """
        self._port.write(data)

    # The raw REPL

    def interrupt(self, *, timeout_s: float = 10.0) -> None:
        """Stop whatever the board does and bring it to the raw REPL.

        Works from any state: a program that computes, prints or sleeps, an open raw-paste
        transfer, half a line of input, the raw REPL itself.

        Raises:
            BoardProblem: no raw REPL within ``timeout_s``.
        """
        self._require_port()
        self._in_raw_repl = False
        printed = bytearray()
        try:
            self._interrupt(timeout_s, printed)
        finally:
            self._pass_on(bytes(printed))

    def _interrupt(self, timeout_s: float, printed: bytearray) -> None:
        give_up = time.monotonic() + timeout_s
        patience_s, quiet_s = _FIRST_TRY_S, _FIRST_QUIET_S
        while (left_s := give_up - time.monotonic()) > 0:
            # Not a byte that would run half a command: Ctrl-C clears the line in every mode.
            self._port.write(_CTRL_C + _CTRL_C)
            printed += self._drain(quiet_s)
            self._port.write(_CTRL_A)
            self._port.expect_within(min(patience_s, left_s))
            try:
                printed += self._port.read_until(_RAW_BANNER)
                self._synchronise()
            except NoAnswer:
                patience_s, quiet_s = min(2 * patience_s, _SLOWEST_TRY_S), _QUIET_S
                continue
            self._in_raw_repl = True
            return
        raise NoAnswer(
            f"the board at {self.url} does not give a MicroPython prompt within {timeout_s:g} s: "
            "press its reset button or unplug it and plug it in again, "
            "and check that it runs MicroPython"
        )

    def _drain(self, quiet_s: float) -> bytes:
        until = time.monotonic() + _DRAIN_S
        drained = bytearray()
        while (received := self._port.receive(quiet_s)) and time.monotonic() < until:
            drained += received
        return bytes(drained + received)

    def _pass_on(self, printed: bytes) -> None:
        """Give what a program printed to whoever listens; the answer to a command it is not."""
        if not (whole := of_the_program(printed)):
            return
        if self._overheard is not None:
            self._overheard(_text(whole))
        elif self._console is not None:
            self._console.overhear(whole)

    def _synchronise(self) -> None:
        # Answers to earlier tries may still be on their way: skip to one that can only be ours.
        token = secrets.token_hex(8).encode()
        self._port.write(b"print('" + token[:8] + b"''" + token[8:] + b"')" + _CTRL_D)
        self._port.read_until(token)
        self._port.read_until(_CTRL_D + _CTRL_D + b">")
        self._port.unread(b">")  # where mpremote starts from

    def exec(
        self, code: str, timeout_s: float = 10.0, *, show: Callable[[str], None] | None = None
    ) -> str:
        """Run ``code`` on the board and return what it printed, with ``\\n`` as line end.

        Args:
            code: the program.
            timeout_s: for all of it.
            show: given what it prints as it comes; nothing is returned then.

        Raises:
            DeviceError: the code raised (a BoardProblem with the traceback).
            NoAnswer: it did not finish within ``timeout_s``; the next command interrupts it.
            Unplugged: the line is gone.
        """
        if not self._in_raw_repl:
            self.interrupt()
        self._port.expect_within(timeout_s)
        self._in_raw_repl = False  # until the answer is whole
        try:
            self._transport.exec_raw_no_follow(code)
            consumer = None if show is None else _TextStream(show)
            printed, traceback = self._transport.follow(timeout=None, data_consumer=consumer)
        except NoAnswer as error:
            raise NoAnswer(
                f"the board at {self.url} did not finish a command within {timeout_s:g} s: "
                "try again; if it stays so, reset it"
            ) from error
        except TransportError as error:
            raise BoardProblem(
                f"the board at {self.url} answered out of turn ({error}): try again"
            ) from error
        self._in_raw_repl = True
        if traceback:
            raise device_error(self.url, _text(traceback))
        return _text(printed)

    def call(self, function: str, *arguments: Any, timeout_s: float = 10.0) -> Any:
        """Call ``"package.module.function"`` on the board and return its value.

        Arguments and value are anything that ``repr`` writes and ``ast.literal_eval`` reads:
        None, bool, int, float, str, bytes, list, tuple, dict. What the function prints is
        dropped.

        Raises:
            DeviceError: the function raised.
            BoardProblem: its value is not such a literal.
        """
        module, _, name = function.rpartition(".")
        listed = ", ".join(repr(argument) for argument in arguments)
        printed = self.exec(
            f"import {module} as _m\n_r = _m.{name}({listed})\n"
            f"print({_RESULT!r} + repr(_r))\ndel _m, _r",
            timeout_s,
        )
        _, marker, value = printed.rpartition(_RESULT)
        try:
            if not marker:
                raise ValueError("no value")
            return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError) as error:
            raise BoardProblem(
                f"{function} on the board at {self.url} gave no value that can be read back"
            ) from error

    # Files

    def hashes(self, root: str = "/") -> dict[str, str]:
        """Return path → SHA-256 (hex) of every file below ``root``; empty if there is none."""
        return device_files.hashes(self, root)

    def read_file(self, path: str) -> bytes | None:
        """Return a file's content, or None where there is no such file."""
        return device_files.read_file(self, path)

    def push(
        self,
        files: Mapping[str, bytes],
        *,
        only_files_below: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> device_files.PushResult:
        """Write those of ``files`` that differ, each one atomically, each verified.

        See :func:`handfast.boards.device_files.push`.
        """
        return device_files.push(self, files, only_files_below=only_files_below, progress=progress)

    def install(
        self,
        files: Mapping[str, bytes],
        *,
        only_files_below: Sequence[str] = (),
        forget: Sequence[str] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> device_tree.Installed:
        """Make the board hold all of ``files`` in one step; a ``/boot.py`` of ours is one of them.

        See :func:`handfast.boards.device_tree.install`. What an earlier installation left is
        finished, or taken back, first.
        """
        device_tree.settle(self)
        return device_tree.install(
            self, files, only_files_below=only_files_below, forget=forget, progress=progress
        )

    # Reset

    def soft_reset(self, *, run_main: bool = False, timeout_s: float = 10.0) -> None:
        """Restart MicroPython: a fresh heap, ``boot.py`` runs.

        Args:
            run_main: False keeps the raw REPL and does not run ``main.py``; True runs it.
            timeout_s: for the restart; a ``boot.py`` that takes longer is interrupted.
        """
        if not self._in_raw_repl:
            self.interrupt(timeout_s=timeout_s)
        self._in_raw_repl = False
        self._port.expect_within(timeout_s)
        self._port.read_until(b">")
        if run_main:
            self._port.write(_CTRL_B)
            self._port.read_until(b">>> ")
            self._port.write(_CTRL_D)
            self._port.read_until(_REBOOT)
            return
        self._port.write(_CTRL_D)
        try:
            self._port.read_until(_REBOOT)
            self._pass_on(self._port.read_until(_RAW_BANNER))
        except NoAnswer:
            self.interrupt(timeout_s=timeout_s)
            return
        self._port.unread(b">")
        self._in_raw_repl = True

    def hard_reset(self, *, timeout_s: float = 15.0) -> None:
        """Reset the chip (``machine.reset``); ``boot.py`` and ``main.py`` run.

        A port that goes away with the board (native USB) is opened again when it is back.
        """
        if not self._in_raw_repl:
            self.interrupt(timeout_s=timeout_s)
        self._in_raw_repl = False
        self._port.expect_within(timeout_s)
        try:
            self._transport.exec_raw_no_follow("import machine\nmachine.reset()")
            # Nothing may be sent before the reset: a Ctrl-C would stop the command.
            self._port.receive(_RESET_S)
        except Unplugged:
            self.reopen(timeout_s)

    # The application's output

    def start_application(self, *, timeout_s: float = 10.0, back_within_s: float = 0.0) -> Console:
        """Soft-reset into ``main.py`` and return a console that has every line since.

        The console holds the port until its ``close()``; the link can be used again after that.

        Args:
            timeout_s: for the restart.
            back_within_s: as for :meth:`console`.
        """
        self.soft_reset(run_main=True, timeout_s=timeout_s)
        return self.console(back_within_s=back_within_s)

    def console(self, *, back_within_s: float = 0.0) -> Console:
        """Return a console that reads what the board prints from now on, without touching it.

        Args:
            back_within_s: how long a port may be away that goes with a board that resets.
        """
        self._require_port()
        self._in_raw_repl = False
        self._console = Console(self._port, back_within_s=back_within_s)
        return self._console

    def read_console(self, timeout_s: float = 0.0) -> str:
        """Return what the board has printed outside of commands, waiting at most ``timeout_s``."""
        self._require_port()
        self._in_raw_repl = False
        return _text(self._port.receive(timeout_s))

    def _require_port(self) -> None:
        if self._console is not None and self._console.reading:
            raise RuntimeError(f"a console reads {self.url}: close it before using the REPL")


class _TextStream:
    """Turns bytes as they come into text; a character, or a line end, may come in two pieces."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show
        self._decoder = io.IncrementalNewlineDecoder(
            codecs.getincrementaldecoder("utf-8")("replace"), translate=True
        )

    def __call__(self, data: bytes) -> None:
        if text := self._decoder.decode(data):
            self._show(text)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").replace("\r\n", "\n")
