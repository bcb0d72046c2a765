"""A board's REPL as bytes on a serial line, with nothing of ours in between."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import serial
from littlefs import LittleFS
from littlefs.context import UserContext

DEADLINE_S = 20
SECTOR = 4096


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


def kill_its_bench(profile: str, folder: Path) -> None:
    """Let another process run a board, kill that process, and wait for the board's own to end."""
    code = (
        "import sys, pathlib\nfrom handfast.boards.virtual import virtual_board\n"
        f"board = virtual_board({profile!r}, directory=pathlib.Path({str(folder)!r}))\n"
        "board.power_on()\nprint(board.pid, flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as harness:
        assert harness.stdout is not None
        pid = int(harness.stdout.readline())
        assert Path(f"/proc/{pid}").exists()
        harness.kill()
        wait_until(lambda: not Path(f"/proc/{pid}/exe").exists(), "the board to end", 10)


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def filesystem(image: Path) -> LittleFS:
    """Open a flash image with another implementation's build of littlefs."""
    content = image.read_bytes()
    context = UserContext(len(content))
    context.buffer[:] = content
    fs = LittleFS(
        context,
        block_size=SECTOR,
        block_count=len(content) // SECTOR,
        prog_size=256,
        read_size=32,
        cache_size=1024,
        mount=False,
    )
    fs.mount()
    return fs


def read(fs: LittleFS, path: str) -> bytes:
    with fs.open(path, "rb") as file:
        return bytes(file.read())
