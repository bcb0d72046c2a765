"""What a bench can do to a board from outside: reset it, take its power away, cut it half-way."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from handfast.boards.virtual_board import VirtualBoard

_COMMAND_S = 30.0
NATIVE_BACK_S = 20.0  # a port of native USB, which goes with its board
# With sys.settrace a board has source instead of bytecode, and the frames of it, in its heap.
_TRACED: dict[str, Any] = {"options": ("settrace",), "heap_kb": 1024}


class Bench(Protocol):
    """One board's surroundings; what it cannot do it refuses with a BoardProblem."""

    @property
    def serial_url(self) -> str:
        """The path or URL of its serial line."""

    @property
    def keeps_line(self) -> bool:
        """Whether who has the line open still has it after a reset or a power cycle."""

    @property
    def back_within_s(self) -> float:
        """How long a line that has gone away may take to come back by itself."""

    @property
    def pace(self) -> int:
        """How many times as long as a simulated board it may take."""

    def reset(self) -> None:
        """Press the reset button."""

    def power_cycle(self, *, rtc: int | None = None) -> None:
        """Take the power away and give it back; ``rtc``: what the clock then shows, if it can."""

    def power_off(self) -> None:
        """Take the power away."""

    @property
    def power_was_cut(self) -> bool:
        """Whether the power failed in the middle of a flash operation."""

    def renew(self) -> None:
        """Make it a board that nobody has used, as far as the bench can."""

    def close(self) -> None:
        """Let go of it."""


class VirtualBench:
    """Around a simulated or emulated board everything can be done.

    Its line is taken away by nothing but its end.

    Args:
        profile: the board's definition.
        folder: where its flash image is, and with ``traced`` the file of the lines that it ran.
        name: its name in messages.
        traced: run a build that notes them; a simulated board has one.
    """

    back_within_s = 0.0

    def __init__(self, profile: str, folder: Path, name: str, *, traced: bool = False) -> None:
        from handfast.boards.simulator import SimulatedBoard
        from handfast.boards.virtual import pace, virtual_board

        self.pace = pace(profile)
        self._board: VirtualBoard = (
            SimulatedBoard(profile, directory=folder, name=name, **_TRACED)
            if traced
            else virtual_board(profile, directory=folder, name=name)
        )
        self.definition = self._board.definition
        self.serial_url = self._board.serial_url
        self.keeps_line = self._board.keeps_line
        self._board.power_on()

    def reset(self) -> None:
        """Press the reset button."""
        self._board.reset()

    def power_cycle(self, *, rtc: int | None = None) -> None:
        """Take the power away and give it back."""
        self._board.power_off()
        self._board.power_on(rtc=rtc)

    def power_off(self) -> None:
        """Take the power away."""
        self._board.power_off()

    @property
    def pid(self) -> int | None:
        """The process that is the board."""
        return self._board.pid

    @property
    def power_was_cut(self) -> bool:
        """Whether the power failed in the middle of a flash operation."""
        return self._board.power_was_cut

    def renew(self) -> None:
        """Put in a blank flash chip."""
        self._board.power_off()
        self._board.flash_image.unlink(missing_ok=True)
        self._board.power_on()

    def close(self) -> None:
        """End the board."""
        self._board.close()


class WiredBench:
    """A board on a serial line; what moves its power and reset lines are the user's commands.

    Args:
        serial_url: the path or URL of its line, or its stable name.
        locate: says where a board with a stable name is now.
        reset: the command that presses its reset button; without one it cannot be.
        power_off: the command that takes its power away.
        power_on: the command that gives it back.
    """

    keeps_line = True
    back_within_s = NATIVE_BACK_S
    pace = 1

    def __init__(
        self,
        serial_url: str,
        *,
        locate: Callable[[], str] | None = None,
        reset: Sequence[str] = (),
        power_off: Sequence[str] = (),
        power_on: Sequence[str] = (),
    ) -> None:
        self._name = serial_url
        self._locate = locate
        self.power_was_cut = False
        self._reset, self._off, self._on = reset, power_off, power_on

    @property
    def serial_url(self) -> str:
        """The path or URL of its serial line, wherever that is now."""
        return self._name if self._locate is None else self._locate()

    def reset(self) -> None:
        """Press the reset button."""
        self._run(self._reset, "reset")

    def power_cycle(self, *, rtc: int | None = None) -> None:
        """Take the power away and give it back."""
        if rtc is not None:
            raise _cannot(self._name, "clock")
        self.power_off()
        self._run(self._on, "power_on")

    def power_off(self) -> None:
        """Take the power away."""
        self._run(self._off, "power_off")

    def renew(self) -> None:
        """Remove all files but the library, which is compared when it is provisioned."""
        from handfast.boards.serial_link import SerialLink

        with SerialLink.open(self.serial_url) as link:
            link.soft_reset()
            link.exec(_TIDY, _COMMAND_S)

    def close(self) -> None:
        """The board stays as it is: it is not ours."""

    def _run(self, command: Sequence[str], what: str) -> None:
        from handfast.errors import BoardProblem

        if not command:
            raise _cannot(self._name, what)
        try:
            subprocess.run(
                command, check=True, timeout=_COMMAND_S, stdin=subprocess.DEVNULL, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        except subprocess.CalledProcessError as error:
            raise BoardProblem(f"{what}: {command[0]} failed: {error.stdout.strip()}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BoardProblem(f"{what}: {error}") from error


def _cannot(url: str, what: str) -> Exception:
    from handfast.errors import BoardProblem

    return BoardProblem(f"the bench has no command for {what} of the board at {url}")


# All but the library, which a provisioning run compares by hash, and what it looks after itself.
_TIDY = """
import os as _o
def _rm(d):
    for e in list(_o.ilistdir(d or '/')):
        p = d + '/' + e[0]
        if p == '/lib':
            continue
        if e[1] & 0x4000:
            _rm(p)
            _o.rmdir(p)
        else:
            _o.remove(p)
_rm('')
del _rm, _o
"""
