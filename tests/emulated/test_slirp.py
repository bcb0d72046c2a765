"""The network behind a UART: a link that is negotiated by hand, and one packet that goes out."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from handfast.boards.ppp import IPCP, IPV4, LCP
from handfast.boards.ppp_frames import FrameReader, encode_frame
from handfast.boards.slirp import SlirpNetwork

DEADLINE_S = 20.0
REQUEST, ACK = 1, 2
BOARD, HOST = b"\x0a\x00\x02\x0f", b"\x0a\x00\x02\x02"


class Uart:
    """The board's end of the line."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        line.settimeout(DEADLINE_S)
        self._reader = FrameReader()
        self._arrived: list[tuple[int, bytes]] = []

    def hear(self) -> tuple[int, bytes]:
        while not self._arrived:
            octets = self.line.recv(4096)
            assert octets, "the line was hung up"
            self._arrived += self._reader.feed(octets)
        return self._arrived.pop(0)

    def say(self, protocol: int, code: int, identifier: int, data: bytes) -> None:
        packet = struct.pack("!BBH", code, identifier, 4 + len(data)) + data
        self.line.sendall(encode_frame(protocol, packet))

    def open(self, protocol: int, options: bytes) -> None:
        self.say(protocol, REQUEST, 1, options)
        answers = [self.hear(), self.hear()]
        assert answers[0] == (protocol, struct.pack("!BBH", ACK, 1, 4 + len(options)) + options)
        _, theirs = answers[1]
        assert theirs[0] == REQUEST
        self.say(protocol, ACK, theirs[1], theirs[4:])


@pytest.fixture
def uart() -> Iterator[Uart]:
    ours, far_end = socket.socketpair()
    network = SlirpNetwork(far_end)
    with ours:
        yield Uart(ours)
        network.close()


def checksum(octets: bytes) -> int:
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def syn(port: int) -> bytes:
    """Return the packet that opens a connection to the host (RFC 9293, RFC 791)."""
    tcp = struct.pack("!HHIIBBHHH", 4000, port, 1, 0, 0x50, 2, 4000, 0, 0)
    total = checksum(BOARD + HOST + struct.pack("!BBH", 0, 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, 6, 0) + BOARD + HOST
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + tcp


def test_a_connection_to_the_hosts_alias_reaches_its_loopback(uart: Uart) -> None:
    uart.open(LCP, b"\x02\x06\0\0\0\0")
    uart.open(IPCP, b"\x03\x06" + BOARD)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE_S)
        uart.line.sendall(encode_frame(IPV4, syn(listener.getsockname()[1])))
        connection, _ = listener.accept()
        connection.close()
        protocol, packet = uart.hear()
    assert (protocol, packet[12:16], packet[16:20]) == (IPV4, HOST, BOARD)
    assert packet[33] == 0x12  # SYN and ACK


def test_a_network_that_is_closed_hangs_up_and_leaves_no_process() -> None:
    ours, far_end = socket.socketpair()
    network = SlirpNetwork(far_end)
    process = network._process
    network.close()
    network.close()
    assert process.poll() is not None
    with ours:
        ours.settimeout(DEADLINE_S)
        assert ours.recv(1) == b""
