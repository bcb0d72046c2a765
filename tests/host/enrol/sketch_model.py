"""The enrolment sketch itself, built for this machine: Arduino's core and its library are modelled.

What boards/arduino-mkr/handfast_enrol does with lines, states and slots is what runs here. That it
builds for a SAMD21, and what a real chip does, is not shown by this.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from pathlib import Path

from ecc_chip_model import EccChipModel, PowerCut
from mkr_model import Pty

HERE = Path(__file__).parent
SKETCH = HERE.parents[2] / "boards/arduino-mkr/handfast_enrol/handfast_enrol.ino"
_CORE = HERE / "arduino_model"


def build(
    folder: Path,
    board: str = "ARDUINO_SAMD_MKRWIFI1010",
    sketch: Path = SKETCH,
    *,
    checked: bool = True,
) -> Path:
    """Compile a sketch, ``checked`` as strictly as the compiler can; returns the program."""
    program = folder / f"{board}.program"
    checks = ("-Wall", "-Wextra", "-Werror", "-fsanitize=undefined,address") if checked else ()
    subprocess.run(
        [
            *("g++", "-std=gnu++11", *checks),
            *(f"-D{board}", f"-I{_CORE}", "-include", "Arduino.h", "-x", "c++"),
            *(str(sketch), str(_CORE / "main.cpp"), "-o", str(program)),
        ],
        check=True,
    )
    return program


class SketchModel:
    """A board that runs the sketch until it is closed; a context manager.

    Args:
        program: what :func:`build` returned.
        chip: outlives resets.
    """

    def __init__(self, program: Path, chip: EccChipModel | None = None) -> None:
        self.chip = chip or EccChipModel()
        self._program = program
        self._pty = Pty()
        self.url = self._pty.url
        self._start()

    def _start(self) -> None:
        self._wire, end = socket.socketpair()
        # The chip's descriptor is 3 in the program, whatever it is here.
        shell = f"exec 3<&{end.fileno()} && exec {self._program}"
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", shell],
            stdin=self._pty.master,
            stdout=self._pty.master,
            pass_fds=(end.fileno(),),
        )
        end.close()
        self._thread = threading.Thread(target=self._serve, args=(self._wire,), daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._wire.close()

    def power_cycle(self) -> None:
        """Reset the board, as the reset button does: the port stays."""
        self._stop()
        self._start()

    def close(self) -> None:
        self._stop()
        self._pty.close()

    def __enter__(self) -> SketchModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _serve(self, wire: socket.socket) -> None:
        """Answer for the chip until the program ends."""
        with contextlib.suppress(OSError), wire.makefile("rb") as questions:
            for question in questions:
                try:
                    answer = self._answer(*question.decode().split())
                except PowerCut:
                    self._process.kill()
                    self._process.wait()
                    wire.close()
                    self._start()
                    return
                wire.sendall(answer.encode() + b"\n")

    def _answer(self, verb: str, *words: str) -> str:
        chip = self.chip
        if verb == "serial":
            return chip.serial
        if verb in ("begin", "locked"):
            return str(int(not chip.broken if verb == "begin" else chip.locked))
        slot, rest = int(words[0]), words[1:]
        if verb == "write":
            return str(int(chip.write(slot, bytes.fromhex(rest[0]))))
        if verb == "csr":
            made = chip.csr(slot, rest[0])
            return "-" if made is None else made.encode().hex()
        found = {
            "generate": lambda: chip.generate(slot),
            "public": lambda: chip.public(slot),
            "read": lambda: chip.read(slot, int(rest[0])),
        }[verb]()
        return "-" if found is None else found.hex()
