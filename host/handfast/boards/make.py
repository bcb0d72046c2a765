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

from handfast.boards.watchman import Watchman

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
        watchman = Watchman()
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
            watchman.guard(make.pid)
            output = self._follow(make)
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(make.pid, signal.SIGKILL)
            make.wait()
            raise
        finally:
            watchman.dismiss()
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
