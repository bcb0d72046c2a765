"""Who is at the other end of a connection."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509


@dataclass(slots=True, eq=False)
class ConnectionInfo:
    """One connection's peer; the application finds it in its scope and may set ``device_id``.

    Attributes:
        listener: name of the listener that accepted it.
        address: ``host:port``, or ``unix`` for a Unix socket; for logs.
        client_certificate: the leaf whose key the peer proved to hold.
        client_certificate_sha256: of its DER form.
        resumed: that proof was given in an earlier connection, whose session this one has.
        device_id: set by the application, so that it can find the connection to close it.
        unix_credentials: ``(pid, uid, gid)`` of whoever connected, on a Unix socket.
    """

    listener: str
    address: str
    client_certificate: x509.Certificate | None = None
    client_certificate_sha256: bytes | None = None
    resumed: bool = False
    device_id: str | None = None
    unix_credentials: tuple[int, int, int] | None = None
