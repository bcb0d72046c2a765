"""What an ESP32 in QEMU dials by, on MicroPython, with models of its UART and of PPP."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from esp32_qemu_support import NETWORK_MODEL, UPLINK

from handfast.boards.device_error import DeviceError
from handfast.boards.serial_link import SerialLink
from handfast.boards.simulator import SimulatedBoard
from handfast.resources import firmware_dir
from tests.upstream.run import dial

PATIENCE_S = 20.0
HOWTO = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "esp32-qemu.md"

# Links that lwIP has given up or that stay silent, by `plan`, one a dialling; the rest come up when
# they are polled for the third time.
PREPARE = """
import sys, esp32_network_model as model
sys.modules["network"] = sys.modules["machine"] = model
plan = []
links = []
class Link:
    error = 0
    is_up = False
    settings = ("10.0.2.15", "10.0.2.2", "255.255.255.255", "10.0.2.3")
    def __init__(self):
        self.dialled = self.polled = self.closed = 0
        links.append(self)
        self.plan = plan.pop(0) if plan else "up"
    def connect(self):
        self.dialled += 1
    def poll(self):
        self.polled += 1
        if self.polled == 3 and self.plan != "silent":
            self.error = 6 if self.plan == "fails" else 0
            self.is_up = not self.error
    def close(self):
        self.closed += 1
model.links[1] = Link
"""


@pytest.fixture
def board(tmp_path: Path) -> Iterator[SimulatedBoard]:
    with SimulatedBoard("sim-esp32", directory=tmp_path / "board") as board:
        board.power_on()
        yield board


@pytest.fixture
def link(board: SimulatedBoard) -> Iterator[SerialLink]:
    with SerialLink.open(board.serial_url) as link:
        models = {f"/lib/{path.name}": path.read_bytes() for path in (UPLINK, NETWORK_MODEL)}
        link.push(models)
        link.exec(PREPARE)
        link.exec("import uplink")
        yield link


def test_it_dials_by_uart1_off_the_pins_of_the_flash_chip(link: SerialLink) -> None:
    assert link.exec("print(uplink.ready(), uplink.up()[0], uplink.ready())") == (
        "False 10.0.2.15 True\n"
    )
    assert link.exec("line = model.PPP.made[0].stream\nprint(line.number, line.settings)") == (
        "1 (921600, 4096, 4096)\n"
    )
    assert link.exec("print(len(links), uplink.up()[0])") == "1 10.0.2.15\n"


def test_a_link_that_failed_is_dialled_anew(link: SerialLink) -> None:
    link.exec("plan[:] = ['fails', 'fails']\nuplink.up()")
    told = link.exec("print([(one.dialled, one.closed) for one in links])")
    assert told == "[(1, 1), (1, 1), (1, 0)]\n"


def test_a_silent_line_is_a_timeout_and_nothing_is_dialled_twice(link: SerialLink) -> None:
    link.exec("plan[:] = ['silent']")
    with pytest.raises(DeviceError, match="ETIMEDOUT"):
        link.exec("uplink.up(200)")
    assert link.exec("print(len(links), links[0].dialled)") == "1 1\n"


def test_hanging_up_lets_go_of_the_line(link: SerialLink) -> None:
    link.exec("uplink.up()\nuplink.stop()\nuplink.stop()")
    assert link.exec("print(uplink.ready(), links[0].closed)") == "False 1\n"
    assert link.exec("print(model.PPP.made[0].stream.handler)") == "None\n"


def test_make_test_upstream_has_a_board_dial_that_has_no_module_for_it(link: SerialLink) -> None:
    link.exec("import os\nos.remove('/lib/uplink.py')\ndel sys.modules['uplink'], uplink")
    dial(link)
    assert link.exec("import uplink\nprint(uplink.ready(), len(links))") == "True 1\n"


def shown(beginning: str) -> str:
    """Return the how-to's Python block that begins so."""
    blocks = re.findall(r"```python\n(.*?)```", HOWTO.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if block.startswith(beginning)]
    return found


def test_what_the_how_to_adds_to_boot_py_dials_at_each_start(
    board: SimulatedBoard, link: SerialLink
) -> None:
    boot = (firmware_dir() / "app" / "boot.py").read_text()
    added = shown("import uplink\n\nuplink.start()")
    link.push(
        {"/boot.py": f"{boot}\n{PREPARE}\n{added}".encode(), "/main.py": b"print('in main.py')"}
    )
    for restart in (lambda: link.soft_reset(run_main=True), board.reset, board.power_cycle):
        restart()
        wait_for_main(link)
        told = link.exec(
            "import uplink\nprint(links[0].dialled, uplink.ready(), uplink.up()[0], len(links))"
        )
        assert told == "1 False 10.0.2.15 1\n"


def wait_for_main(link: SerialLink) -> None:
    """Wait until boot.py is over: a command interrupts it."""
    printed = ""
    give_up = time.monotonic() + PATIENCE_S
    while "in main.py" not in printed:
        assert time.monotonic() < give_up, printed
        printed += link.read_console(1.0)
