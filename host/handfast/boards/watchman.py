"""Ends a process group when the process that started it has died, however it died."""

from __future__ import annotations

import subprocess
from contextlib import suppress

# Reads the process group to guard, then waits: "done", or the end of the file when whoever started
# it has died, in which case the group has to go too. A process of its own, since one that is killed
# with SIGKILL can do nothing itself. (In dash, -- is only read as such behind -s.)
_SCRIPT = 'read -r group && { read -r done || kill -s KILL -- "-$group"; }'


class Watchman:
    """Waits, from its making on, for a group to guard, and guards it until dismissed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            env={},
        )

    def guard(self, group: int) -> None:
        """Kill this process group when this process ends."""
        self._tell(str(group))

    def dismiss(self) -> None:
        """Guard nothing any more."""
        self._tell("done")
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def _tell(self, line: str) -> None:
        if self._process.stdin is not None:
            with suppress(BrokenPipeError):
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()
