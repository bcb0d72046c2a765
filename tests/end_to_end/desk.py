"""A board on a desk, with a relay for its power and its reset line."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem

sys.path.append(str(Path(__file__).parents[1] / "host" / "serial"))
from cable import NativePort

_ENUMERATION_S = 0.5  # USB takes its time


class Desk:
    """A board whose power and reset hang on a named pipe, as on a relay.

    Args:
        folder: for all that it has.
        native: its port goes away whenever it restarts, and comes back as another device.
        ports: the folder that such a port is found in; the same one by default.
    """

    def __init__(self, folder: Path, *, native: bool = False, ports: Path | None = None) -> None:
        self.board = SimulatedBoard("sim-pico-w", directory=folder / "board")
        self.heard: list[str] = []
        path = (ports or folder) / "usb-pico"
        self.port = NativePort(self.board.serial_url, path) if native else None
        self._pipe = folder / "relay"
        os.mkfifo(self._pipe)
        self._thread = threading.Thread(target=self._obey, daemon=True)

    def __enter__(self) -> Desk:
        self.board.power_on()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.write_text("end\n")
        self._thread.join()
        if self.port is not None:
            self.port.unplug()
        self.board.close()

    def command(self, word: str) -> list[str]:
        return ["sh", "-c", f"echo {word} > {self._pipe}"]

    def _obey(self) -> None:
        does = {"reset": self._reset, "off": self._off, "on": self._on}
        while True:
            for word in self._pipe.read_text().split():
                if word == "end":
                    return
                self.heard.append(word)
                with suppress(BoardProblem):
                    does[word]()

    def _reset(self) -> None:
        if self.port is not None:
            self.port.unplug()
        self.board.reset()
        self._appear()

    def _off(self) -> None:
        if self.port is not None:
            self.port.unplug()
        self.board.power_off()

    def _on(self) -> None:
        self.board.power_on()
        self._appear()

    def _appear(self) -> None:
        if self.port is not None:
            time.sleep(_ENUMERATION_S)
            self.port.plug()
