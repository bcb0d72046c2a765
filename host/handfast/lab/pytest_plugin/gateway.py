"""A gateway under test: the real one, in a process of its own, and what a test asks it."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from handfast.admin_client import AdminClient
from handfast.lab.gateway_process import BOARDS_URLS, GatewayProcess, as_boards_reach
from handfast.lab.pytest_plugin.device import Device
from handfast.lab.pytest_plugin.settings import WIFI_PASSWORD

if TYPE_CHECKING:
    from handfast.lab.pytest_plugin.secret import Secrets
    from handfast.state import StateDir

_POLL_S = 0.05
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Telemetry:
    """One report as the gateway stored it; ``received`` is in unix seconds."""

    number: int
    boot_id: str
    seq: int
    received: float
    values: Mapping[str, Any]


class _NotingClient(AdminClient):
    """Notes the one-time tokens that it hands out, so that no report shows them.

    Args:
        state: of the gateway.
        secrets: where they are noted.
        urls: what boards are told in place of the gateway's own (``api_url``, ...).
    """

    def __init__(self, state: StateDir, secrets: Secrets, urls: Mapping[str, str]) -> None:
        super().__init__(state)
        self._secrets = secrets
        self._told = urls

    def create_token(self, device_id: str, *, lifetime_s: int) -> dict[str, Any]:
        made = super().create_token(device_id, lifetime_s=lifetime_s)
        self._secrets.add(made["token"])
        return made

    def trust(self) -> dict[str, Any]:
        return {**super().trust(), **self._told}


class Gateway:
    """A running gateway.

    Args:
        process: it, started.
        state: its state folder.
        secrets: where its tokens are noted.
        urls: what boards are told in place of its own URLs: a network between them.
    """

    def __init__(
        self,
        process: GatewayProcess,
        state: StateDir,
        secrets: Secrets,
        urls: Mapping[str, str] | None = None,
    ) -> None:
        self.process = process
        self.state = state
        self._secrets = secrets
        if urls is None and process.boards_at:
            urls = {
                key: as_boards_reach(url, process.boards_at)
                for key, url in self.listeners().items()
            }
        self.admin: AdminClient = _NotingClient(state, secrets, urls or {})

    def listeners(self) -> dict[str, str]:
        """Return what boards find the gateway by, as this machine reaches it (``api_url``, ...)."""
        trust = AdminClient(self.state).trust()
        return {key: trust[key] for key in BOARDS_URLS}

    def through(self, urls: Mapping[str, str]) -> Gateway:
        """Return the same gateway as boards find it under other URLs."""
        return Gateway(self.process, self.state, self._secrets, urls)

    @property
    def urls(self) -> Mapping[str, str]:
        """Its listeners' own URLs: ``api``, ``enrol``, ``public``."""
        return self.process.urls

    @property
    def networks(self) -> dict[str, str] | None:
        """The Wi-Fi network that boards with a radio join, from the environment."""
        ssid = os.environ.get("HANDFAST_WIFI_SSID")
        return {ssid: os.environ.get(WIFI_PASSWORD, "")} if ssid else None

    def fresh_name(self, board: str) -> str:
        """Return a device id that no other test uses."""
        stem = re.sub(r"[^a-z0-9._-]+", "-", board.lower()).strip("-._")[:40] or "board"
        return f"{stem}-{os.getpid()}-{next(_numbers)}"

    # What a test asks

    def telemetry(self, device: Device) -> list[Telemetry]:
        """Return all that the device has reported, oldest first."""
        return self._rows(device, 0)

    def wait_for_telemetry(self, device: Device, timeout_s: float = 10.0) -> Telemetry | None:
        """Return the device's next report that no call has returned yet; None if none comes."""
        give_up = time.monotonic() + timeout_s
        while not (rows := self._rows(device, device.after)):
            if time.monotonic() > give_up:
                return None
            time.sleep(_POLL_S)
        device.after = rows[0].number
        return rows[0]

    def forget_telemetry(self, device: Device) -> None:
        """Let only what arrives from now on count as new."""
        while rows := self._rows(device, device.after):
            device.after = rows[-1].number

    def has_enrolled(self, device: Device) -> bool:
        """Say whether the device was given an operational certificate."""
        rows = self.admin.device(device.device_id)["certificates"]
        return any(row["kind"] == "ldevid" for row in rows)

    def revoke(self, device: Device) -> None:
        """Refuse the device for good."""
        self.admin.revoke(device.device_id)

    def suspend(self, device: Device) -> None:
        """Refuse the device until it is resumed."""
        self.admin.suspend(device.device_id)

    def resume(self, device: Device) -> None:
        """End a suspension."""
        self.admin.resume(device.device_id)

    def _rows(self, device: Device, after: int) -> list[Telemetry]:
        return [
            Telemetry(row["id"], row["boot_id"], row["seq"], row["received"], row["values"])
            for row in self.admin.telemetry(device.device_id, after=after)
        ]
