"""After flashing: what the board itself says that it runs now."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from handfast.boards.definition import BoardDefinition
from handfast.boards.discovery import recognise
from handfast.boards.identify import literal
from handfast.boards.serial_link import SerialLink
from handfast.errors import BoardProblem, CheckFailed, EnvironmentProblem

_LOOK_AGAIN_S = 0.2
_ANSWER_S = 10.0
_ASK = (
    "import sys\n_i = sys.implementation\n"
    "print(repr((_i[0], tuple(_i[1][:3]), getattr(_i, '_machine', ''), "
    "getattr(_i, '_build', ''))))\ndel _i"
)


@dataclass(frozen=True, slots=True)
class Running:
    """``sys.implementation``: ``version`` as ``1.26.1``, ``build`` as ``RPI_PICO_W``."""

    name: str
    version: str
    machine: str
    build: str


def ask_running(where: Callable[[], str], *, timeout_s: float) -> Running:
    """Ask the board for ``sys.implementation``, as soon as its port is there and it answers.

    Args:
        where: gives the URL of its port, which may have become another one.
        timeout_s: how long it may take.

    Raises:
        BoardProblem: no answer within ``timeout_s``.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            with SerialLink.open(where()) as link:
                link.interrupt(timeout_s=min(_ANSWER_S, timeout_s))
                name, version, machine, build = literal(link, _ASK)
                return Running(name, ".".join(map(str, version)), machine, build)
        except (BoardProblem, EnvironmentProblem):
            if time.monotonic() >= give_up:
                raise
            time.sleep(_LOOK_AGAIN_S)


def compare_running(running: Running, *, version: str | None, build: str | None) -> None:
    """Compare with what was flashed; None is not compared.

    Raises:
        CheckFailed: the board runs something else.
    """
    if running.name != "micropython":
        raise CheckFailed(f"the board runs {running.name}, not MicroPython")
    if version is not None and running.version != version:
        raise CheckFailed(f"the board runs MicroPython {running.version}, not {version}")
    if build is not None and running.build != build:
        raise CheckFailed(
            f"the board runs the build {running.build or 'without name'}, not {build}"
        )


def compare_board(
    running: Running, board: BoardDefinition, boards: Sequence[BoardDefinition], *, published: bool
) -> None:
    """Compare the build that runs with the definition's; a build of nobody's may be the user's own.

    Args:
        running: what the board has said.
        board: what was flashed.
        boards: all that are known.
        published: the image was the definition's own, so that version and build must be, too.

    Raises:
        CheckFailed: the board runs something else, or what was made for another board.
    """
    known = recognise(running.build, boards)
    if known not in (None, board.name) or (published and known is None):
        whose = f"which is {known}'s" if known else "which is no board's"
        raise CheckFailed(f"the board runs the build {running.build}, {whose}, not {board.name}'s")
    if published and board.firmware is not None:
        compare_running(running, version=board.firmware.micropython, build=None)
