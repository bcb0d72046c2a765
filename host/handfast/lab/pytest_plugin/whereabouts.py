"""Where a board with a stable name is plugged in: asked for once in a run, then followed."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from handfast.errors import BoardProblem
from handfast.files import write_atomically
from handfast.lab.pytest_plugin.leases import file_of

if TYPE_CHECKING:
    from handfast.boards.discovery import Port

_SUFFIX = ".place"
Place = tuple[object, ...]


def is_stable_name(url: str) -> bool:
    """Say whether it is a name as ``handfast board scan`` prints, not a path or a URL."""
    return "@" in url and "/" not in url


class Whereabouts:
    """Finds the port of one board, whatever it is called now.

    A board with USB of its own shows its id there, and is not asked. One behind a bridge is asked,
    as all like it are, by whichever process of the run needs one first; from then on it is known
    by its bridge and by the socket that the bridge is in. So no board is asked that a test uses.

    Args:
        name: of the board, such as ``esp32@A0B765...``.
        records: the folder of the leases, where the run's processes note who is where.
        run: what names this run, the same in all its processes.
        ports: gives the ports there are.
    """

    def __init__(
        self, name: str, records: Path, run: str, ports: Callable[[], Sequence[Port]]
    ) -> None:
        self._name = name
        self._records = records
        self._run = run
        self._ports = ports

    def url(self) -> str:
        """Return the path or URL of its port.

        Raises:
            BoardProblem: it is not plugged in, or not where it was before.
        """
        from handfast.boards.discovery import shows

        ports = self._ports()
        if own := [port for port in ports if shows(port, self._name.rpartition("@")[2])]:
            first = min(own, key=lambda port: port.location or "")  # of its serial lines
            if self._noted() != _place(first):
                self._note(self._name, _place(first))  # so nobody is asked while it is away
            return first.url
        place = self._noted() or self._ask(ports)
        for port in ports:
            if _place(port) == place:
                return port.url
        raise BoardProblem(f"{self._name} is not where it was: plug it in there again")

    def _noted(self) -> Place | None:
        return self._notes().get(self._name)

    def _notes(self) -> dict[str, Place]:
        """Return name → place of the boards that this run has asked."""
        notes = {}
        for file in self._records.glob(f"*{_SUFFIX}"):
            with suppress(OSError, ValueError, KeyError):
                note = json.loads(file.read_text(encoding="utf-8"))
                if note["run"] == self._run:
                    notes[str(note["name"])] = tuple(note["place"])
        return notes

    def _ask(self, ports: Sequence[Port]) -> Place:
        from handfast.boards.definition import load_boards
        from handfast.boards.discovery import no_such_board, place, scan
        from handfast.boards.sources import locked

        boards = load_boards()
        kind = self._name.rpartition("@")[0]
        with locked(self._records):  # for as long as another asks: some seconds
            if (found := self._noted()) is not None:
                return found
            known = set(self._notes().values())
            asked = [
                port
                for port in ports
                if _place(port) not in known
                and (port.usb is None or kind in place(port, boards).candidates)
            ]
            seen = scan(asked, boards)
            for one in seen:
                if one.name is not None:
                    self._note(one.name, _place(one.port))
            if (found := self._noted()) is not None:
                return found
        raise no_such_board(self._name, seen)

    def _note(self, name: str, place: Place) -> None:
        note = {"run": self._run, "name": name, "place": place}
        write_atomically(file_of(self._records, name, _SUFFIX), json.dumps(note).encode())


def _place(port: Port) -> Place:
    """Return what stays of a port when the ports are numbered anew."""
    return (*(port.usb or ()), port.usb_serial, port.location or port.url)
