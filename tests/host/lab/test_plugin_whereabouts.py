"""Boards with stable names: found wherever they are, and never two workers on one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from handfast.boards import local_ports as local_ports_module
from handfast.boards.definition import FOLDERS_VARIABLE, load_boards
from handfast.boards.discovery import Port, scan
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem
from handfast.lab.pytest_plugin.pool import Pool
from handfast.lab.pytest_plugin.selection import Candidate
from handfast.lab.pytest_plugin.whereabouts import Whereabouts, is_stable_name
from handfast.resources import boards_dir

IDS = (0x2E8A, 0x0005)
SOCKETS = ("1-1.1", "1-1.2")


class Hub:
    """Two boards behind bridges whose serial numbers say nothing, and the numbers of their ports.

    Their definition is a board's of one's own, with USB ids, whose MicroPython is a simulated
    board's.
    """

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._lines = []
        for number in range(2):
            board = SimulatedBoard("sim-pico-w", directory=folder / f"board-{number}")
            stack.enter_context(board).power_on()
            self._lines.append(board.serial_url)
        self.listed = [0, 1]
        self.number(0, 1)
        self.names = [one.name or "" for one in scan(self.ports(), load_boards())]

    def number(self, *order: int) -> None:
        """Give the boards' ports these numbers."""
        self._order = order
        for number in range(2):
            self._device(number).unlink(missing_ok=True)
        for line, number in zip(self._lines, order, strict=True):
            self._device(number).symlink_to(line)

    def _device(self, number: int) -> Path:
        return self._folder / f"ttyUSB{number}"

    def url(self, board: int) -> str:
        return str(self._device(self._order[board]))

    def ports(self) -> list[Port]:
        return [Port(self.url(board), IDS, "0001", SOCKETS[board]) for board in self.listed]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv(FOLDERS_VARIABLE, str(tmp_path / "boards"))
    text = (boards_dir() / "pico-w/board.toml").read_text()
    for key, value in {"name": "desk-pico", "build": "sim-pico-w"}.items():
        text = re.sub(rf'(?m)^{key} = ".*"', f'{key} = "{value}"', text, count=1)
    (tmp_path / "boards/desk-pico").mkdir(parents=True)
    (tmp_path / "boards/desk-pico/board.toml").write_text(text)
    (tmp_path / "leases").mkdir()
    with ExitStack() as stack:
        hub = Hub(tmp_path, stack)
        monkeypatch.setattr(local_ports_module, "local_ports", hub.ports)
        yield hub


def finder(hub: Hub, folder: Path, board: int, run: str = "1") -> Whereabouts:
    return Whereabouts(hub.names[board], folder / "leases", run, hub.ports)


def test_what_is_a_stable_name() -> None:
    assert is_stable_name("pico-w@E6614C311B7E6F35")
    assert not is_stable_name("/dev/ttyACM0")
    assert not is_stable_name("rfc2217://user@host:4000")
    assert not is_stable_name("left")


def test_boards_behind_bridges_are_asked_once_in_a_run_and_then_followed(
    hub: Hub, tmp_path: Path
) -> None:
    assert len(set(hub.names)) == 2
    one = finder(hub, tmp_path, 0)
    assert one.url() == hub.url(0)
    with ExitStack() as stack:  # whoever is asked now is busy
        for board in range(2):
            stack.enter_context(SerialLink.open(hub.url(board)))
        hub.number(1, 0)
        assert one.url() == hub.url(0)
        other = finder(hub, tmp_path, 1)  # as another worker has it, for the other board
        assert other.url() == hub.url(1)
        hub.listed = [1]
        with pytest.raises(BoardProblem, match=f"{hub.names[0]} is not where it was"):
            one.url()
        hub.listed = [0, 1]
        with pytest.raises(BoardProblem, match=f"no board {hub.names[0]}: .*busy at"):
            finder(hub, tmp_path, 0, run="2").url()
    assert finder(hub, tmp_path, 0, run="2").url() == hub.url(0)


def test_a_board_with_usb_of_its_own_is_not_asked_nor_others_while_it_is_away(
    tmp_path: Path,
) -> None:
    first = Port("/dev/nowhere1", IDS, "E6:61", "1-2:1.0")
    second = Port("/dev/nowhere0", IDS, "E6:61", "1-2:1.2")  # the other line of the same board
    ports = [second, first]
    native = Whereabouts("pico-w@E661", tmp_path, "1", lambda: ports)
    assert native.url() == "/dev/nowhere1"
    ports = [Port("/dev/nowhere0", IDS, "FFFF", "1-3")]
    with pytest.raises(BoardProblem, match="pico-w@E661 is not where it was"):
        native.url()
    ports = [Port("/dev/nowhere7", IDS, "E6:61", "1-4")]  # it may come back anywhere
    assert native.url() == "/dev/nowhere7"


def test_a_board_of_another_kind_is_not_asked(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(BoardProblem, match="no board esp32@FF: plug it in; found: no board"):
        Whereabouts("esp32@FF", tmp_path / "leases", "1", hub.ports).url()


def pool(hub: Hub, folder: Path) -> Pool:
    boards = [
        Candidate(f"board-{number}", frozenset(), url=name, board="desk-pico")
        for number, name in enumerate(hub.names)
    ]
    return Pool(boards, folder / "leases", folder / "pool", None, 1, run="1")


def test_ports_that_are_numbered_anew_give_two_workers_no_board_in_common(
    hub: Hub, tmp_path: Path
) -> None:
    workers = [pool(hub, tmp_path) for _ in range(2)]
    (first,) = workers[0].lease([])
    assert first.serial_url == hub.url(0)
    first.exec("mine = 1")
    hub.number(1, 0)
    (second,) = workers[1].lease([])
    assert second.name == "board-1"
    assert second.serial_url == hub.url(1)
    assert second.exec("print('mine' in dir())") == "False\n"
    assert first.exec("print(mine)") == "1\n"  # over the line that it had
    first.rest()
    assert first.exec("print('mine' in dir())") == "False\n"  # and over a new one, restarted
    assert first.serial_url == hub.url(0)
    for worker, board in zip(workers, (first, second), strict=True):
        worker.give_back(board)
        worker.close()


def test_a_board_that_is_nowhere_is_left_out_and_said(hub: Hub, tmp_path: Path) -> None:
    hub.listed = [1]
    worker = pool(hub, tmp_path)
    (leased,) = worker.lease([])
    assert leased.name == "board-1"
    assert f"there is no board {hub.names[0]}: plug it in" in worker.quarantined["board-0"]
    worker.give_back(leased)
    worker.close()
