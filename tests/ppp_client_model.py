"""A model of what lwIP does on a board: PPP's dialling end, IPv4, and TCP as a client.

LCP (RFC 1661), IPCP (RFC 1332), TCP (RFC 9293) as far as a sound line takes them: nothing is lost
on it, so nothing is sent again.
"""

from __future__ import annotations

import itertools
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from handfast.boards.ppp import IPCP, IPV4, LCP
from handfast.boards.ppp_frames import FrameReader, encode_frame

DEADLINE_S = 20.0
_REQUEST, _ACK, _NAK = 1, 2, 3
_ADDRESS = 3  # an option of IPCP's
_FIN, _SYN, _PSH, _TCP_ACK = 1, 2, 8, 16
_TCP = 6
_WINDOW = 4000
_ports = itertools.count(4000)  # who reuses one too early is taken for the connection before


class PppClientModel:
    """One end of a link, without input or output; ``send`` gets what goes onto the line."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self.address = bytes(4)
        self.packets: deque[bytes] = deque()
        self._send = send
        self._reader = FrameReader()
        self._wanted = {LCP: b"\x02\x06\0\0\0\0", IPCP: b""}  # no control character is escaped
        self._identifier = 0
        self._agreed: set[tuple[int, str]] = set()

    @property
    def is_up(self) -> bool:
        return {(IPCP, "ours"), (IPCP, "theirs")} <= self._agreed

    def connect(self) -> None:
        self._ask(LCP)

    def receive(self, octets: bytes) -> None:
        for protocol, packet in self._reader.feed(octets):
            if protocol == IPV4:
                self.packets.append(packet)
            elif protocol in self._wanted:
                self._control(protocol, packet)

    def send_packet(self, packet: bytes) -> None:
        self._send(encode_frame(IPV4, packet, escaped=0))

    def _control(self, protocol: int, packet: bytes) -> None:
        code, identifier, length = struct.unpack_from("!BBH", packet)
        options = packet[4:length]
        if code == _REQUEST:
            self._say(protocol, _ACK, identifier, options)
            self._agree(protocol, "theirs")
        elif identifier != self._identifier:
            return
        elif code == _NAK:
            self._wanted[protocol] = options
            self._ask(protocol)
        elif code == _ACK:
            if protocol == IPCP:
                assert options[:2] == bytes((_ADDRESS, 6))
                self.address = options[2:6]
            self._agree(protocol, "ours")

    def _agree(self, protocol: int, whose: str) -> None:
        self._agreed.add((protocol, whose))
        if protocol == LCP and {(LCP, "ours"), (LCP, "theirs")} <= self._agreed:
            self._wanted[IPCP] = bytes((_ADDRESS, 6)) + self.address
            self._ask(IPCP)

    def _ask(self, protocol: int) -> None:
        self._identifier += 1
        self._say(protocol, _REQUEST, self._identifier, self._wanted[protocol])

    def _say(self, protocol: int, code: int, identifier: int, options: bytes) -> None:
        packet = struct.pack("!BBH", code, identifier, 4 + len(options)) + options
        self._send(encode_frame(protocol, packet))


class DialledLine:
    """A client on a UART's socket, which waits for what it needs."""

    def __init__(self, line: socket.socket, client: PppClientModel | None = None) -> None:
        self.line = line
        self.client = client or PppClientModel(line.sendall)

    def dial(self) -> None:
        self.client.connect()
        self._until(lambda: self.client.is_up)

    def packet(self) -> bytes:
        self._until(lambda: bool(self.client.packets))
        return self.client.packets.popleft()

    def get(self, host: str, port: int) -> bytes:
        """Return the content of an HTTP server's answer."""
        request = f"GET / HTTP/1.0\r\nHost: {host}\r\n\r\n"
        head, _, content = self.fetch(host, port, request.encode()).partition(b"\r\n\r\n")
        assert b" 200 " in head.splitlines()[0]
        return content

    def fetch(self, host: str, port: int, request: bytes) -> bytes:
        """Send a request over a connection of its own; return all that comes until it ends."""
        ends = socket.inet_aton(host), next(_ports), port
        self._send_segment(ends, 1, 0, _SYN)
        flags, sequence, _ = self._segment(ends)
        assert flags == _SYN | _TCP_ACK, "refused"
        mine, theirs = 2, sequence + 1
        self._send_segment(ends, mine, theirs, _TCP_ACK | _PSH, request)
        mine += len(request)
        answer = b""
        while not flags & _FIN:
            flags, sequence, data = self._segment(ends)
            assert sequence == theirs, "a segment is missing"
            answer += data
            theirs += len(data) + bool(flags & _FIN)
            if data or flags & _FIN:
                self._send_segment(ends, mine, theirs, _TCP_ACK | flags & _FIN)
        return answer

    def _until(self, done: Callable[[], bool]) -> None:
        give_up = time.monotonic() + DEADLINE_S
        while not done():
            self.line.settimeout(max(0.001, give_up - time.monotonic()))
            octets = self.line.recv(4096)
            assert octets, "the line was hung up"
            self.client.receive(octets)

    def _send_segment(
        self, ends: tuple[bytes, int, int], sequence: int, ack: int, flags: int, data: bytes = b""
    ) -> None:
        host, source, port = ends
        fields = (source, port, sequence, ack, 5 << 4, flags, _WINDOW)
        tcp = struct.pack("!HHIIBBH", *fields) + bytes(4) + data
        addresses = self.client.address + host
        total = _checksum(addresses + struct.pack("!BBH", 0, _TCP, len(tcp)) + tcp)
        tcp = tcp[:16] + struct.pack("!H", total) + tcp[18:]
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 1, 0, 64, _TCP, 0) + addresses
        head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
        self.client.send_packet(head + tcp)

    def _segment(self, ends: tuple[bytes, int, int]) -> tuple[int, int, bytes]:
        """Return flags, sequence number and data of the next segment of a connection."""
        host, source, port = ends
        while True:
            packet = self.packet()
            head, length = 4 * (packet[0] & 0x0F), int.from_bytes(packet[2:4], "big")
            tcp = packet[head:length]
            if (packet[9], packet[12:16]) != (_TCP, host):
                continue
            if struct.unpack_from("!HH", tcp) == (port, source):
                return tcp[13], int.from_bytes(tcp[4:8], "big"), tcp[4 * (tcp[12] >> 4) :]


def _checksum(octets: bytes) -> int:
    octets += bytes(len(octets) % 2)
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF
