"""Who is at the other end of a connection."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes


@dataclass(slots=True)
class ConnectionInfo:
    """One a connection. The application may set ``device_id``; the rest is the server's.

    ``unix_credentials`` are (process id, user id, group id) as the kernel knows them (SO_PEERCRED).
    """

    listener: str
    address: str
    client_certificate: x509.Certificate | None = None
    client_certificate_sha256: bytes | None = None
    device_id: str | None = None
    unix_credentials: tuple[int, int, int] | None = None
    tls_version: int | None = None
    cipher: str | None = None

    def present(self, certificate: x509.Certificate) -> None:
        """Note the leaf that the peer proved to hold."""
        self.client_certificate = certificate
        self.client_certificate_sha256 = certificate.fingerprint(hashes.SHA256())


def peer_of(listener: str, sock: socket.socket, address: object) -> ConnectionInfo:
    """Describe the peer of a connection that was just accepted."""
    if sock.family == socket.AF_UNIX:
        packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        pid, uid, gid = struct.unpack("3i", packed)
        return ConnectionInfo(listener, "unix", unix_credentials=(pid, uid, gid))
    host = address[0] if isinstance(address, tuple) and address else ""
    return ConnectionInfo(listener, str(host))
