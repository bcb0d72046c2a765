"""Several boards of one test, and what is done to all of them at once."""

from __future__ import annotations

from collections.abc import Sequence

from handfast.lab.parallel import in_parallel
from handfast.lab.pytest_plugin.board import Board
from handfast.lab.pytest_plugin.device import Device
from handfast.lab.pytest_plugin.gateway import Gateway


class Boards(list[Board]):
    """The boards of a test, in a list.

    Args:
        boards: them.
        at_once: how many are provisioned at once.
    """

    def __init__(self, boards: Sequence[Board], at_once: int) -> None:
        super().__init__(boards)
        self._at_once = at_once

    def provision(self, gateway: Gateway, *, enrol: bool = True) -> list[Device]:
        """Provision them all, as :meth:`Board.provision`; returns the devices in their order."""
        return in_parallel(
            lambda board: board.provision(gateway, enrol=enrol), self, at_once=self._at_once
        )
