"""The network behind a UART: a model of a board dials, and fetches from a server on loopback."""

from __future__ import annotations

import os
import socket

from handfast.boards.board_uart import BoardUart
from handfast.boards.slirp import HOST_ADDRESS
from ppp_client_model import DEADLINE_S, DialledLine


def test_the_hosts_alias_leads_to_its_loopback(served: tuple[int, bytes]) -> None:
    port, content = served
    uart = BoardUart()
    with socket.socket(fileno=os.dup(uart.fileno())) as line:
        board = DialledLine(line)
        board.dial()
        assert board.get(HOST_ADDRESS, port) == content
        uart.close()


def test_a_network_that_is_closed_hangs_up_and_leaves_no_process() -> None:
    uart = BoardUart()
    assert uart.network is not None
    process = uart.network._process
    with socket.socket(fileno=os.dup(uart.fileno())) as line:
        uart.close()
        uart.close()
        assert process.poll() is not None
        line.settimeout(DEADLINE_S)
        assert line.recv(1) == b""


def test_a_uart_without_a_network_takes_what_the_board_sends() -> None:
    uart = BoardUart(network=False)
    assert uart.network is None
    with socket.socket(fileno=os.dup(uart.fileno())) as line:
        line.sendall(b"to nobody")
        uart.close()
