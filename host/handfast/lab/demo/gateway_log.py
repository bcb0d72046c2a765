"""The gateway's log, one JSON document a line, read from where it stood at some moment."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LOG_WITHIN_S = 5.0
_POLL_S = 0.05


def log_lines(log: Path, start: int) -> list[dict[str, Any]]:
    """Return the log's entries that begin at byte ``start`` or later and are whole.

    ``start`` is the size that the file had: it may lie in the middle of a line being written.
    """
    with log.open("rb") as file:
        file.seek(max(0, start - 1))
        content = file.read().rpartition(b"\n")[0]
    if start > 0:
        content = content.partition(b"\n")[2]
    return [json.loads(line) for line in content.splitlines()]


def wait_for_line(
    log: Path, start: int, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any] | None:
    """Return the first such entry from byte ``start`` on that comes in time, or None."""
    deadline = time.monotonic() + _LOG_WITHIN_S
    while True:
        found = next((line for line in log_lines(log, start) if wanted(line)), None)
        if found is not None or time.monotonic() > deadline:
            return found
        time.sleep(_POLL_S)
