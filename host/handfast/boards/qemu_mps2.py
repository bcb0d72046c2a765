"""qemu-mps2: MicroPython on a Cortex-M3's bare metal, emulated by QEMU (boards/qemu-mps2).

The flash chip is a file, the serial line a PTY that outlives power cycles, the network QEMU's user
mode: this machine's loopback is 10.0.2.2 there.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from handfast.boards.definition import load_board
from handfast.boards.qemu_board import HEADLESS, START_S, QemuBoard, serial_options
from handfast.boards.qemu_mps2_build import BOARD, build_qemu_mps2
from handfast.boards.sources import Progress
from handfast.boards.virtual_board import Entropy, last_line
from handfast.errors import BoardProblem, UsageError

_EMULATOR = "qemu-system-arm"
_NETWORK = "user,model=lan9118,ipv6=off"
# Each instruction takes a nanosecond of the machine's time, and waiting what it takes.
_COUNTED = ("-icount", "shift=0,align=off,sleep=on")


class QemuMps2Board(QemuBoard):
    """An emulated Cortex-M3 board and its bench; see :class:`VirtualBoard`.

    Args:
        directory: where the flash image and the log are kept; made if it is not there.
        name: the board's name in messages, and what its unique id comes from; the folder's name
            by default.
        micropython: the MicroPython version; the board's own by default.
        heap_kb: size of MicroPython's heap; the board's own by default.
        unique_id: what ``machine.unique_id()`` gives; from the name by default.
        entropy: what the random source gives.
        options: of :data:`firmware_options.OPTIONS`, what its firmware has beyond stock.
        counts_instructions: let the machine's time be the number of its instructions.
        progress: is told what goes on while the firmware is built.
    """

    def __init__(
        self,
        *,
        directory: Path,
        name: str | None = None,
        micropython: str | None = None,
        heap_kb: int | None = None,
        unique_id: bytes | None = None,
        entropy: Entropy = "host",
        options: Sequence[str] = (),
        counts_instructions: bool = False,
        progress: Progress = lambda _: None,
    ) -> None:
        definition = load_board(BOARD)
        if definition.emulator is None:
            raise UsageError(f"{BOARD}: board.toml has no [emulator]")
        self._machine = definition.emulator.machine
        self._firmware = build_qemu_mps2(
            micropython=micropython, options=options, progress=progress
        )
        self._counts_instructions = counts_instructions
        super().__init__(
            definition,
            directory=directory,
            name=name,
            heap_kb=heap_kb,
            unique_id=unique_id,
            entropy=entropy,
        )

    def _emulator_path(self) -> str:
        return shutil.which(_EMULATOR) or _EMULATOR

    def _start(self, cut_after: int | None, torn: bool) -> None:
        with ExitStack() as stack:
            flash = self._open_flash()
            stack.callback(os.close, flash)
            started, starts = os.pipe()
            stack.callback(os.close, started)
            try:
                self._spawn(flash, starts, self._options(cut_after, torn))
            finally:
                os.close(starts)
            self._wait_until_started(started)

    def _options(self, cut_after: int | None, torn: bool) -> dict[str, str | int]:
        """Return what the firmware is told (boards/qemu-mps2/main.c), its files aside."""
        memory = self.definition.memory
        heap_kb = self._heap_kb or (memory.heap_kb if memory else None)
        if heap_kb is None:
            raise UsageError(f"{self.definition.name}: board.toml has no heap_kb")
        options: dict[str, str | int] = {"heap-kb": heap_kb, "unique-id": self.unique_id.hex()}
        options["entropy"] = self.entropy
        if self._rtc is not None:
            options["rtc"] = self._rtc
        if cut_after is not None:
            options["cut-after"] = cut_after
            if not torn:
                options["cut-clean"] = 1
        return options

    def _open_flash(self) -> int:
        """Open the flash image, a blank one if there is none, and hold it for this board alone."""
        handle = os.open(self.flash_image, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # The lock is the open file's: the emulator inherits it, and it ends with the emulator.
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_size == 0:
                self._write_blank(handle)
        except OSError as error:
            os.close(handle)
            why = "another board is running on it"
            if not isinstance(error, BlockingIOError):
                why = error.strerror or str(error)
            raise BoardProblem(
                f"board {self.name}: flash file {self.flash_image}: {why}"
            ) from error
        return handle

    def _write_blank(self, handle: int) -> None:
        flash = self.definition.flash
        blank = b"\xff" * (flash.filesystem_kb if flash else 0) * 1024
        try:
            with open(handle, "wb", closefd=False) as file:
                file.write(blank)
        except OSError:
            self.flash_image.unlink()  # a part of it would be taken for a damaged chip
            raise

    def _spawn(self, flash: int, starts: int, options: dict[str, str | int]) -> None:
        told = {"flash": f"/dev/fd/{flash}", "started": f"/dev/fd/{starts}", **options}
        semihosting = "".join(f",arg={name}={value}" for name, value in told.items())
        self._run_emulator(
            [
                *("-machine", self._machine, *HEADLESS, "-kernel", str(self._firmware)),
                *serial_options("line", self._master, 1),
                *("-nic", _NETWORK),
                *("-semihosting-config", f"enable=on,target=native{semihosting}"),
                *(_COUNTED if self._counts_instructions else ()),
            ],
            handles=(self._master, flash, starts),
            environment={},
        )

    def _wait_until_started(self, started: int) -> None:
        """Wait until the firmware says that it runs."""
        ready = select.select([started], [], [], START_S)[0]
        if not ready or not os.read(started, 1) or self._process is None:
            self.power_off()
            raise BoardProblem(f"board {self.name} did not start: {last_line(self.log)}")
        try:
            self._greet_emulator()
        except BoardProblem:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(START_S)
            if not self.power_was_cut:  # as asked for, before anybody could press its buttons
                raise
