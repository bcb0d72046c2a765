"""Counts instructions with valgrind's callgrind: the same program and input give the same count.

What one operation costs is the difference of two runs, one that does it and one that does not: the
interpreter's start and the imports stand in both.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from handfast.errors import EnvironmentProblem

_TIMEOUT_S = 300.0
_COLLECTED = re.compile(r"Collected : (\d+)")


def instructions(
    command: Sequence[str | Path], *, environment: Mapping[str, str], folder: Path
) -> int:
    """Return the instructions that a command takes, its children's not counted.

    Raises:
        EnvironmentProblem: valgrind is missing, or the command failed.
    """
    try:
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        raise EnvironmentProblem(
            "valgrind is missing; install it, as root: apt-get install valgrind"
        ) from None
    found = _COLLECTED.search(done.stderr)
    if done.returncode != 0 or found is None:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise EnvironmentProblem(f"{command[0]} failed: {said[-1] if said else 'it said nothing'}")
    return int(found[1])
