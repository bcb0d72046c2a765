"""Runs one step of a build that is not make's: bounded, and failing as make does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from handfast.boards.make import MakeFailed

_KEPT_VARIABLES = ("PATH", "HOME")


def run(
    command: Sequence[str],
    *,
    folder: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a command in a folder and wait for it.

    Args:
        command: program and arguments.
        folder: where it runs.
        timeout_s: seconds that it may take.
        environment: variables that it gets besides PATH and HOME. What is set for other builds,
            such as MAKEFLAGS or CFLAGS, is not ours.

    Raises:
        MakeFailed: it ended with an error, or did not end in time.
    """
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=kept | {"LC_ALL": "C"} | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise MakeFailed(-1, f"{command[0]} did not finish within {timeout_s:g} s") from error
    if done.returncode:
        raise MakeFailed(done.returncode, done.stdout)
