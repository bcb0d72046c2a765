"""Simulated boards: one process each, on a PTY that outlives its power cycles.

The process is MicroPython's own unix port (boards/sim). What this module adds is what a bench has
around a board: a serial cable, a power switch and a reset button.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import signal
import subprocess
import termios
import threading
import tty
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from handfast.boards.builder import build_simulator
from handfast.boards.definition import BoardDefinition, load_board
from handfast.boards.sources import Progress
from handfast.errors import BoardProblem, UsageError

# What the board's random source gives, to Python and to mbedTLS: the host's randomness, one octet
# over and over, or the same plausible octets on every board from each power-on and reset.
Entropy = Literal["host", "stuck", "replayed"]

_EXIT_POWER_CUT = 86  # boards/sim/sim.h
START_S = 20.0  # a board is there within milliseconds, unless its disk hangs


def simulated_board(profile: str) -> BoardDefinition:
    """Return the definition of a simulated board.

    Raises:
        UsageError: there is no such board, or it is not a simulated one.
    """
    definition = load_board(profile)
    if definition.kind != "simulated":
        raise UsageError(f"{profile} is a {definition.kind} board, not a simulated one")
    return definition


def board_arguments(
    definition: BoardDefinition,
    *,
    flash_image: Path,
    unique_id: bytes,
    heap_kb: int | None = None,
    rtc: int | None = None,
    cut_after: int | None = None,
    torn: bool = True,
    entropy: Entropy = "host",
) -> list[str]:
    """Return the simulator program's options for a board (boards/sim/main.c lists them)."""
    if definition.flash is None or definition.memory is None:
        raise UsageError(f"{definition.name}: board.toml has no [flash] or no [memory]")
    arguments = ["--board", "--flash", str(flash_image)]
    arguments += ["--flash-kb", str(definition.flash.filesystem_kb)]
    arguments += ["--heap-kb", str(heap_kb or definition.memory.heap_kb)]
    arguments += ["--unique-id", unique_id.hex()]
    if rtc is not None:
        arguments += ["--rtc", str(rtc)]
    if cut_after is not None:
        arguments += ["--cut-after", str(cut_after)]
        arguments += [] if torn else ["--cut-clean"]
    if entropy != "host":
        arguments += ["--entropy", entropy]
    return arguments


def unique_id_of(definition: BoardDefinition, name: str) -> bytes:
    """Return the hardware id that the board called ``name`` always has."""
    length = definition.simulator.unique_id_bytes if definition.simulator else 8
    return hashlib.sha256(name.encode()).digest()[:length]


