"""A board as a gateway knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Device:
    """One device of one gateway; ``after`` is the last telemetry that the test has been given."""

    device_id: str
    after: int = 0

    def __str__(self) -> str:
        return self.device_id
