"""The demo's boards: virtual, provisioned over serial, watched through their consoles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from handfast.admin_client import AdminClient
from handfast.boards.console import Console, Event
from handfast.boards.identify import CONFIG_FILE
from handfast.boards.provision import Provisioned, provision
from handfast.boards.serial_link import SerialLink
from handfast.boards.virtual_board import VirtualBoard
from handfast.errors import BoardProblem
from handfast.lab.demo.live import BoardRow

TELEMETRY_INTERVAL_S = 1
_ACCEPTED = "200"
# The application's last event, as people would say what the board is doing.
_STATES = {
    "boot": "asking the time",
    "clock": "enrolling",
    "ping": "calling",
    "telemetry": "calling",
}


@dataclass(slots=True)
class DemoBoard:
    """One board of the demo; its device_id is its name.

    ``woke_at`` is what its clock said before anyone had given it a time, in seconds since the
    board's own epoch; ``capture`` holds every byte that it sent over serial.
    """

    name: str
    board: VirtualBoard
    capture: Path
    woke_at: float = -1.0
    provisioned: Provisioned | None = None
    link: SerialLink | None = None
    listening: Console | None = None

    def bring_up(
        self, gateway: AdminClient, *, config: Mapping[str, str | int] | None = None
    ) -> None:
        """Switch on, provision over serial, start the application and begin to listen to it."""
        self.board.power_on()
        with self._open() as link:
            self.woke_at = float(link.exec("import time\nprint(time.time())"))
        self.provision(gateway, config=config)
        self.link = self._open()
        self.listening = self.link.start_application()

    def provision(
        self, gateway: AdminClient, *, config: Mapping[str, str | int] | None = None
    ) -> None:
        """Provision the board, which is on; its application does not run yet.

        Args:
            gateway: which it is registered at.
            config: settings in place of those that the gateway gives.
        """
        self.provisioned = provision(
            self.board.serial_url,
            gateway=gateway,
            device_id=self.name,
            telemetry_interval_s=TELEMETRY_INTERVAL_S,
            start=False,
            capture=self.capture,
        )
        if config:
            self._configure(config)

    def _configure(self, config: Mapping[str, str | int]) -> None:
        with self._open() as link:
            content = link.read_file(CONFIG_FILE)
            if content is None:
                raise BoardProblem(f"{self.name} has no {CONFIG_FILE} after it was provisioned")
            link.push({CONFIG_FILE: json.dumps({**json.loads(content), **config}).encode()})

    def _open(self) -> SerialLink:
        return SerialLink.open(self.board.serial_url, capture=self.capture)

    @property
    def console(self) -> Console:
        """The console of the running application."""
        if self.listening is None:
            raise BoardProblem(f"{self.name} has not been started")
        return self.listening

    def close(self) -> None:
        """Give the port back and switch the board off."""
        if self.link is not None:
            self.link.close()
        self.board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def enrolments(self) -> list[Event]:
        """Return the times it got its first certificate, or one after it had lost all."""
        return self.console.events("enrolled")

    def renewals(self) -> list[Event]:
        """Return its changes to a fresh key and certificate."""
        return self.console.events("renewed")

    def acknowledged(self) -> list[tuple[str, int]]:
        """Return (boot_id, sequence number) of each call that its application saw acknowledged."""
        seen, boot_id = [], ""
        for event in self.console.events():
            if event.name == "boot":
                boot_id = event.fields.get("boot_id", "")
            elif event.name == "telemetry" and event.fields.get("status") == _ACCEPTED:
                seen.append((boot_id, int(event.fields["seq"])))
        return seen

    def row(self) -> BoardRow:
        """Describe the board as it is now, for people."""
        if self.listening is None:
            return BoardRow(self.name, self.board.serial_url, "provisioning", "", "", 0, 0)
        clock = self.console.events("clock")
        leaves = sorted(self.enrolments() + self.renewals(), key=lambda event: event.number)
        return BoardRow(
            name=self.name,
            serial=self.board.serial_url,
            state=_state(self.console),
            clock=f"signed ({clock[-1].fields.get('source')})" if clock else "not set",
            leaf=leaves[-1].fields.get("serial", "")[:12] if leaves else "",
            renewals=len(self.renewals()),
            calls=len(self.acknowledged()),
        )


def _state(console: Console) -> str:
    events = console.events()
    return _STATES.get(events[-1].name, events[-1].name) if events else "starting"
