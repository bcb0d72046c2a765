"""The gateway's log, read as it grows: which lines are about whose connection."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

from handfast.lab.demo.intruders.judge import Connection, Line, Lines

# After an answer has come, its line is at most a busy event loop away.
_LOG_WITHIN_S = 10.0
_POLL_S = 0.05
_EVENTS = ("request", "tls_refused")


class GatewayLog:
    """Lines about requests and refused handshakes, from now on.

    Args:
        path: one JSON document a line.
        network: the beginning of the peers' addresses that count; all other lines are passed over.
    """

    def __init__(self, path: Path, network: str) -> None:
        self._path = path
        self._mark = f'"peer": "{network}'.encode()
        self._read_to = path.stat().st_size
        self._rest = b""
        self._lines: defaultdict[Connection, list[Line]] = defaultdict(list)

    def wait_for(
        self, connections: Collection[Connection], pause: Callable[[float], None]
    ) -> Lines:
        """Wait until each of ``connections`` is in the log, not for ever; return all lines."""
        deadline = time.monotonic() + _LOG_WITHIN_S
        while True:
            self._read()
            missing = any(connection not in self._lines for connection in connections)
            if not missing or time.monotonic() > deadline:
                return dict(self._lines)
            pause(_POLL_S)

    def _read(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            grown = file.read()
        self._read_to += len(grown)
        *whole, self._rest = (self._rest + grown).split(b"\n")
        for text in whole:
            if self._mark not in text:
                continue
            line = json.loads(text)
            if line.get("event") in _EVENTS:
                self._lines[(line["listener"], line["peer"])].append(line)
