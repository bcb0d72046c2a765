"""labgrid resources of boards, and the URL that a serial line has for the rest of handfast."""

from __future__ import annotations

from typing import Any

import attr
from labgrid.factory import target_factory
from labgrid.resource.common import NetworkResource, Resource
from labgrid.util.proxy import proxymanager

LOOPBACK = "127.0.0.1"


@target_factory.reg_resource
@attr.s(eq=False)
class SimulatedBoard(Resource):
    """A simulated board on the machine that uses or exports it.

    Args:
        profile (str): its definition, such as ``sim-pico-w``
        hardware (str): what its hardware id comes from
        listen (str): for an exporter, the address that its line and its bench listen at
    """

    profile: str = attr.ib(default="sim-pico-w", validator=attr.validators.instance_of(str))
    hardware: str = attr.ib(default="sim", validator=attr.validators.instance_of(str))
    listen: str = attr.ib(default=LOOPBACK, validator=attr.validators.instance_of(str))


@target_factory.reg_resource
@attr.s(eq=False)
class NetworkSimulatedBoard(NetworkResource):
    """A simulated board that an exporter runs while its place is acquired.

    Args:
        port (int): the serial line's TCP port
        control_port (int): the TCP port of its power switch and its reset button
        profile (str): its definition
    """

    port: int | None = attr.ib(validator=attr.validators.optional(attr.validators.instance_of(int)))
    control_port: int | None = attr.ib(
        validator=attr.validators.optional(attr.validators.instance_of(int))
    )
    profile: str = attr.ib(default="sim-pico-w", validator=attr.validators.instance_of(str))


def serial_url(port: Any) -> str:
    """Return a serial resource's path or URL, as :meth:`SerialLink.open` takes it.

    A tunnel is made where the exporter is isolated or ``LG_PROXY`` is set, as for labgrid's own
    drivers.
    """
    protocol = getattr(port, "protocol", None)
    if protocol is None:
        return str(port.port)
    host, number = proxymanager.get_host_and_port(port)
    if protocol != "rfc2217":
        return f"socket://{host}:{number}"
    # As labgrid has it: not every server answers a change of DTR or RTS; it is sent all the same.
    return f"rfc2217://{host}:{number}?ign_set_control"
