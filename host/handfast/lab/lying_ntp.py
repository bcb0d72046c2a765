"""An NTP server (RFC 5905) that says whatever time it is told to say."""

from __future__ import annotations

import asyncio

from handfast.lab.server_thread import ServerThread

_PACKET_BYTES = 48
_CLIENT_MODE = 3
_SERVER = 0x24  # no leap second, version 4, mode 4
_STRATUM = 2
_SINCE_1900_S = 2_208_988_800
_ERA_S = 1 << 32


def ntp_answer(question: bytes, unix_s: int) -> bytes:
    """Return a server's answer that gives a time, in unix seconds.

    The packet holds 32 bits of seconds since 1900: a time after 7 February 2036 looks like one
    136 years before, and one before then like one 136 years later. Which is meant is for the
    client to say.
    """
    seconds = ((unix_s + _SINCE_1900_S) % _ERA_S).to_bytes(4, "big") + bytes(4)
    head = bytes([_SERVER, _STRATUM]) + bytes(14)
    # Reference, origin (what the client sent), receive and transmit time.
    return head + seconds + question[40:48] + seconds + seconds


class LyingNtpServer(ServerThread, asyncio.DatagramProtocol):
    """Answers each NTP question on 127.0.0.1 with the same time, in a ``with`` block.

    Args:
        says: unix seconds; may be changed at any time.
    """

    def __init__(self, says: int) -> None:
        super().__init__()
        self.says = says
        self._told = 0
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def port(self) -> int:
        """The UDP port."""
        if self._transport is None:
            raise RuntimeError("the server has not been started")
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    @property
    def told(self) -> int:
        """How many questions were answered."""
        return self._told

    async def _open(self) -> None:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=("127.0.0.1", 0)
        )

    async def _shut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a client's question; anything else is passed over."""
        if self._transport is None or len(data) < _PACKET_BYTES or data[0] & 7 != _CLIENT_MODE:
            return
        self._told += 1  # first: whoever has the answer may ask for the count
        self._transport.sendto(ntp_answer(data, self.says), addr)
