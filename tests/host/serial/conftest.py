"""A simulated board of one's own, and a link to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard("sim-pico-w", directory=tmp_path / "board") as board:
        board.power_on()
        yield board


@pytest.fixture
def link(board: SimulatedBoard) -> Iterator[SerialLink]:
    with SerialLink.open(board.serial_url) as link:
        yield link
