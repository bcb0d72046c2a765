"""What a test runs on: a board at its REPL, or CPython where upstream compares with that."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol

from handfast.boards.device_error import DeviceError
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem

_END_S = 10.0
# As upstream's run-tests.py calls it: the standard library and nothing else.
CPYTHON = (sys.executable, "-B", "-S")


class Instance(Protocol):
    """Something that runs a program and prints lines."""

    def start(self, script: str, timeout_s: float) -> None:
        """Begin to run a program; it is stopped after ``timeout_s``."""

    def line(self, timeout_s: float) -> str | None:
        """Return the next line that it printed, without its end; None if none comes in time."""

    @property
    def finished(self) -> bool:
        """Whether it has ended and all its lines have been read."""

    @property
    def error(self) -> str:
        """How it failed, such as its traceback; "" while it has not."""

    def send(self, line: str) -> None:
        """Give it a line on standard input."""

    def stop(self) -> None:
        """End what still runs."""


class _Lines:
    """Lines as they come, from text in pieces; read by another thread."""

    def __init__(self) -> None:
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._begun = ""
        self.over = False

    def feed(self, text: str) -> None:
        *whole, self._begun = (self._begun + text).split("\n")
        for line in whole:
            self._queue.put(line)

    def end(self) -> None:
        if self._begun:
            self._queue.put(self._begun)
        self._queue.put(None)

    def next(self, timeout_s: float) -> str | None:
        if self.over:
            return None
        try:
            line = self._queue.get(timeout=timeout_s)
        except queue.Empty:
            return None
        self.over = line is None
        return line


class BoardInstance:
    """A board; what it prints comes over its serial line, by mpremote's transport."""

    def __init__(self, link: SerialLink) -> None:
        self._link = link
        self._lines = _Lines()
        self._thread: threading.Thread | None = None
        self.error = ""

    def start(self, script: str, timeout_s: float) -> None:
        """Begin to run a program."""

        def run() -> None:
            try:
                self._link.exec(script, timeout_s, show=self._lines.feed)
            except DeviceError as error:
                self.error = error.traceback
            except BoardProblem as error:
                self.error = str(error)
            finally:
                self._lines.end()

        self._link.interrupt()  # not in the thread: its answer is not the program's
        self._thread = threading.Thread(target=run, name="upstream test", daemon=True)
        self._thread.start()

    def line(self, timeout_s: float) -> str | None:
        """Return the next line that it printed."""
        return self._lines.next(timeout_s)

    @property
    def finished(self) -> bool:
        """Whether it has ended and all its lines have been read."""
        return self._lines.over

    def send(self, line: str) -> None:
        """Give it a line on standard input, as typed on the serial line."""
        self._link.send(f"{line}\r\n".encode())

    def stop(self) -> None:
        """Stop waiting for it; the next user of the board interrupts it."""
        if self._thread is not None:
            self._link.abandon()
            self._thread.join(_END_S)


class CPythonInstance:
    """CPython, whose answer is the right one where no file says what is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines = _Lines()
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self.error = ""

    def start(self, script: str, timeout_s: float) -> None:
        """Begin to run a program, in the folder that the test lies in."""
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
        self._process = process = subprocess.Popen(
            [*CPYTHON, "-c", script],
            cwd=self._folder,
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

        def read() -> None:
            watchdog = threading.Timer(timeout_s, process.kill)
            watchdog.start()
            try:
                for line in process.stdout or ():
                    self._lines.feed(line)
                if process.wait() and not self.error:
                    self.error = f"CPython ended with status {process.returncode}"
            finally:
                watchdog.cancel()
                self._lines.end()

        self._thread = threading.Thread(target=read, name="CPython", daemon=True)
        self._thread.start()

    def line(self, timeout_s: float) -> str | None:
        """Return the next line that it printed."""
        return self._lines.next(timeout_s)

    @property
    def finished(self) -> bool:
        """Whether it has ended and all its lines have been read."""
        return self._lines.over

    def send(self, line: str) -> None:
        """Give it a line on standard input."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._thread is not None:
            self._process.kill()
            self._thread.join(_END_S)
            if self._process.stdin is not None:
                self._process.stdin.close()
