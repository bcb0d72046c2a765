"""labgrid's driver for a simulated board: here, or behind an exporter."""

from __future__ import annotations

import tempfile
from pathlib import Path

import attr
from labgrid.binding import StateError
from labgrid.driver.common import Driver
from labgrid.factory import target_factory
from labgrid.protocol import PowerProtocol, ResetProtocol
from labgrid.step import step
from labgrid.util.proxy import proxymanager

from handfast.lab.labgrid.resources import SimulatedBoard
from handfast.lab.labgrid.sim_bench import LocalBench, RemoteBench


@target_factory.reg_driver
@attr.s(eq=False)
class SimulatedBoardDriver(Driver, PowerProtocol, ResetProtocol):
    """A simulated board's power switch and reset button; ``url`` is its serial line.

    It is switched on when the driver is activated.
    """

    bindings = {"port": {"SimulatedBoard", "NetworkSimulatedBoard"}}  # noqa: RUF012

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._bench: LocalBench | RemoteBench | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def on_activate(self) -> None:
        """Start the board, or connect to where an exporter has started it."""
        if isinstance(self.port, SimulatedBoard):
            self._folder = tempfile.TemporaryDirectory(prefix="handfast-sim-")
            self._bench = LocalBench(self.port.profile, Path(self._folder.name), self.port.hardware)
            return
        host, port = proxymanager.get_host_and_port(self.port)
        where, control_port = proxymanager.get_host_and_port(
            self.port, force_port=self.port.control_port
        )
        self._bench = RemoteBench(f"socket://{host}:{port}", where, control_port)

    def on_deactivate(self) -> None:
        """End a board of our own; hang up on another's."""
        if self._bench is not None:
            self._bench.close()
            self._bench = None
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    @property
    def bench(self) -> LocalBench | RemoteBench:
        """The board's bench, while the driver is active."""
        if self._bench is None:
            raise StateError(f"{self.display_name} has not been activated")
        return self._bench

    @property
    def url(self) -> str:
        """The serial line's path or URL."""
        return self.bench.serial_url

    @Driver.check_active
    @step()
    def on(self) -> None:
        """Switch the power on."""
        self.bench.power_on()

    @Driver.check_active
    @step()
    def off(self) -> None:
        """Switch the power off."""
        self.bench.power_off()

    @Driver.check_active
    @step()
    def cycle(self) -> None:
        """Switch the power off and on again."""
        self.bench.power_cycle()

    @Driver.check_active
    def get(self) -> bool:
        """Say whether it has power."""
        return self.bench.is_on()

    @Driver.check_active
    @step()
    def reset(self) -> None:
        """Press the reset button."""
        self.bench.reset()
