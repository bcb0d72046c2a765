"""MicroPython's own TLS, asyncio and socket tests, on boards (`make test-upstream` runs all)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from handfast.boards.definition import board_files, load_board
from handfast.boards.esp32_qemu import BOARD as ESP32_QEMU
from handfast.boards.esp32_qemu import find_emulator, find_network
from handfast.boards.rp2040_build import BOARD as RP2040
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.boards.virtual import boards_at, pace
from handfast.lab.pytest_plugin.board import Board
from handfast.lab.pytest_plugin.lab import Lab
from handfast.lab.pytest_plugin.power import VirtualBench
from handfast.lab.pytest_plugin.secret import Secrets
from handfast.lab.pytest_plugin.selection import candidates
from handfast.lab.pytest_plugin.settings import WIFI_PASSWORD, read_settings
from tests.upstream.expected import entry_for, problem, read_expected, read_timed
from tests.upstream.local_net import local_net
from tests.upstream.run import dial, join, prepare, run_multi, run_single, wait_for_uplink
from tests.upstream.small import SMALL
from tests.upstream.targets import Target, asked_for, simulated_targets
from tests.upstream.tree import UpstreamTest, UpstreamTree
from tests.upstream.verdict import Verdict

_TRIES = 5


@dataclass(frozen=True, slots=True)
class Case:
    """One of the tests on one of the boards."""

    target: Target
    test: str

    def __str__(self) -> str:
        return f"{self.target}-{self.test}"


def cases() -> list[Case]:
    """Return the small part, by names that need no source package yet, or what is asked for."""
    asked = asked_for()
    if asked is None:
        return [Case(target, name) for target in simulated_targets() for name in SMALL]
    return [
        Case(target, test.name)
        for target in asked
        for test in UpstreamTree.unpacked(target.version).tests()
    ]


class Labs:
    """The boards of a run, by name; each name is looked up as ``--handfast-board`` does it."""

    def __init__(self, config: pytest.Config, folder: Path, stack: ExitStack) -> None:
        self._config = config
        self._folder = folder
        self._stack = stack
        self._labs: dict[str, Lab] = {}

    def __call__(self, board: str) -> Lab:
        if board not in self._labs:
            settings = replace(read_settings(self._config), board=board)
            found = partial(candidates, board, settings.bench)
            lab = Lab(settings, self._folder / board, Secrets(), found)
            self._stack.callback(lab.close)
            self._labs[board] = lab
        return self._labs[board]


@pytest.fixture(scope="session")
def labs(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Labs]:
    with ExitStack() as stack:
        yield Labs(pytestconfig, tmp_path_factory.mktemp("upstream"), stack)


def serial_lines(lab: Lab, number: int, folder: Path, stack: ExitStack) -> list[str]:
    """Return the serial lines of fresh boards, a server's first and the board in question last.

    Simulated boards have the host's network, so that one can serve another. An emulated or a real
    board may only be able to ask: then a simulated one on this machine serves it.
    """
    leased = lab.pool.lease([], 1)
    if number > 1 and serves(leased[0]):
        leased += lab.pool.lease([], number - 1)
    for board in leased:
        stack.callback(lab.pool.give_back, board)
    lines = [board.serial_url for board in leased]
    for extra in range(number - len(leased)):
        server = stack.enter_context(SimulatedBoard(directory=folder / f"server-{extra}"))
        server.power_on()
        lines.insert(0, server.serial_url)
    return lines


def address(board: str) -> str:
    """Return this machine's address in an emulated board's network; "" for any other board."""
    return boards_at(board) if board in board_files() else ""


def wifi() -> tuple[str, str]:
    """Return the network that boards with a radio join, as elsewhere in the suite."""
    return os.environ.get("HANDFAST_WIFI_SSID", ""), os.environ.get(WIFI_PASSWORD, "")


def serves(board: Board) -> bool:
    """Say whether others reach the board: it has the host's network."""
    return isinstance(board.bench, VirtualBench) and board.bench.definition.kind == "simulated"


def run(case: Case, test: UpstreamTest, lab: Lab, folder: Path) -> Verdict:
    with ExitStack() as stack:
        urls = serial_lines(lab, test.instances or 1, folder, stack)
        links = [stack.enter_context(SerialLink.open(url)) for url in urls]
        for link in links:
            prepare(link, test, now=time.time())
        ethernet, times = None, 1
        if case.target.board in board_files():
            ethernet, times = load_board(case.target.board).ethernet, pace(case.target.board)
        if case.target.board == RP2040:
            wait_for_uplink(links[-1])
        elif case.target.board == ESP32_QEMU and find_network(find_emulator()) == "ppp":
            dial(links[-1])
        else:
            join(links[-1], ethernet, wifi())
        net = stack.enter_context(local_net(address(case.target.board) or lab.host))
        if test.instances:
            tree = UpstreamTree.unpacked(case.target.version)
            return run_multi(links, test, tree, net, pace=times)
        return run_single(links[0], test, net, pace=times)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_upstream(case: Case, labs: Labs, tmp_path: Path) -> None:
    test = UpstreamTree.unpacked(case.target.version).test(case.test)
    target = case.target
    entry = entry_for(read_expected(), case.test, target.listed_as, target.version)
    if entry is not None and entry.outcome == "not-run":
        pytest.xfail(f"not run: {entry.reason}")
    for number in range(_TRIES if case.test in read_timed() else 1):
        verdict = run(case, test, labs(target.board), tmp_path / str(number))
        if not problem(verdict, entry):
            break
    assert not (wrong := problem(verdict, entry)), wrong
    if entry is not None:
        pytest.xfail(entry.reason)
