"""labgrid's exporter with one more resource to export: simulated boards.

``python -m handfast.lab.labgrid.exporter`` takes the options of ``labgrid-exporter``. A board runs
while its place is acquired, from a blank flash chip, and ends with the exporter.
"""

from __future__ import annotations

from typing import Any

import attr
from labgrid.remote import exporter

from handfast.boards.builder import build_simulator
from handfast.lab.labgrid.resources import SimulatedBoard
from handfast.lab.labgrid.sim_bench import SimBenchServer


@attr.s(eq=False)
class SimulatedBoardExport(exporter.ResourceExport):
    """Exports ``SimulatedBoard`` as ``NetworkSimulatedBoard``."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        resource: Any = SimulatedBoard
        self.local = resource(target=None, name=None, **self.local_params)
        self.data["cls"] = "NetworkSimulatedBoard"
        self._server: SimBenchServer | None = None
        # Now, not when a place is acquired: the coordinator waits ten seconds for that.
        build_simulator(self.local.profile)

    def _get_params(self) -> dict[str, Any]:
        return {
            "host": self.host,
            "port": None if self._server is None else self._server.port,
            "control_port": None if self._server is None else self._server.control_port,
            "profile": self.local.profile,
        }

    def _start(self, _start_params: object) -> None:
        self._server = SimBenchServer(self.local.profile, self.local.hardware, self.local.listen)

    def _stop(self, _start_params: object) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None


def main() -> None:
    """Run the exporter."""
    exporter.exports["SimulatedBoard"] = SimulatedBoardExport
    exporter.main()


if __name__ == "__main__":
    main()
