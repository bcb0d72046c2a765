"""What boards have in common that a QEMU emulates: how it is started, told, and let go of."""

from __future__ import annotations

import subprocess
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress

from handfast.boards.qmp import Qmp
from handfast.boards.virtual_board import VirtualBoard
from handfast.boards.watchman import Watchman

START_S = 60.0  # within a tenth of a second, unless the machine is busy
# No screen, no device but those that are asked for, and QMP where the process listens.
HEADLESS = ("-nodefaults", "-display", "none", "-qmp", "stdio")


def serial_options(name: str, handle: int, number: int) -> list[str]:
    """Return QEMU's options for a serial line on a terminal that is open already.

    Args:
        name: of the line, in QEMU.
        handle: the terminal's descriptor, which QEMU inherits.
        number: of the line, from 1 on.
    """
    # By this device QEMU takes a terminal as it is; `pty` would make one of its own.
    return [
        *("-add-fd", f"fd={handle},set={number}"),
        *("-chardev", f"serial,id={name},path=/dev/fdset/{number}"),
        *("-serial", f"chardev:{name}"),
    ]


def uart_options(name: str, handle: int) -> list[str]:
    """Return QEMU's options for a serial line on a connected socket.

    Args:
        name: of the line, in QEMU.
        handle: the socket's descriptor, which QEMU inherits.
    """
    return ["-chardev", f"socket,id={name},fd={handle}", "-serial", f"chardev:{name}"]


class QemuBoard(VirtualBoard):
    """A board in a QEMU that takes commands on its standard input (``-qmp stdio``)."""

    _qmp: Qmp | None = None
    _watchman: Watchman | None = None

    @abstractmethod
    def _emulator_path(self) -> str:
        """Return the path of this board's QEMU."""

    def _run_emulator(
        self,
        options: Sequence[str],
        *,
        handles: Sequence[int],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start QEMU as the board's process, to end with this one.

        Args:
            options: QEMU's, :data:`HEADLESS` among them.
            handles: descriptors that it inherits.
            environment: of its process; this one's by default.
        """
        self._watchman = Watchman()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._emulator_path(), *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                pass_fds=handles,
                start_new_session=True,
            )
        self._watchman.guard(self._process.pid)

    def _greet_emulator(self) -> None:
        """Make QEMU take commands.

        Raises:
            BoardProblem: it does not answer, or has ended.
        """
        if self._process is not None:
            self._qmp = Qmp(self._process, START_S)
            self._qmp.greet()

    def _let_go(self) -> None:
        self._qmp = None
        if self._watchman is not None:
            self._watchman.dismiss()
            self._watchman = None
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()

    def _press_reset(self) -> None:
        if self._qmp is not None:
            self._qmp.execute("system_reset")
