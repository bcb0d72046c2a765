"""The bench of an emulated board that outlives the command which started it.

Run by its name, this module is that bench: it prints the path of the board's serial line, then
switches the board off and on at SIGUSR1, and ends with it at SIGTERM. When it is killed, the
emulator ends too (:mod:`handfast.boards.watchman`).
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from queue import SimpleQueue

from handfast.boards.virtual import virtual_board
from handfast.boards.virtual_board import Entropy
from handfast.errors import HandfastError

_WAITED_FOR = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)


def bench_command(profile: str, name: str, image: Path, entropy: Entropy) -> list[str]:
    """Return the command that runs a board's bench; ``image`` is its flash chip."""
    module = "handfast.boards.detached_bench"
    return [sys.executable, "-m", module, profile, name, str(image), entropy]


def main(profile: str, name: str, image: str, entropy: Entropy) -> None:
    """Run the board until SIGTERM."""
    flash = Path(image)
    received: SimpleQueue[int] = SimpleQueue()
    for number in _WAITED_FOR:
        signal.signal(number, lambda number, _frame: received.put(number))
    with virtual_board(profile, directory=flash.parent, name=name, entropy=entropy) as board:
        board.flash_image = flash
        board.log = flash.with_suffix(".log")
        board.power_on()
        print(board.serial_url, flush=True)
        while received.get() == signal.SIGUSR1:
            board.power_cycle()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])  # type: ignore[arg-type]
    except HandfastError as error:
        sys.exit(str(error))
