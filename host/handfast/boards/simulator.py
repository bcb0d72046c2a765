"""Simulated boards: one process each, on a PTY that outlives its power cycles.

The process is MicroPython's own unix port (boards/sim).
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from handfast.boards.builder import build_simulator
from handfast.boards.definition import BoardDefinition, load_board
from handfast.boards.lifeline_board import LifelineBoard
from handfast.boards.sources import Progress
from handfast.boards.virtual_board import Entropy
from handfast.errors import UsageError


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


class SimulatedBoard(LifelineBoard):
    """A simulated board and its bench; see :class:`~handfast.boards.virtual_board.VirtualBoard`.

    Args:
        profile: the board's definition, such as ``sim-pico-w``.
        directory: where the flash image and the log are kept; made if it is not there.
        name: the board's name in messages, and what its unique id comes from; the folder's name
            by default.
        micropython: the MicroPython version; the profile's own by default.
        options: what its build has beyond stock firmware (firmware_options.OPTIONS).
        heap_kb: size of MicroPython's heap; the profile's own by default.
        unique_id: what ``machine.unique_id()`` gives; from the name by default.
        entropy: what the random source gives.
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
        definition = simulated_board(profile)
        self._program = build_simulator(
            profile, micropython=micropython, options=options, progress=progress
        )
        self._passed: tuple[int, ...] = ()  # further descriptors that its options name
        super().__init__(
            definition,
            directory=directory,
            name=name,
            heap_kb=heap_kb,
            unique_id=unique_id,
            entropy=entropy,
        )

    def _arguments(self, cut_after: int | None, torn: bool) -> list[str]:
        return board_arguments(
            self.definition,
            flash_image=self.flash_image,
            unique_id=self.unique_id,
            heap_kb=self._heap_kb,
            rtc=self._rtc,
            cut_after=cut_after,
            torn=torn,
            entropy=self.entropy,
        )

    def _spawn(self, lifeline: int, cut_after: int | None, torn: bool) -> subprocess.Popen[bytes]:
        arguments = self._arguments(cut_after, torn)
        arguments += ["--uart-fd", str(self._master), "--lifeline-fd", str(lifeline)]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [self._program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={},
                pass_fds=(self._master, lifeline, *self._passed),
                start_new_session=True,
            )
