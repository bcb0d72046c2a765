"""What is between a board and its gateway: relays in this process, one for each listener."""

from __future__ import annotations

from contextlib import ExitStack

from handfast.lab.pytest_plugin.gateway import Gateway
from handfast.lab.relay import Relay
from handfast.lab.tls_records import APPLICATION_DATA

_LISTENERS = {"api": "api_url", "enrol": "enrol_url", "public": "tsa_url"}


class Network:
    """A cable to a gateway that can be slowed, cut and mended.

    Args:
        host: the address that boards reach it at.
        stack: ends the relays with the test.
    """

    def __init__(self, host: str, stack: ExitStack) -> None:
        self._host = host
        self._stack = stack
        self.relays: dict[str, Relay] = {}

    def route(self, gateway: Gateway) -> Gateway:
        """Return the gateway as boards find it behind this network; for ``board.provision``.

        Its relays are then in ``relays``: ``api``, ``enrol`` and ``public`` (the clock).
        """
        targets = gateway.listeners()
        for listener, key in _LISTENERS.items():
            relay = Relay(targets[key], host=self._host, named=gateway.process.boards_at)
            self.relays[listener] = self._stack.enter_context(relay)
        return gateway.through({key: self.relays[name].url for name, key in _LISTENERS.items()})

    @property
    def connections(self) -> int:
        """How many connections were taken on so far."""
        return sum(relay.connections for relay in self.relays.values())

    def shape(self, *, latency_s: float = 0.0, bytes_per_s: float = float("inf")) -> None:
        """Carry everything that late in each direction, and that much at most."""
        for relay in self.relays.values():
            relay.shape(latency_s=latency_s, bytes_per_s=bytes_per_s)

    def cut(self) -> None:
        """Reset every open connection, and each one that comes."""
        for relay in self.relays.values():
            relay.cut()

    def reset(self) -> None:
        """Reset every open connection; those that come are carried."""
        for relay in self.relays.values():
            relay.reset()

    def lose(self) -> None:
        """Lose every open connection, and tell neither end; those that come are carried."""
        for relay in self.relays.values():
            relay.lose()

    def blackhole(self) -> None:
        """Take every connection, and answer none."""
        for relay in self.relays.values():
            relay.blackhole()

    def truncate_record(self, kind: int = APPLICATION_DATA) -> None:
        """Cut the API's next TLS record of that type in half, and end its connection."""
        self.relays["api"].truncate_record(kind)

    def mend(self) -> None:
        """Carry everything as a cable does; connections that were lost stay so."""
        for relay in self.relays.values():
            relay.mend()
