"""A gateway process and simulated boards to provision for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.lab.gateway_process import GatewayOptions, GatewayProcess
from handfast.pki.authorities import create_authorities
from handfast.state import StateDir

PASSPHRASE = b"correct horse battery staple"
_OPTIONS = GatewayOptions(names=("127.0.0.1",))


@contextmanager
def running_gateway(
    root: Path, options: GatewayOptions = _OPTIONS
) -> Iterator[tuple[StateDir, GatewayProcess]]:
    """A gateway with CAs of its own below ``root``, stopped at the end."""
    state = StateDir(root)
    state.create()
    create_authorities(state, PASSPHRASE)
    with GatewayProcess(state, PASSPHRASE, options) as gateway:
        yield state, gateway


def fit_radio(board: SimulatedBoard) -> None:
    """Give a board that has no radio what looks like one to its programs."""
    model = Path(__file__).with_name("network_model.py").read_bytes()
    with SerialLink.open(board.serial_url) as link:
        link.push({"/network.py": model})


@contextmanager
def running_board(
    folder: Path, profile: str = "sim-pico-w", *, micropython: str | None = None
) -> Iterator[SimulatedBoard]:
    """A blank board that is switched on."""
    with SimulatedBoard(profile, directory=folder, micropython=micropython) as board:
        board.power_on()
        yield board


@contextmanager
def answers_end_with_the_power(board: SimulatedBoard, link: SerialLink) -> Iterator[None]:
    """Nobody waits for the answer of a board whose power failed."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            if board.power_was_cut:
                link.abandon()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
