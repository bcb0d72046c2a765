"""The far end of a board's PPP link, without input or output: what to answer to what arrives.

LCP (RFC 1661) and IPCP (RFC 1332, RFC 1877) as an access server speaks them: no authentication, the
board is told its address. The board may be reset at any moment and begin anew; frames that we
sent may be lost in that, so what is not answered is sent again by :meth:`PppPeer.tick`.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from handfast.boards.ppp_frames import ESCAPE_ALL, FrameReader, encode_frame

IPV4: Final = 0x0021
LCP: Final = 0xC021
IPCP: Final = 0x8021

_REQUEST, _ACK, _NAK, _REJECT, _TERMINATE, _TERMINATE_ACK = range(1, 7)
_PROTOCOL_REJECT, _ECHO, _ECHO_REPLY = 8, 9, 10

_HEADER = struct.Struct("!BBH")
_LCP_OPTIONS = frozenset({1, 2, 5, 7, 8})  # MRU, ACCM, magic number, the two compressions
_ACCM = 2
_IP_ADDRESS, _PRIMARY_DNS = 3, 129
_REJECTED_BYTES = 64  # of a frame of a protocol that we do not speak
_FIRST_PATIENCE = 3  # ticks; RFC 1661, 4.6, "Restart Timer"
_LONGEST_PATIENCE = 24

Send = Callable[[bytes], None]


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a link: ours, the board's, and the name server it is told."""

    local: str = "10.0.2.2"
    board: str = "10.0.2.15"
    dns: str = "10.0.2.3"


@dataclass(slots=True)
class _Layer:
    """How far one control protocol has come; ``request`` is our own, its options as sent."""

    request: bytes
    identifier: int = 0
    asked: bool = False  # we have sent our request
    ours_agreed: bool = False
    theirs_agreed: bool = False

    @property
    def opened(self) -> bool:
        return self.ours_agreed and self.theirs_agreed

    def forget(self) -> None:
        self.asked = self.ours_agreed = self.theirs_agreed = False


