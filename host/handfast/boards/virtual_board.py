"""A board that is a process on this machine, and its bench: cable, power switch, reset button.

What the process is, a simulated board or an emulated one, is the business of whoever derives from
:class:`VirtualBoard`; nobody else needs to know.
"""

from __future__ import annotations

import hashlib
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from handfast.boards.board_line import BoardLine, PtyLine
from handfast.boards.definition import BoardDefinition
from handfast.errors import BoardProblem

# What the board's random source gives, to Python and to mbedTLS: the host's randomness, one octet
# over and over, or the same plausible octets on every board from each power-on and reset.
Entropy = Literal["host", "stuck", "replayed"]

EXIT_POWER_CUT = 86  # boards/sim/sim.h


def unique_id_of(definition: BoardDefinition, name: str) -> bytes:
    """Return the hardware id that the board called ``name`` always has."""
    made = definition.simulator or definition.emulator
    return hashlib.sha256(name.encode()).digest()[: made.unique_id_bytes if made else 8]


class VirtualBoard(ABC):
    """A board and its bench; use it in a ``with`` statement, or call :meth:`close`.

    The serial line is there from the start and keeps its path until :meth:`close`; the board runs
    from :meth:`power_on` on. The board ends with this process, however that ends.

    Args:
        definition: of the board.
        directory: where the flash image and the log are kept; made if it is not there.
        name: the board's name in messages, and what its unique id comes from; the folder's name
            by default.
        heap_kb: size of MicroPython's heap; the board's own by default.
        unique_id: what ``machine.unique_id()`` gives; from the name by default.
        entropy: what the random source gives, to Python and to mbedTLS; the attribute of that name
            may be changed, and counts from the next power-on.
        line: its serial line, which is the board's from now on; a PTY by default.
    """

    def __init__(
        self,
        definition: BoardDefinition,
        *,
        directory: Path,
        name: str | None = None,
        heap_kb: int | None = None,
        unique_id: bytes | None = None,
        entropy: Entropy = "host",
        line: BoardLine | None = None,
    ) -> None:
        self.definition = definition
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name or directory.name
        self.flash_image = directory / "flash.img"
        self.log = directory / "board.log"
        self.unique_id = unique_id or unique_id_of(self.definition, self.name)
        self.entropy: Entropy = entropy
        self._heap_kb = heap_kb
        self._rtc: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._switch = threading.RLock()  # of the power, which close() may take from another thread
        self._line = line or PtyLine()
        self.serial_url = self._line.url
        self.keeps_line = self._line.outlives_a_reset

    @property
    def _master(self) -> int:
        """The descriptor of the board's end of its line; negative when it is unplugged."""
        return self._line.fileno()

    # ---- Power ----

    @property
    def is_running(self) -> bool:
        """Whether the board has power: not before power_on, not after a power cut."""
        return self._process is not None and self._process.poll() is None

    @property
    def power_was_cut(self) -> bool:
        """Whether the last run ended in the middle of a flash operation, as asked for."""
        return self._process is not None and self._process.poll() == EXIT_POWER_CUT

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
            self.power_off()  # what a run that ended by itself has left
            self._line.forget()  # what a client sent while the power was off
            before = self._rtc
            self._rtc = before if rtc is None else rtc
            try:
                self._start(cut_after, torn)
            except BaseException:
                self._rtc = before
                raise

    @abstractmethod
    def _start(self, cut_after: int | None, torn: bool) -> None:
        """Start ``_process`` on ``_master``, and return when the board boots.

        Raises:
            BoardProblem: it could not start.
        """

    @abstractmethod
    def _let_go(self) -> None:
        """Let go of what belongs to a process that has ended; there may be nothing."""

    @abstractmethod
    def _press_reset(self) -> None:
        """Press the reset button of the board, which has power."""

    def power_off(self) -> None:
        """Switch the power off, at once; what is not on flash is lost. It may be off already."""
        with self._switch:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            self._let_go()

    def power_cycle(self) -> None:
        """Switch the power off and on again: RAM and clock are lost, the flash stays."""
        self.power_off()
        self.power_on()

    def reset(self) -> None:
        """Press the reset button: RAM is lost, the clock and the flash stay.

        Raises:
            BoardProblem: the board is switched off.
        """
        with self._switch:
            self._require_power()
            self._press_reset()

    def _require_power(self) -> None:
        if self.is_running:
            return
        status = self._process.poll() if self._process is not None else None
        by_the_bench = (None, EXIT_POWER_CUT, -signal.SIGKILL)
        why = "" if status in by_the_bench else f": {last_line(self.log)}"
        raise BoardProblem(f"board {self.name} is switched off{why}")

    def wait_for_power_cut(self, timeout_s: float = 120) -> None:
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
        if status != EXIT_POWER_CUT:
            raise BoardProblem(f"board {self.name} ended with status {status}, not by a power cut")

    # ---- The cable ----

    def unplug(self) -> None:
        """Take the serial cable, and with it the power, away: clients see a hang-up."""
        with self._switch:
            self.power_off()
            self._line.close()

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


def last_line(log: Path) -> str:
    """Return the last line that a board's process wrote about itself."""
    with suppress(OSError):
        if lines := log.read_text(errors="replace").strip().splitlines():
            return lines[-1]
    return "it gave no reason"
