# Handfast mTLS for MicroPython: a client for one NTP question (RFC 5905), a hint and no more
# MIT license; Copyright (c) 2026 the Handfast authors

import os
import socket
import time

from micropython import const

from .errors import ProtocolError, Unreachable
from .utc import BUILD_TIME

_PACKET_SIZE = const(48)
_CLIENT = const(0x23)  # version 4, mode 3
_SINCE_1900_S = const(2208988800)


def request(nonce):
    """The question. The transmit timestamp is 8 random octets that the answer must echo."""
    return bytes([_CLIENT]) + bytes(39) + nonce


def parse(answer, nonce):
    """Unix seconds of an answer to request(nonce); raises ProtocolError if it is none."""
    if len(answer) < _PACKET_SIZE or answer[24:32] != nonce:
        raise ProtocolError("not an answer to this NTP question")
    if answer[0] & 7 != 4 or answer[0] >> 3 & 7 not in (3, 4):
        raise ProtocolError("not an NTP server's answer")
    if answer[0] >> 6 == 3 or not 1 <= answer[1] <= 15:
        raise ProtocolError("the NTP server is not synchronised")
    seconds = int.from_bytes(answer[40:44], "big")
    if not seconds:
        raise ProtocolError("the NTP server gives no time")
    unix = seconds - _SINCE_1900_S
    # The 32 bits wrap in 2036; nothing before this library is meant.
    return unix if unix >= BUILD_TIME else unix + (1 << 32)


def query(host, port=123, timeout_ms=3000):
    """Ask host once: Unix seconds. Raises Unreachable or ProtocolError.

    Anything that does not echo our random timestamp is passed over, until the time is up.
    """
    nonce = os.urandom(8)
    sock = None
    try:
        info = socket.getaddrinfo(host, port, 0, socket.SOCK_DGRAM)[0]
        sock = socket.socket(info[0], socket.SOCK_DGRAM)
        sock.connect(info[-1])
        sock.send(request(nonce))
        start = time.ticks_ms()
        while True:
            left_ms = timeout_ms - time.ticks_diff(time.ticks_ms(), start)
            if left_ms <= 0:
                raise Unreachable("no answer from the NTP server", host)
            sock.settimeout(left_ms / 1000)
            answer = sock.recv(128)
            if answer[24:32] == nonce:
                return parse(answer, nonce)
    except (OSError, IndexError) as error:
        raise Unreachable("no answer from the NTP server", host, *error.args)
    finally:
        if sock:
            sock.close()