class SimulatedBoard:
    """A simulated board and its bench; use it in a ``with`` statement, or call :meth:`close`.

    The serial line is there from the start and keeps its path until :meth:`close`; the board runs
    from :meth:`power_on` on. The board ends with this process, however that ends.

    Args:
        profile: the board's definition, such as ``sim-pico-w``.
        directory: where the flash image and the log are kept; made if it is not there.
        name: the board's name in messages, and what its unique id comes from; the folder's name
            by default.
        micropython: the MicroPython version; the profile's own by default.
        options: what its build has beyond stock firmware (builder.OPTIONS).
        heap_kb: size of MicroPython's heap; the profile's own by default.
        unique_id: what ``machine.unique_id()`` gives; from the name by default.
        entropy: what the random source gives, to Python and to mbedTLS; the attribute of that name
            may be changed, and counts from the next power-on.
        progress: is told what goes on while the simulator is built.
    """

    def __init__(
        self,
        profile: str = "sim-pico-w",
        *,
        directory: Path,
        name: str | None = None,
        micropython: str | None = None,
        options: Sequence[str] = (),
        heap_kb: int | None = None,
        unique_id: bytes | None = None,
        entropy: Entropy = "host",
        progress: Progress = lambda _: None,
    ) -> None:
        self.definition = simulated_board(profile)
        self._program = build_simulator(
            profile, micropython=micropython, options=options, progress=progress
        )
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name or directory.name
        self.flash_image = directory / "flash.img"
        self.log = directory / "board.log"
        self.unique_id = unique_id or unique_id_of(self.definition, self.name)
        self.entropy: Entropy = entropy
        self._heap_kb = heap_kb
        self._rtc: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._switch = threading.RLock()  # of the power, which close() may take from another thread
        self._master, self._client = _open_line()
        self.serial_url = os.ttyname(self._client)

    # ---- Power ----

    @property
    def is_running(self) -> bool:
        """Whether the board has power: not before power_on, not after a power cut."""
        return self._process is not None and self._process.poll() is None

    @property
    def power_was_cut(self) -> bool:
        """Whether the last run ended in the middle of a flash operation, as asked for."""
        return self._process is not None and self._process.poll() == _EXIT_POWER_CUT

    @property
    def pid(self) -> int | None:
        """The process that is the board, while it runs."""
        return self._process.pid if self._process is not None and self.is_running else None

    def power_on(
        self, *, cut_after: int | None = None, torn: bool = True, rtc: int | None = None
    ) -> None:
        """Switch the power on; returns when the board boots.

        Args:
            cut_after: the power fails in the middle of the flash operation after that many.
            torn: False lets it fail just before that operation begins.
            rtc: what the clock shows, in unix seconds; the board's epoch by default. A later
                power cycle starts with it again.

        Raises:
            BoardProblem: it already runs, its line is unplugged, or it could not start.
        """
        with self._switch:
            if self.is_running:
                raise BoardProblem(f"board {self.name} is already switched on")
            if self._master < 0:
                raise BoardProblem(f"board {self.name} is unplugged: its serial line is closed")
            if rtc is not None:
                self._rtc = rtc
            self.power_off()  # what a run that ended by itself has left
            # What a client sent while the power was off went nowhere.
            termios.tcflush(self._master, termios.TCIFLUSH)
            alive, self._lifeline = os.pipe()
            try:
                self._process = self._spawn(alive, cut_after, torn)
            finally:
                os.close(alive)
            self._wait_until_started()

    def _spawn(self, lifeline: int, cut_after: int | None, torn: bool) -> subprocess.Popen[bytes]:
        arguments = board_arguments(
            self.definition,
            flash_image=self.flash_image,
            unique_id=self.unique_id,
            heap_kb=self._heap_kb,
            rtc=self._rtc,
            cut_after=cut_after,
            torn=torn,
            entropy=self.entropy,
        )
        arguments += ["--uart-fd", str(self._master), "--lifeline-fd", str(lifeline)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={},
                pass_fds=(self._master, lifeline),
                start_new_session=True,
            )

    def _wait_until_started(self) -> None:
        process = self._process
        if process is None:
            return
        if not announced_line(process):
            self.power_off()
            raise BoardProblem(f"board {self.name} did not start: {last_line(self.log)}")

    def power_off(self) -> None:
        """Switch the power off, at once; what is not on flash is lost. It may be off already."""
        with self._switch:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            if self._lifeline is not None:
                os.close(self._lifeline)
                self._lifeline = None

    def power_cycle(self) -> None:
        """Switch the power off and on again: RAM and clock are lost, the flash stays."""
        self.power_off()
        self.power_on()

    def reset(self) -> None:
        """Press the reset button: RAM is lost, the clock and the flash stay.

        Raises:
            BoardProblem: the board is switched off.
        """
        if not self.is_running or self._process is None:
            raise BoardProblem(f"board {self.name} is switched off")
        self._process.send_signal(signal.SIGHUP)

    def wait_for_power_cut(self, timeout_s: float = 30) -> None:
        """Wait until the board lost its power in the middle of a flash operation.

        Raises:
            BoardProblem: it did not within ``timeout_s``, or it ended otherwise.
        """
        if self._process is None:
            raise BoardProblem(f"board {self.name} is switched off")
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise BoardProblem(
                f"board {self.name} still has power after {timeout_s:g} s: fewer flash operations "
                "were done than the cut waits for"
            ) from error
        if status != _EXIT_POWER_CUT:
            raise BoardProblem(f"board {self.name} ended with status {status}, not by a power cut")

    # ---- The cable ----

    def unplug(self) -> None:
        """Take the serial cable, and with it the power, away: clients see a hang-up."""
        with self._switch:
            self.power_off()
            for handle in (self._client, self._master):
                if handle >= 0:
                    with suppress(OSError):
                        os.close(handle)
            self._client = self._master = -1

    def close(self) -> None:
        """End the board and take its serial line away; the flash image stays.

        Another thread may be using the board: it finds it unplugged, and starts nothing more.
        """
        self.unplug()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_line() -> tuple[int, int]:
    """Open a PTY: its master end for the board, its client end held so that it stays raw."""
    master, client = os.openpty()
    tty.setraw(client, termios.TCSANOW)
    for handle in (master, client):
        fcntl.fcntl(handle, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return master, client


def announced_line(process: subprocess.Popen[bytes]) -> str:
    """Return the path of the serial line that a board's process says it runs on; "" if none."""
    if process.stdout is None:
        raise RuntimeError("the board was started without a pipe to read its line's path from")
    with process.stdout as announcement:
        poll = select.poll()
        poll.register(announcement, select.POLLIN)
        return announcement.readline().decode().strip() if poll.poll(START_S * 1000) else ""


def last_line(log: Path) -> str:
    """Return the last line that a board's process wrote about itself."""
    with suppress(OSError):
        if lines := log.read_text(errors="replace").strip().splitlines():
            return lines[-1]
    return "it gave no reason"
