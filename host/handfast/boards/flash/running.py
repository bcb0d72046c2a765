"""After flashing: what the board itself says that it runs now."""

from __future__ import annotations

import time
from dataclasses import dataclass

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


def ask_running(url: str, *, timeout_s: float) -> Running:
    """Ask the board for ``sys.implementation``, as soon as its port is there and it answers.

    Raises:
        BoardProblem: no answer within ``timeout_s``.
    """
    give_up = time.monotonic() + timeout_s
    while True:
        try:
            with SerialLink.open(url) as link:
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
