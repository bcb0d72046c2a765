"""Registers a board at the gateway, or finds it there: one device, one piece of hardware."""

from __future__ import annotations

from typing import Any

from handfast.admin_client import AdminClient, AdminRefused
from handfast.errors import Refused


def register(gateway: AdminClient, device_id: str, hardware_id: str | None) -> dict[str, Any]:
    """Add the device at the gateway, or find it there; returns its record.

    Args:
        gateway: a client of its admin interface.
        device_id: the device's name.
        hardware_id: the hardware's own id; None where nobody knows it, which fits any device.

    Raises:
        Refused: the device is suspended or revoked, or is other hardware.
    """
    try:
        gateway.add_device(device_id, hardware_id=hardware_id)
    except AdminRefused as error:
        if error.slug != "already-exists":
            raise
    device = gateway.device(device_id)
    if device["state"] != "active":
        remedy = (
            f"resume it with `handfast device resume {device_id}`"
            if device["state"] == "suspended"
            else "give the board another name with --device-id"
        )
        raise Refused(f"{device_id} is {device['state']} at the gateway: {remedy}")
    if hardware_id is None or device["hardware_id"] == hardware_id:
        return device
    if device["hardware_id"] is not None:
        raise Refused(
            f"{device_id} is another board (hardware id {device['hardware_id']}, this one is "
            f"{hardware_id}): choose another --device-id, or revoke that device"
        )
    return gateway.bind_hardware(device_id, hardware_id)
