"""What a board prints while its application runs: lines with times, and events to wait for.

The application's own progress is in lines ``mtls: <event> key=value ...``, which are read as
:class:`Event`; everything else is kept as plain lines.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import TypeVar

from handfast.boards.serial_port import NoAnswer, SerialPort, Unplugged
from handfast.errors import HandfastError

KEPT_LINES = 10_000
_READ_S = 0.05  # how long closing may have to wait for the reader
_LONGEST_LINE = 8192  # a board that never ends a line gets one anyway
_SHOWN_LINES = 12

Found = TypeVar("Found")

_EVENT = re.compile(r"mtls: (?P<name>[a-z][a-z0-9_-]*)(?P<fields>(?: .*)?)$")
_FIELD = re.compile(
    r'\s(?P<key>[a-z_][a-z0-9_]*)=(?P<value>"(?:[^"\\]|\\.)*"|.*?)(?=\s[a-z_][a-z0-9_]*=|\s*$)'
)


@dataclass(frozen=True, slots=True)
class Line:
    """One line from a board: ``number`` counts from 1, ``at`` is when it was complete (UTC)."""

    number: int
    at: datetime
    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """One ``mtls: <name> key=value ...`` line."""

    name: str
    line: Line
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def number(self) -> int:
        """The number of its line, for ``after=``."""
        return self.line.number


def parse_event(line: Line) -> Event | None:
    """Read a line as an event; None if it is another line.

    A value ends where the next `` key=`` begins; in double quotes it may hold anything.
    """
    match = _EVENT.search(line.text)
    if match is None:
        return None
    fields = {}
    for found in _FIELD.finditer(match["fields"]):
        value = found["value"]
        if len(value) > 1 and value[0] == value[-1] == '"':
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        fields[found["key"]] = value
    return Event(match["name"], line, fields)


class Console:
    """Reads a port in the background until closed; a context manager.

    The port is the caller's: closing the console leaves it open, with what came in after the
    last complete line still to be read.

    Args:
        port: what is read.
        keep_lines: how many of the last lines are kept.
        back_within_s: how long a port may be away that goes with a board that resets; what it had
            begun to print counts as a line then.
    """

    def __init__(
        self, port: SerialPort, *, keep_lines: int = KEPT_LINES, back_within_s: float = 0.0
    ) -> None:
        self._port = port
        self._back_within_s = back_within_s
        self._lines: deque[Line] = deque(maxlen=keep_lines)
        self._count = 0
        self._partial = bytearray()
        self._problem: HandfastError | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name=f"console {port.url}", daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The port that is read."""
        return self._port.url

    @property
    def reading(self) -> bool:
        """Whether the console holds the port."""
        return self._thread.is_alive()

    @property
    def lines(self) -> list[Line]:
        """The last lines kept, oldest first."""
        with self._changed:
            return list(self._lines)

    @property
    def text(self) -> str:
        """The kept lines and the unfinished one, as one text."""
        with self._changed:
            unfinished = self._partial.decode("utf-8", "replace")
            return "".join(line.text + "\n" for line in self._lines) + unfinished

    @property
    def last_number(self) -> int:
        """The number of the last line; 0 before the first."""
        with self._changed:
            return self._count

    def events(self, name: str | None = None, *, after: int = 0) -> list[Event]:
        """Return the events among the kept lines, those after line number ``after``."""
        return [
            event
            for line in self.lines
            if line.number > after
            and (event := parse_event(line)) is not None
            and name in (None, event.name)
        ]

    def wait_for(self, pattern: str, timeout_s: float, *, after: int = 0) -> Line:
        """Return the first line after number ``after`` in which ``pattern`` is found.

        Lines that came before the call count too: pass ``after`` (a line's or event's number) for
        later ones only.

        Raises:
            NoAnswer: no such line within ``timeout_s``; the message shows the last lines.
            Unplugged: the line to the board is gone.
        """
        search = re.compile(pattern).search
        return self._wait(
            lambda line: line if search(line.text) else None, timeout_s, after, repr(pattern)
        )

    def wait_for_event(
        self,
        name: str,
        timeout_s: float,
        *,
        after: int = 0,
        where: Callable[[Event], bool] = lambda _: True,
    ) -> Event:
        """Like :meth:`wait_for`, for an event called ``name`` for which ``where`` holds."""

        def wanted(line: Line) -> Event | None:
            event = parse_event(line)
            return event if event and event.name == name and where(event) else None

        return self._wait(wanted, timeout_s, after, f"event {name}")

    def overhear(self, printed: bytes) -> None:
        """Enter what another reader of the port has read since this one was closed, as lines."""
        self._take(printed if printed.endswith(b"\n") else printed + b"\n")

    def write(self, data: bytes) -> None:
        """Send bytes to the board while its output is read (Ctrl-C, a line for ``input``)."""
        self._port.write(data)

    def close(self) -> None:
        """Stop reading and give the port back."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        if self._partial:
            self._port.unread(bytes(self._partial))
            self._partial.clear()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(
        self, wanted: Callable[[Line], Found | None], timeout_s: float, after: int, what: str
    ) -> Found:
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for line in self._lines:
                    if line.number > after and (found := wanted(line)) is not None:
                        return found
                after = max(after, self._count)
                if self._problem is not None:
                    raise self._problem
                left_s = deadline - time.monotonic()
                if left_s <= 0 or not self.reading:
                    raise NoAnswer(self._missing(what, timeout_s))
                self._changed.wait(min(left_s, 1.0))

    def _missing(self, what: str, timeout_s: float) -> str:
        last = "\n".join(f"  {line.text}" for line in list(self._lines)[-_SHOWN_LINES:])
        return f"the board at {self.url} did not print {what} within {timeout_s:g} s; " + (
            f"its last lines:\n{last}" if last else "it printed nothing"
        )

    def _read(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    received = self._port.receive(_READ_S)
                except Unplugged:
                    if not self._back_within_s:
                        raise
                    self._take(b"\n" if self._partial else b"")
                    self._port.reopen(self._back_within_s, unless=self._stop.is_set)
                else:
                    self._take(received)
        except HandfastError as problem:
            with self._changed:
                self._problem = problem
                self._changed.notify_all()

    def _take(self, received: bytes) -> None:
        if not received:
            return
        with self._changed:
            self._partial += received
            *complete, rest = self._partial.split(b"\n")
            if len(rest) > _LONGEST_LINE:
                complete.append(rest)
                rest = bytearray()
            now = datetime.now(UTC)
            for raw in complete:
                self._count += 1
                text = raw.removesuffix(b"\r").decode("utf-8", "replace")
                self._lines.append(Line(self._count, now, text))
            self._partial = bytearray(rest)
            self._changed.notify_all()
