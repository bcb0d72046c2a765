"""A board's REPL as bytes on a serial line, with nothing of ours in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import serial

DEADLINE_S = 20


class Repl:
    """Raw REPL on a serial line; every wait ends at a deadline."""

    def __init__(self, url: str) -> None:
        self.port = serial.Serial(url, 115200, timeout=DEADLINE_S)

    def __enter__(self) -> Repl:
        return self

    def __exit__(self, *_: object) -> None:
        self.port.close()

    def read_until(self, ending: bytes) -> bytes:
        received = self.port.read_until(ending)
        assert received.endswith(ending), f"waited for {ending!r}, got {received[-400:]!r}"
        return bytes(received)

    def interrupt(self) -> None:
        """Stop what runs and enter the raw REPL."""
        self.port.write(b"\r\x03\x03\x01")
        self.read_until(b"raw REPL; CTRL-B to exit\r\n>")

    def start(self, code: str) -> None:
        """Hand over code and return when the board has taken it."""
        self.port.write(code.encode() + b"\x04")
        self.read_until(b"OK")

    def finish(self) -> tuple[str, str]:
        """Return what the code printed, and its traceback."""
        out = self.read_until(b"\x04")[:-1]
        error = self.read_until(b"\x04>")[:-2]
        return out.decode(), error.decode()

    def exec(self, code: str) -> str:
        """Run code; return what it printed."""
        self.interrupt()
        self.start(code)
        out, error = self.finish()
        assert not error, error
        return out.strip()


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait for a condition, asked often."""
    give_up = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < give_up, f"waited {timeout_s} s for {what}"
        time.sleep(0.005)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
