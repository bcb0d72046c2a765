"""Runs make so that no process of it outlives the builder, however the builder ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# Reads the process group to guard, then waits: "done", or the end of the file when the builder has
# died, in which case the group has to go too. A process of its own, since a builder that is killed
# with SIGKILL can do nothing itself. (In dash, -- is only read as such behind -s.)
_WATCHMAN = 'read -r group && { read -r done || kill -s KILL -- "-$group"; }'

# Of the environment only what a compiler needs: a MAKEFLAGS or CFLAGS of the caller's is not ours.
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH")


class MakeFailed(Exception):
    """make ended with an error; ``output`` is all that it and its children printed."""

    def __init__(self, status: int, output: str) -> None:
        super().__init__(f"make ended with status {status}")
        self.output = output


class Make:
    """make in one folder, with every processor."""

    def __init__(self, folder: Path, *, progress: Callable[[str], None]) -> None:
        self._folder = folder
        self._progress = progress

    def run(self, *arguments: str) -> None:
        """Run make and wait for it.

        Args:
            arguments: variables and targets for make.

        Raises:
            MakeFailed: it ended with an error.
        """
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment |= {"LC_ALL": "C", "PYTHONDONTWRITEBYTECODE": "1"}
        python = shlex.quote(sys.executable)  # the shell sees it, and a checkout may be anywhere
        command = ["make", "-s", f"-j{os.cpu_count() or 1}", f"PYTHON={python}", *arguments]
        watchman = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHMAN], stdin=subprocess.PIPE, start_new_session=True
        )
        make = subprocess.Popen(
            command,
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            _tell(watchman, str(make.pid))
            output = self._follow(make)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(make.pid, signal.SIGKILL)
            make.wait()
            raise
        finally:
            _tell(watchman, "done")
            watchman.wait()
        if make.returncode != 0:
            raise MakeFailed(make.returncode, output)

    def _follow(self, make: subprocess.Popen[str]) -> str:
        if make.stdout is None:
            raise RuntimeError("make was started without a pipe to read from")
        lines = []
        with make.stdout:
            for line in make.stdout:
                lines.append(line)
                self._progress(line)
        make.wait()
        return "".join(lines)


def _tell(watchman: subprocess.Popen[bytes], line: str) -> None:
    if watchman.stdin is not None:
        with suppress(BrokenPipeError):
            watchman.stdin.write(line.encode() + b"\n")
            watchman.stdin.flush()
