"""What is asked of a running QEMU: its machine protocol, QMP, over the process's own pipes."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from typing import Any

from handfast.errors import BoardProblem

_READ_BYTES = 65_536


class Qmp:
    """The monitor of a QEMU that was started with ``-qmp stdio``.

    Args:
        process: it, with pipes at its standard input and output.
        timeout_s: how long any of its answers may take.
    """

    def __init__(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("QEMU was started without pipes to talk through")
        self._to, self._from = process.stdin, process.stdout
        self._timeout_s = timeout_s
        self._read = b""

    def greet(self) -> None:
        """Begin: QMP takes commands after this.

        Raises:
            BoardProblem: QEMU does not answer, or has ended.
        """
        self._answer("QMP")
        self.execute("qmp_capabilities")

    def execute(self, command: str) -> Any:
        """Run a command without arguments; returns what it gives.

        Raises:
            BoardProblem: QEMU refuses it, does not answer, or has ended.
        """
        try:
            self._to.write(json.dumps({"execute": command}).encode() + b"\n")
            self._to.flush()
        except OSError as error:
            raise BoardProblem(f"the emulator has ended: {command} was not done") from error
        return self._answer("return")

    def _answer(self, key: str) -> Any:
        """Return the next answer, events left out."""
        give_up = time.monotonic() + self._timeout_s
        while True:
            message = json.loads(self._line(give_up))
            if key in message:
                return message[key]
            if "error" in message:
                raise BoardProblem(f"the emulator refuses: {message['error'].get('desc')}")

    def _line(self, give_up: float) -> bytes:
        while b"\n" not in self._read:
            left_s = give_up - time.monotonic()
            if left_s <= 0 or not select.select([self._from], [], [], left_s)[0]:
                raise BoardProblem(f"the emulator did not answer within {self._timeout_s:g} s")
            received = os.read(self._from.fileno(), _READ_BYTES)
            if not received:
                raise BoardProblem("the emulator has ended")
            self._read += received
        line, _, self._read = self._read.partition(b"\n")
        return line
