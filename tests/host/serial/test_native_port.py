"""A port that goes away with the board, as native USB does, and is another device afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import serial
from cable import CutCable, NativePort

from handfast.boards import serial_link
from handfast.boards.serial_link import SerialLink
from handfast.boards.serial_port import Unplugged
from handfast.boards.simulator import SimulatedBoard
from handfast.errors import BoardProblem

ENOUGH_S = 60.0
TICKS = b"import time\nn = 0\nwhile True:\n n += 1\n print('tick', n)\n time.sleep_ms(20)\n"


@pytest.fixture
def port(board: SimulatedBoard, tmp_path: Path) -> Iterator[NativePort]:
    with NativePort(board.serial_url, tmp_path / "usb-pico") as port:
        yield port


def test_the_link_goes_on_after_a_reset_that_took_the_port_away(
    board: SimulatedBoard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_link, "_RESET_S", ENOUGH_S)  # it ends with the port
    path = tmp_path / "usb-pico"
    with (
        NativePort(board.serial_url, path, leaves_after=b"machine.reset()\x04") as port,
        SerialLink.open(port.url) as link,
    ):
        link.exec("left_over = 1")
        back = threading.Thread(target=port.come_back)
        back.start()
        link.hard_reset(timeout_s=ENOUGH_S)
        back.join()
        assert port.came == 2
        assert link.exec("print('left_over' in dir())") == "False\n"


def test_a_link_says_that_its_line_is_gone_and_can_have_it_again(port: NativePort) -> None:
    with SerialLink.open(port.url) as link:
        assert link.exec("print(1)") == "1\n"
        assert not link.is_gone
        port.unplug()
        assert link.is_gone
        with pytest.raises(Unplugged):
            link.exec("print(1)")
        with pytest.raises(BoardProblem, match="there is no board at"):
            link.reopen(0.2)
        assert link.is_gone
        with pytest.raises(Unplugged):  # and not from another file that has got its number
            link.exec("print(1)")
        port.plug()
        link.reopen(0)
        assert not link.is_gone
        assert link.exec("print(2)") == "2\n"


def test_a_port_that_another_program_looks_at_first_is_waited_for(
    board: SimulatedBoard, port: NativePort
) -> None:
    """As ModemManager does when a port appears, and udev with its permissions."""
    with SerialLink.open(port.url) as link:
        port.unplug()
        with CutCable(board.serial_url) as cable:
            other = serial.Serial(cable.url, exclusive=True)
            Path(port.url).symlink_to(cable.url)
            timer = threading.Timer(1.5, other.close)  # longer than opening itself is patient
            timer.start()
            link.reopen(ENOUGH_S)
            timer.join()
            assert link.exec("print(1)") == "1\n"
            Path(port.url).unlink()


def test_a_port_that_has_another_name_afterwards_is_looked_for(
    board: SimulatedBoard, tmp_path: Path
) -> None:
    ports = [tmp_path / "ttyACM0", tmp_path / "ttyACM1"]
    with NativePort(board.serial_url, ports[0]) as first:
        now = iter(ports)
        link = SerialLink.open(lambda: str(next(now)))
        assert link.url == first.url
        first.unplug()
    with NativePort(board.serial_url, ports[1]), link:
        link.reopen(ENOUGH_S)
        assert link.url == str(ports[1])
        assert link.exec("print(1)") == "1\n"


def test_a_console_goes_on_when_the_port_is_back(port: NativePort) -> None:
    with SerialLink.open(port.url) as link:
        link.push({"/main.py": b"print('begun', end='')\nimport time\ntime.sleep(1)\n" + TICKS})
        with link.start_application(back_within_s=ENOUGH_S) as console:
            first = console.wait_for("tick 1$", ENOUGH_S)
            port.unplug()
            port.plug()
            later = console.wait_for("tick", ENOUGH_S, after=console.last_number + 1)
            assert later.number > first.number
        assert link.exec("print(1)") == "1\n"


def test_what_a_board_had_begun_to_print_when_its_port_went_is_a_line(port: NativePort) -> None:
    with SerialLink.open(port.url) as link:
        link.push({"/main.py": b"print('half a', end='')\nimport time\ntime.sleep(1000)\n"})
        with link.start_application(back_within_s=ENOUGH_S) as console:
            give_up = time.monotonic() + ENOUGH_S
            while "half a" not in console.text and time.monotonic() < give_up:
                time.sleep(0.01)
            port.unplug()
            assert console.wait_for("half a", ENOUGH_S).text == "half a"


def test_a_console_that_is_closed_does_not_wait_for_the_port(port: NativePort) -> None:
    with SerialLink.open(port.url) as link:
        console = link.console(back_within_s=1e6)
        port.unplug()
        console.close()
        assert not console.reading
        assert link.is_gone


def test_a_console_that_waits_in_vain_says_that_the_port_is_gone(port: NativePort) -> None:
    with SerialLink.open(port.url) as link, link.console(back_within_s=0.2) as console:
        port.unplug()
        with pytest.raises(BoardProblem, match="there is no board at"):
            console.wait_for("tick", ENOUGH_S)
