"""The network behind a UART: a model of a board dials, and fetches from a server on loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from handfast.boards.board_uart import BoardUart
from handfast.boards.slirp import HOST_ADDRESS
from ppp_client_model import DEADLINE_S, DialledLine


@contextmanager
def boards_end(*, network: bool = True) -> Iterator[tuple[BoardUart, socket.socket]]:
    """A UART, and its board's end as the board's process would have inherited it."""
    uart = BoardUart(network=network)
    try:
        with socket.socket(fileno=os.dup(uart.fileno())) as line:
            line.settimeout(DEADLINE_S)
            yield uart, line
    finally:
        uart.close()


def test_the_hosts_alias_leads_to_its_loopback(served: tuple[int, bytes]) -> None:
    port, content = served
    with boards_end() as (uart, line):
        board = DialledLine(line)
        board.dial()
        assert board.get(HOST_ADDRESS, port) == content
        assert uart.network is not None
        assert uart.network.bring_ups == 1


def test_a_network_that_is_closed_hangs_up_and_leaves_no_process() -> None:
    with boards_end() as (uart, line):
        assert uart.network is not None
        process = uart.network._process
        uart.close()
        uart.close()
        assert process.poll() is not None
        assert line.recv(1) == b""


def test_a_uart_without_a_network_takes_what_the_board_sends() -> None:
    with boards_end(network=False) as (uart, line):
        assert uart.network is None
        line.sendall(b"to nobody")