@dataclass(slots=True)
class PppPeer:
    """One end of a link; ``send`` gets what goes onto the line, ``deliver`` each IP packet.

    ``bring_ups`` counts how often the link came up, from nothing or anew.
    """

    send: Send
    deliver: Send
    addresses: Addresses = field(default_factory=Addresses)
    bring_ups: int = 0
    _reader: FrameReader = field(default_factory=FrameReader)
    _layers: Mapping[int, _Layer] = field(init=False)
    _escaped: int = ESCAPE_ALL
    _quiet: int = 0  # ticks since something was heard or repeated
    _patience: int = _FIRST_PATIENCE

    def __post_init__(self) -> None:
        local = ipaddress.IPv4Address(self.addresses.local).packed
        self._layers = {
            LCP: _Layer(_option(_ACCM, bytes(4))),
            IPCP: _Layer(_option(_IP_ADDRESS, local)),
        }

    @property
    def is_up(self) -> bool:
        """Whether IP packets may go through."""
        return self._layers[LCP].opened and self._layers[IPCP].opened

    @property
    def damaged(self) -> int:
        """How many frames came with a wrong check sequence, or cut short."""
        return self._reader.damaged

    def receive(self, octets: bytes) -> None:
        """Take octets from the line."""
        for protocol, payload in self._reader.feed(octets):
            self._quiet, self._patience = 0, _FIRST_PATIENCE
            if protocol == IPV4:
                if self.is_up:
                    self.deliver(payload)
            elif protocol in self._layers:
                self._control(protocol, payload)
            elif self._layers[LCP].opened:
                told = struct.pack("!H", protocol) + payload[:_REJECTED_BYTES]
                self._tell(LCP, _PROTOCOL_REJECT, self._next(LCP), told)

    def send_packet(self, packet: bytes) -> None:
        """Send an IP packet to the board; while the link is down it is lost."""
        if self.is_up:
            self.send(encode_frame(IPV4, packet, escaped=self._escaped))

    def tick(self) -> None:
        """Send again what has not been answered; to be called about once a second.

        Ever more seldom: to a slow board, a request that comes when the link is up already means
        to begin anew. A board that listens but has nothing new to say is woken by an echo request,
        too: on an RP2040 what has arrived is looked at when more arrives.
        """
        self._quiet += 1
        if self.is_up or self._quiet < self._patience:
            return
        self._quiet, self._patience = 0, min(2 * self._patience, _LONGEST_PATIENCE)
        for protocol, layer in self._layers.items():
            if layer.asked and not layer.ours_agreed:
                self._tell(protocol, _REQUEST, layer.identifier, layer.request)
                return
        if self._layers[LCP].opened:
            self._tell(LCP, _ECHO, self._next(LCP), bytes(4))

    # Control protocols

    def _control(self, protocol: int, packet: bytes) -> None:
        if len(packet) < _HEADER.size:
            return
        code, identifier, length = _HEADER.unpack_from(packet)
        data = packet[_HEADER.size : length]
        layer = self._layers[protocol]
        if code == _REQUEST:
            self._requested(protocol, layer, identifier, data)
        elif code == _ACK:
            if layer.asked and identifier == layer.identifier and data == layer.request:
                layer.ours_agreed = True
                self._note_up(protocol)
        elif code == _TERMINATE:
            self._down(protocol)
            self._tell(protocol, _TERMINATE_ACK, identifier)
        elif code == _ECHO and protocol == LCP and layer.opened:
            self._tell(LCP, _ECHO_REPLY, identifier, bytes(4))

    def _requested(self, protocol: int, layer: _Layer, identifier: int, data: bytes) -> None:
        if protocol == IPCP and not self._layers[LCP].opened:
            return  # RFC 1661, 3.4: not before the link is established
        options = _options(data)
        if options is None:
            return
        if layer.theirs_agreed:
            self._down(protocol)  # it has begun anew
        code, answer = _judge(protocol, options, self.addresses)
        self._tell(protocol, code, identifier, answer)
        if not layer.asked:
            layer.asked = True
            layer.identifier = self._next(protocol)
            self._tell(protocol, _REQUEST, layer.identifier, layer.request)
        layer.theirs_agreed = code == _ACK
        if code == _ACK:
            if protocol == LCP:
                wanted = dict(options).get(_ACCM)
                self._escaped = ESCAPE_ALL if wanted is None else int.from_bytes(wanted, "big")
            self._note_up(protocol)

    def _note_up(self, protocol: int) -> None:
        if protocol == IPCP and self.is_up:
            self.bring_ups += 1

    def _down(self, protocol: int) -> None:
        if protocol == LCP:
            self._escaped = ESCAPE_ALL
            self._layers[IPCP].forget()
        self._layers[protocol].forget()

    def _next(self, protocol: int) -> int:
        layer = self._layers[protocol]
        layer.identifier = (layer.identifier + 1) & 0xFF
        return layer.identifier

    def _tell(self, protocol: int, code: int, identifier: int, data: bytes = b"") -> None:
        packet = _HEADER.pack(code, identifier, _HEADER.size + len(data)) + data
        # RFC 1662, 7.1: packets that negotiate are sent as if nothing had been agreed on.
        self.send(encode_frame(protocol, packet, escaped=ESCAPE_ALL))


def _option(kind: int, value: bytes) -> bytes:
    return bytes((kind, 2 + len(value))) + value


def _options(data: bytes) -> list[tuple[int, bytes]] | None:
    """Split a list of options (RFC 1661, 6); None if it is not one."""
    found = []
    while data:
        if len(data) < 2 or not 2 <= data[1] <= len(data):
            return None
        found.append((data[0], data[2 : data[1]]))
        data = data[data[1] :]
    return found


def _judge(
    protocol: int, options: list[tuple[int, bytes]], addresses: Addresses
) -> tuple[int, bytes]:
    """Return the answer to a request: what is rejected, else what should be otherwise, else all."""
    given = {
        _IP_ADDRESS: ipaddress.IPv4Address(addresses.board).packed,
        _PRIMARY_DNS: ipaddress.IPv4Address(addresses.dns).packed,
    }
    known = _LCP_OPTIONS if protocol == LCP else given.keys()
    rejected = b"".join(_option(kind, value) for kind, value in options if kind not in known)
    if rejected:
        return _REJECT, rejected
    if protocol == IPCP:
        wrong = [kind for kind, value in options if value != given[kind]]
        if wrong:
            return _NAK, b"".join(_option(kind, given[kind]) for kind in wrong)
    return _ACK, b"".join(_option(kind, value) for kind, value in options)
