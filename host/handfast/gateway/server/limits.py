"""The bounds that a listener puts on what its peers may send, and on how long they may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, sizes in bytes. Every deadline is total: a slow peer cannot renew it."""

    handshake_s: float = 10.0
    header_s: float = 10.0
    body_s: float = 30.0
    write_s: float = 30.0
    keep_alive_s: float = 75.0
    max_target_bytes: int = 2048
    max_header_bytes: int = 16_384
    max_headers: int = 64
    max_body_bytes: int = 65_536
    max_connections: int = 4096
    max_connections_per_address: int = 256
