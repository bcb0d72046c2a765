"""What every act of the demo needs to find out and to say whether a promise was kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from handfast.admin_client import AdminClient
from handfast.errors import CheckFailed
from handfast.lab.demo.fleet import DemoBoard


def expect(condition: bool, otherwise: str) -> None:
    """Fail the check, saying why, unless ``condition`` holds."""
    if not condition:
        raise CheckFailed(otherwise)


def how_many(boards: Sequence[DemoBoard]) -> str:
    """Return "1 board", "2 boards" and so on."""
    return "1 board" if len(boards) == 1 else f"{len(boards)} boards"


def all_telemetry(gateway: AdminClient, device_id: str) -> list[dict[str, Any]]:
    """Return every stored telemetry row of a device, page by page."""
    rows: list[dict[str, Any]] = []
    while page := gateway.telemetry(device_id, after=rows[-1]["id"] if rows else 0):
        rows += page
    return rows
