"""What one peer may take: time, bytes and connections."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one listener. Every deadline is a total, so a byte a second buys no time.

    Attributes:
        handshake_s: from accept to the end of the TLS handshake.
        header_s: from the first byte of a request to the end of its head.
        body_s: from the end of the head to the end of the body.
        write_s: for a full buffer of answer to leave (at most 64 KiB and one message).
        keep_alive_s: without a byte between two requests.
        linger_s: after our last byte, for the peer to read it and close.
        max_header_bytes: of request line and header fields, line ends included.
        max_target_bytes: of the request target.
        max_connections: of the listener; more wait in the kernel's backlog.
        max_connections_per_address: from one IPv4 address or one IPv6 /64; more are reset.
        max_requests_per_connection: ``None`` for no bound.
    """

    handshake_s: float = 10.0
    header_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    keep_alive_s: float = 75.0
    linger_s: float = 1.0
    max_header_bytes: int = 16_384
    max_headers: int = 64
    max_target_bytes: int = 2_048
    max_body_bytes: int = 65_536
    max_connections: int = 4_096
    max_connections_per_address: int = 256
    max_requests_per_connection: int | None = None
